"""The evaluation of a run, ``evaluation.json``: what the latest look at the test split showed."""

import json
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from frostline.features.system.atomic import replace_file
from frostline.pipeline.errors import RunError
from frostline.pipeline.runs.directory import Document, to_plain

EVALUATION_FILE = "evaluation.json"

_REMEDY = "Run evaluate again."


class Estimate(Struct, frozen=True):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


class MetricEstimates(Struct, frozen=True, kw_only=True):
    """Scores on the test rows; see `classifiers.protocol.metrics.Metrics`."""

    top1: Estimate
    top5: Estimate
    balanced_accuracy: Estimate
    macro_f1: Estimate
    log_loss: Estimate
    rms_calibration_error: Estimate | None = None
    """None where an earlier version, which measured it otherwise, wrote the file."""


class ClassLine(Struct, frozen=True):
    """One class's line in the table."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


class ReliabilityRecord(Struct, frozen=True, kw_only=True):
    """How often the head is right when it is so sure; see `classifiers.protocol.calibration.Reliability`."""

    rms_calibration_error: Estimate
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]


class CalibrationRecord(Struct, frozen=True, kw_only=True):
    """What the head's temperature does to its probabilities."""

    temperature: float
    before: ReliabilityRecord
    after: ReliabilityRecord


class Evaluation(Struct, frozen=True, kw_only=True):
    """One look at the test split.

    Attributes:
        look: Number of the look in the run's ledger.
        cache: The cache whose test rows were looked at.
        rows: Test rows.
        metrics: Scores on them.
        per_class: One line per class.
        confusion: Rows of each true class, by predicted class.
        calibration: How sure the head is and how often right; None in the file of an earlier version.
    """

    look: int
    cache: str
    rows: Annotated[int, Meta(ge=1, le=2**53)]
    metrics: MetricEstimates
    per_class: tuple[ClassLine, ...]
    confusion: tuple[tuple[int, ...], ...]
    calibration: CalibrationRecord | None = None


def save_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write ``evaluation.json`` into a run directory; the one of an earlier look is replaced."""
    text = json.dumps(to_plain(evaluation), indent=2) + "\n"
    replace_file(folder / EVALUATION_FILE, text.encode())  # one that is there means that a run was judged


def read_evaluation(folder: Path) -> Evaluation | None:
    """Read what `save_evaluation` wrote; None where the run was not evaluated.

    Raises:
        RunError: It can't be read.
    """
    file = folder / EVALUATION_FILE
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"{file} can't be read: {error}. {_REMEDY}") from error
    return Document(file, "an evaluation", _REMEDY).read(text, Evaluation)
