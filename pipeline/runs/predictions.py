"""Predictions and true labels of the images of a split, as CSV files of a run."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.fitting.fitted_head import FittedHead
from frostline.csv_cells import CsvWriter
from frostline.files.tables import read_table
from frostline.pipeline.errors import RunError
from frostline.pipeline.inputs.learning_rows import LearningRows
from frostline.system.atomic import replace_file

VALIDATION_FILE = "validation_predictions.csv"
TEST_FILE = "test_predictions.csv"

_COLUMNS = ["id", "label", "predicted", "probability"]
_MAX_BYTES = 1 << 31
_REMEDY = "Restore the file from a copy, or train and evaluate again."


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions for labelled images.

    Attributes:
        ids: (n,) str names of the images.
        labels: (n,) str true classes.
        predicted: (n,) str most probable classes.
        probability: (n,) float64 probabilities of the predicted classes.
    """

    ids: NDArray[np.str_]
    labels: NDArray[np.str_]
    predicted: NDArray[np.str_]
    probability: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        ids: NDArray[np.str_],
        labels: NDArray[np.int64],
        predicted: NDArray[np.int64],
        probability: NDArray[np.float64],
        classes: Sequence[str],
    ) -> Self:
        """Create predictions from (n,) indices into `classes`."""
        names = np.array(classes)
        return cls(ids, names[labels], names[predicted], probability)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(n,) bool mask of the correct predictions."""
        right: NDArray[np.bool_] = self.predicted == self.labels
        return right

    @property
    def mistakes(self) -> NDArray[np.intp]:
        """Rows of the wrong predictions, the most confident first."""
        wrong = np.flatnonzero(~self.correct)
        return wrong[np.argsort(-self.probability[wrong], kind="stable")]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.int64]) -> "Predictions":
        """Return the predictions of the given rows."""
        return Predictions(self.ids[rows], self.labels[rows], self.predicted[rows], self.probability[rows])

    def encode(self) -> bytes:
        """Return the predictions as CSV, one line per image."""
        file = io.StringIO(newline="")
        probabilities = (f"{value:.6f}" for value in self.probability)
        rows = zip(self.ids, self.labels, self.predicted, probabilities, strict=True)
        CsvWriter(file, _COLUMNS).write_all(rows)
        return file.getvalue().encode()

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read a file of a run with the bytes of `encode`; return None if it does not exist or has no rows.

        Raises:
            RunError: The file is malformed, or was changed since the run was written.
        """
        try:
            columns = read_table(path.parent, path.name, raises=RunError, remedy=_REMEDY, limit=_MAX_BYTES)
        except FileNotFoundError:
            return None
        try:
            ids, labels, predicted = (np.array(columns[name], np.str_) for name in _COLUMNS[:3])
            probability = np.array(columns[_COLUMNS[3]], np.float64)
        except KeyError as error:
            raise RunError(
                f"{path} has no column {error}, expected {', '.join(_COLUMNS)}. {_REMEDY}"
            ) from None
        except ValueError as error:
            raise RunError(f"{path} can't be read: {error}. {_REMEDY}") from error
        outside = np.flatnonzero(~((probability >= 0) & (probability <= 1)))  # also NaN
        if len(outside):
            where = f"{path}, image {ids[outside[0]]}"
            raise RunError(f"{where}: got probability {probability[outside[0]]}, expected 0 to 1. {_REMEDY}")
        return cls(ids, labels, predicted, probability) if len(ids) else None


def save_validation(folder: Path, rows: LearningRows[Any], head: FittedHead) -> None:
    """Write the predictions of a head for the validation rows it was selected on, if there are any."""
    found = head.validation_predictions
    if not found or not len(rows.val):
        return
    images, val = rows.images, rows.val
    predictions = Predictions.of(
        images.ids[val], images.labels[val], found.predicted, found.probability, images.classes
    )
    replace_file(folder / VALIDATION_FILE, predictions.encode())
