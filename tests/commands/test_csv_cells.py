"""Cells of CSV files: a spreadsheet executes none, and reading gives back what was written."""

import ast
import contextlib
import csv
import io
import math
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline.classifiers.fitting.fitted_head import Curve
from frostline.commands.interface.output import CsvTable, Output
from frostline.csv_cells import CsvWriter, from_cell, to_cell
from frostline.features.sources.manifests.manifest import open_manifest
from frostline.pipeline.drawing.tables import write_table
from frostline.pipeline.judging.prediction import Prediction, as_csv
from frostline.pipeline.runs.predictions import Predictions
from tests.helpers.images import write_image
from tests.helpers.paths import ROOT

FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "=cmd|'/c calc'!A1",
    "\uff1d1",
    "\uff0b1",
    "\uff0d1",
    "\uff201",
]
BEGINNINGS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
TEXTS = [*FORMULAS, *(f"'{text}" for text in FORMULAS), "''-1", "plain", "'quoted'", "", "'", "a=1", " =1"]


@pytest.mark.parametrize("text", TEXTS)
def test_no_written_text_begins_a_formula_and_each_is_read_back(text):
    assert not to_cell(text).startswith(BEGINNINGS)
    assert from_cell(to_cell(text)) == text
    assert (to_cell(text) == text) is not text.lstrip("'").startswith(BEGINNINGS)


@given(st.text("='+-@\t\na", max_size=6))
def test_the_rule_is_reversible(text):
    assert from_cell(to_cell(text)) == text
    assert not to_cell(text).startswith(BEGINNINGS)


@pytest.mark.parametrize("number", [-0.5, -1, 0, 1e-9, np.float64(-2), True])
def test_numbers_stay_numbers(number):
    file = io.StringIO()
    CsvWriter(file, ["x"]).write([number])
    assert float(file.getvalue().splitlines()[1].replace("True", "1")) == number


def cells(text):
    return [cell for line in csv.reader(io.StringIO(text, newline="")) for cell in line]


def harmless(text):
    """Return whether no cell is a formula; numbers may be negative."""

    def is_number(cell):
        try:
            return math.isfinite(float(cell))
        except ValueError:
            return False

    return not [cell for cell in cells(text) if cell.startswith(BEGINNINGS) and not is_number(cell)]


def test_predictions_of_a_run_are_read_back(tmp_path):
    texts = np.array(TEXTS)
    written = Predictions(texts, texts[::-1], texts, np.linspace(0, 1, len(texts)))
    path = tmp_path / "predictions.csv"
    path.write_bytes(written.encode())
    found = Predictions.read(path)
    assert harmless(path.read_text("utf-8"))
    assert found.ids.tolist() == TEXTS
    assert found.labels.tolist() == TEXTS[::-1]
    assert found.predicted.tolist() == TEXTS


def test_every_other_table_is_harmless(tmp_path):
    write_table([{"=head": "-1", "margin": -0.5}], tmp_path / "table.csv")
    Curve("=x", (-1.0, 2.0), {"@series": (-0.5, 0.5)}, 2.0, log_x=False).to_csv(tmp_path / "curve.csv")
    for name in ("table.csv", "curve.csv"):
        text = (tmp_path / name).read_text("utf-8")
        assert harmless(text)
        assert "-0.5" in cells(text)


def test_predictions_become_a_manifest_with_the_same_names_and_labels(tmp_path):
    for name in ("-1.png", "=2.png", "c.png"):
        write_image(tmp_path / name)
    named = [("-1.png", "-1"), ("=2.png", "'+1"), ("c.png", "'quoted'")]
    predictions = [Prediction(name, name, label, 0.5, [(label, 0.5)]) for name, label in named]
    with (tmp_path / "labels.csv").open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file):
        Output().show(None, [CsvTable(*as_csv(predictions))])
    table = open_manifest(tmp_path / "labels.csv").table
    assert [each.decode() for each in table.ids.tolist()] == [name for name, _ in named]
    assert [table.classes[label] for label in table.labels] == [label for _, label in named]


@pytest.fixture
def print_predictions(tmp_path):
    """Print predictions whose names and labels are formulas, with standard output going to a file or a pipe."""
    predictions = [
        Prediction("=a", "=a", "-1", 0.5, [("-1", 0.5), ("@b", 0.1)]),
        Prediction("+c", "+c", None, None, (), "=bad"),
    ]

    def print_to(destination):
        if destination == "file":
            with (tmp_path / "p.csv").open("w+", encoding="utf-8", newline="") as file:
                with contextlib.redirect_stdout(file):
                    Output("csv").show(None, [CsvTable(*as_csv(predictions))])
                file.seek(0)
                return file.read()
        ends = os.pipe()
        with os.fdopen(ends[0], encoding="utf-8", newline="") as reader:
            with (
                os.fdopen(ends[1], "w", encoding="utf-8", newline="") as writer,
                contextlib.redirect_stdout(writer),
            ):
                Output("csv").show(None, [CsvTable(*as_csv(predictions))])
            return reader.read()

    return print_to


def test_csv_on_standard_output_is_harmless_in_a_file(print_predictions):
    text = print_predictions("file")
    assert harmless(text)
    assert {from_cell(cell) for cell in cells(text)} >= {"=a", "-1", "@b", "+c", "=bad"}


def test_csv_on_standard_output_has_the_texts_as_they_are_in_a_pipe(print_predictions):
    assert set(cells(print_predictions("pipe"))) >= {"=a", "-1", "@b", "+c", "=bad"}


def test_no_other_module_writes_csv():
    for folder in ("frostline", "features", "classifiers", "pipeline"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            calls = [
                ast.unparse(node.func)
                for node in ast.walk(ast.parse(path.read_bytes()))
                if isinstance(node, ast.Call)
            ]
            assert not {"csv.writer", "csv.DictWriter"} & set(calls) or path.name == "csv_cells.py", path
