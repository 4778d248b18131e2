"""What commands print: JSON documents, lines and tables."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pytest

from frostline.commands.interface.options import format_option, output_options
from frostline.commands.interface.output import Output, Table, plain
from tests.helpers.paths import DATA, ROOT
from tests.helpers.runner import CliRunner


@dataclass(frozen=True)
class Result:
    path: Path
    score: float
    counts: np.ndarray


RESULT = Result(Path("runs/a"), float("nan"), np.array([1, 2]))


def text():
    yield "first line"
    yield Table(["name", "count"], [["a", "1"], ["bcd", "20"]], title="a title")


def shown(output):
    @click.command()
    def command():
        output.show(RESULT, text())

    return CliRunner().invoke(command, catch_exceptions=False).stdout


def test_lines_and_tables_are_printed_in_order():
    lines = [line.rstrip() for line in shown(Output()).splitlines()]
    assert lines == ["first line", "a title", "name  count", "a         1", "bcd      20"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize(
    "words",
    [
        ("backbones",),
        ("compare", "linear", "--format", "csv"),
        ("--help",),
    ],
    ids=" ".join,
)
def test_output_that_cannot_be_written_is_named(words):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "frostline", *words],
            cwd=DATA / "archives" / "runs" / "v1",
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == (
        "Error: standard output: No space left on device; free some space, and run the same command again\n"
    )


def test_json_is_one_document_of_plain_values():
    assert json.loads(shown(Output("json"))) == {"path": str(RESULT.path), "score": None, "counts": [1, 2]}


@pytest.mark.parametrize("quiet", [False, True])
def test_quiet_leaves_warnings(quiet, capsys):
    report = Output(quiet=quiet).report
    report.note("as expected")
    report.warn("not as expected")
    with report.task("working", 3) as advance:
        advance(1)
    told = capsys.readouterr().err.splitlines()
    assert told == ([] if quiet else ["as expected"]) + ["Warning: not as expected"]


def test_text_is_not_rendered_for_json(capsys):
    def fail():
        raise AssertionError
        yield

    Output("json").show({1: {2}}, fail())
    assert json.loads(capsys.readouterr().out) == {"1": [2]}


def test_infinity_is_refused_in_json():
    with pytest.raises(ValueError, match="Out of range"):
        Output("json").show(plain(float("inf")), ())


@pytest.mark.parametrize(
    ("arguments", "style", "quiet"),
    [
        ([], "csv", False),
        (["--format", "json"], "json", False),
        (["--json", "--quiet"], "json", True),
        (["--json", "--format", "csv"], "json", False),
        (["--quiet"], "csv", True),
    ],
)
def test_options_make_the_output(arguments, style, quiet):
    @click.command()
    @format_option("csv", "json")
    @output_options
    def command(*, output):
        assert output == Output(style, quiet)

    CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_closed_pipe_is_not_an_error():
    cache = DATA / "archives" / "v1" / "float32.h5"
    command = [sys.executable, "-m", "frostline", "cache", "info", str(cache)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""


NAME = "猫 \U0001f431 قطة \x1b[31m\nred"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_name_of_any_characters_is_one_line_of_a_table_in_any_encoding(encoding, tmp_path):
    code = (
        "import click\n"
        "from frostline.commands.interface.group import CommandGroup\n"
        "from frostline.commands.interface.terminal import print_table\n"
        "group = CommandGroup('x')\n"
        f"group.add_command(click.Command('y', callback=lambda: print_table(['class'], [[{NAME!r}]])))\n"
        "group(['y'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr.decode()
    _heading, line = done.stdout.decode(encoding).splitlines()
    shown = NAME.replace("\x1b", r"\x1b").replace("\n", r"\n")
    assert line.rstrip() == shown.encode(encoding, "backslashreplace").decode(encoding)
