"""Rejection of images that are like none of the classes of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.errors import HeadError
from frostline.classifiers.fitting.rejection import Rejection
from frostline.classifiers.saving.rejection_file import load_rejection
from frostline.errors import OptionError
from frostline.pipeline.errors import RunError
from frostline.pipeline.progress import Reporter
from frostline.pipeline.runs.run import Run

if TYPE_CHECKING:
    from frostline.pipeline.judging.prediction import Prediction


@dataclass(frozen=True, eq=False)
class RejectionRule:
    """Rule by which images of a run are rejected.

    Attributes:
        reference: Training images of the known classes.
        rate: Largest share of images of known classes that is rejected.
        threshold: Distance above which an image is rejected.
    """

    reference: Rejection
    rate: float
    threshold: float

    @classmethod
    def of(cls, run: Run, rate: float) -> "RejectionRule":
        """Return the rule of a run.

        Raises:
            RunError: The run records no distances.
            OptionError: The run has too few validation images for the rate.
        """
        reference = load_rejection(run.path)
        if reference is None or not len(reference.distances):
            raise RunError(f"{run.path} can't reject images: {_obstacle(run)}")
        try:
            return cls(reference, rate, reference.threshold(rate))
        except HeadError as error:
            raise OptionError(f"reject: {error}") from None

    def distances(self, features: NDArray[Any], readable: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the (n,) distances of rows from the nearest training image, NaN for rows that are not readable.

        Args:
            features: (n, d or more) features; columns after the features are not used.
            readable: (n,) mask of the rows with features.
        """
        distances = np.full(len(features), np.nan)
        if readable.any():
            distances[readable] = self.reference.measure(features[readable, : self.reference.dim])
        return distances

    def tell(self, predictions: Sequence["Prediction"], report: Reporter) -> None:
        """Report how many images were rejected."""
        readable = sum(each.error is None for each in predictions)
        rejected = sum(bool(each.rejected) for each in predictions)
        report.note(
            f"{rejected:,} of {readable:,} images are of none of the known classes: their distance is above {self.threshold:.4g}."
            f" Of images of known classes, at most {self.rate:.2%} are rejected on average, if they are like the"
            f" {len(self.reference.distances):,} validation images that set the threshold."
        )


def _obstacle(run: Run) -> str:
    if run.tuned:
        return (
            "finetune records no distances. Extract features of its network with: frostline extract DATA --backbone"
            f" run:{run.path}. Train a head on them with train-head, and use that run."
        )
    if not run.record.split.counts.val:
        return "it has no validation images to set a threshold on. Train the head again with some."
    return "an earlier version trained it, which recorded no distances. Train the head again with train-head."
