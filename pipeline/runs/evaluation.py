"""The latest evaluation of a run on the test split, ``evaluation.json``."""

import json
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from frostline.files.checksums import read_listed, read_sums
from frostline.files.documents import MAX_BYTES, Document, to_plain
from frostline.pipeline.errors import RunError
from frostline.pipeline.runs.directory import update_run
from frostline.pipeline.runs.predictions import TEST_FILE, Predictions
from frostline.system.atomic import check_place

EVALUATION_FILE = "evaluation.json"
CONFUSION, RELIABILITY, MISTAKES = EVALUATION_PICTURES = ("confusion.png", "reliability.png", "mistakes.png")
"""Pictures of an evaluation, drawn after it was written."""

EARLIER_NAMES = {"look": "evaluation_number"}
"""Fields of evaluations and ledgers that earlier versions wrote under another name."""

MAX_NUMBER = 2**53 - 1
"""Largest number of an evaluation."""

_REMEDY = "Run evaluate again."
_BYTES, _BYTES_PER_ROW = 1 << 16, 100  # about what the files of an evaluation take


class IntervalRecord(Struct, frozen=True):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


class MetricEstimates(Struct, frozen=True, kw_only=True):
    """Scores on the test rows; see `frostline.classifiers.protocol.metrics.Metrics`."""

    top1: IntervalRecord
    top5: IntervalRecord
    balanced_accuracy: IntervalRecord
    macro_f1: IntervalRecord
    log_loss: IntervalRecord
    rms_calibration_error: IntervalRecord | None = None
    """None if an earlier version wrote the file, which measured another calibration error."""

    def __post_init__(self) -> None:
        for name in ("top1", "top5", "balanced_accuracy", "macro_f1"):
            value = getattr(self, name).value
            if not 0 <= value <= 1:
                raise ValueError(f"expected {name} to be 0 to 1, it is {value}")


class ClassLine(Struct, frozen=True):
    """Scores of one class."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


class ReliabilityRecord(Struct, frozen=True, kw_only=True):
    """Accuracy and confidence per bin; see `frostline.classifiers.protocol.calibration.Reliability`."""

    rms_calibration_error: IntervalRecord
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]


class CalibrationRecord(Struct, frozen=True, kw_only=True):
    """Reliability before and after temperature scaling."""

    temperature: float
    before: ReliabilityRecord
    after: ReliabilityRecord


class Evaluation(Struct, frozen=True, kw_only=True):
    """One evaluation on the test split.

    Attributes:
        evaluation_number: Number of the evaluation in the run's ledger.
        cache: Path of the cache that holds the test rows.
        rows: Number of test rows.
        metrics: Scores on the test rows.
        per_class: Scores of each class.
        confusion: Counts by true class (outer) and predicted class (inner).
        calibration: Reliability before and after temperature scaling; None in files of an earlier version.
    """

    evaluation_number: Annotated[int, Meta(ge=1, le=MAX_NUMBER)]
    cache: str
    rows: Annotated[int, Meta(ge=1, le=2**53)]
    metrics: MetricEstimates
    per_class: tuple[ClassLine, ...]
    confusion: tuple[tuple[int, ...], ...]
    calibration: CalibrationRecord | None = None


def save_evaluation(folder: Path, evaluation: Evaluation, predictions: Predictions) -> None:
    """Write the predictions and ``evaluation.json`` into a run directory, replacing those of an earlier evaluation.

    ``evaluation.json`` says that the run was evaluated, and is there only with the predictions that it describes. The
    pictures of an earlier evaluation are deleted.
    """
    text = json.dumps(to_plain(evaluation), indent=2) + "\n"
    files = {TEST_FILE: predictions.encode(), EVALUATION_FILE: text.encode()}
    update_run(folder, files, outdated=EVALUATION_PICTURES)


def check_evaluation_place(folder: Path, *, rows: int) -> None:
    """Check that an evaluation of `rows` images can be saved, before it is recorded in the ledger.

    Raises:
        OSError: The folder can't be written, or the disk is full.
    """
    check_place(folder / EVALUATION_FILE, _BYTES + _BYTES_PER_ROW * rows)


def read_evaluation(folder: Path) -> Evaluation | None:
    """Read the evaluation of a run; return None if the run was not evaluated, or if the evaluation was interrupted.

    Raises:
        RunError: The file can't be read.
    """
    if is_unfinished(folder):
        return None
    try:
        text = read_listed(folder, EVALUATION_FILE, raises=RunError, remedy=_REMEDY, limit=MAX_BYTES)
    except FileNotFoundError:
        return None
    document = Document(folder / EVALUATION_FILE, "an evaluation", _REMEDY, RunError)
    return document.read(text, Evaluation, renamed=EARLIER_NAMES)


def find_test_predictions(folder: Path) -> Predictions | None:
    """Read the predictions of an evaluated run; None if there are none.

    Raises:
        RunError: The file can't be read, or the evaluation describes other predictions.
    """
    found, evaluation = Predictions.read(folder / TEST_FILE), read_evaluation(folder)
    if found is None or evaluation is None:
        return found
    got = (len(found), int(found.correct.sum()))
    expected = (evaluation.rows, round(evaluation.metrics.top1.value * evaluation.rows))
    if got != expected:
        raise RunError(
            f"{folder / TEST_FILE}: got {got[0]} images of which {got[1]} are predicted correctly, and {EVALUATION_FILE}"
            f" describes {expected[0]} of which {expected[1]} are. Restore the file from a copy. {_REMEDY}"
        )
    return found


def read_test_predictions(folder: Path) -> Predictions:
    """Read the predictions of an evaluated run; see `find_test_predictions`.

    Raises:
        RunError: The file can't be read, or is missing.
    """
    found = find_test_predictions(folder)
    if found is None:
        raise RunError(f"{folder / TEST_FILE} is missing. {_REMEDY}")
    return found


def wanted_pictures(predictions: Predictions) -> tuple[str, ...]:
    """Return the names of the pictures of an evaluation with these predictions."""
    return (CONFUSION, RELIABILITY) if predictions.correct.all() else EVALUATION_PICTURES


def lacks_pictures(folder: Path) -> bool:
    """Return whether an evaluated run lacks a picture, because it failed or the evaluation was interrupted before it.

    Raises:
        RunError: The list of the run's files, or the predictions, can't be read.
    """
    sums = read_sums(folder, RunError)
    missing = {
        name
        for name in EVALUATION_PICTURES
        if not (folder / name).exists() or (sums is not None and name not in sums)
    }
    return bool(missing) and not missing.isdisjoint(wanted_pictures(read_test_predictions(folder)))


def is_unfinished(folder: Path) -> bool:
    """Return whether the latest evaluation of a run was interrupted: its file is there, and the run does not list it.

    Raises:
        RunError: The list of the run's files can't be read.
    """
    sums = read_sums(folder, RunError)
    return sums is not None and EVALUATION_FILE not in sums and (folder / EVALUATION_FILE).exists()
