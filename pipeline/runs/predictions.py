"""Predictions and true labels of the images of a split, as CSV files of a run."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.fitting.fitted_head import FittedHead
from frostline.pipeline.errors import RunError
from frostline.pipeline.inputs.learning_rows import LearningRows
from frostline.system.atomic import write_text_file

VALIDATION_FILE = "validation_predictions.csv"
TEST_FILE = "test_predictions.csv"
_COLUMNS = ["id", "label", "predicted", "probability"]


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

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.int64]) -> "Predictions":
        """Return the predictions of the given rows."""
        return Predictions(self.ids[rows], self.labels[rows], self.predicted[rows], self.probability[rows])

    def write(self, path: Path) -> None:
        """Write the predictions as CSV, one line per image."""
        with write_text_file(path) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_COLUMNS)
            probabilities = (f"{value:.6f}" for value in self.probability)
            writer.writerows(zip(self.ids, self.labels, self.predicted, probabilities, strict=True))

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read a file written by `write`; return None if it does not exist or has no rows.

        Raises:
            RunError: The file is malformed.
        """
        try:
            with path.open(newline="", encoding="utf-8") as file:
                lines = list(csv.DictReader(file, strict=True))
            ids, labels, predicted = (
                np.array([line[name] for line in lines], np.str_) for name in _COLUMNS[:3]
            )
            probability = np.array([line[_COLUMNS[3]] for line in lines], np.float64)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, csv.Error) as error:
            raise RunError(f"{path} can't be read: {error}") from error
        except KeyError as error:
            raise RunError(f"{path} has no column {error}, expected {', '.join(_COLUMNS)}") from None
        return cls(ids, labels, predicted, probability) if lines else None


def save_validation(folder: Path, rows: LearningRows[Any], head: FittedHead) -> None:
    """Write the predictions of a head for the validation rows it was selected on, if there are any."""
    found = head.validation_predictions
    if not found or not len(rows.val):
        return
    images, val = rows.images, rows.val
    predictions = Predictions.of(
        images.ids[val], images.labels[val], found.predicted, found.probability, images.classes
    )
    predictions.write(folder / VALIDATION_FILE)
