"""Learning curves as power laws: error(n) = asymptote + scale * n ** -exponent."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classifiers.errors import MetricsError

__all__ = ["PowerLaw", "fit_power_laws"]

# Errors of networks fall with exponents of 0.07 to 0.35 (Hestness et al. 2017), those of simpler models with up to 1.
_EXPONENTS = np.linspace(0.05, 1.5, 146)


@dataclass(frozen=True)
class PowerLaw:
    """Error against the number of training images.

    Attributes:
        asymptote: Error with endless data, at least 0.
        scale: Error above that with one image, at least 0.
        exponent: How fast it falls.
    """

    asymptote: float
    scale: float
    exponent: float

    def error(self, images: float) -> float:
        """Error with so many images."""
        return float(self.asymptote + self.scale * images**-self.exponent)


def fit_power_laws(
    images: NDArray[np.float64], errors: NDArray[np.float64], weights: NDArray[np.float64]
) -> list[PowerLaw]:
    """Fit a power law to each of m curves by weighted least squares (Cortes et al. 1994, Viering & Loog 2022).

    For a given exponent the best asymptote and scale, neither below 0, have a closed form; of 146 exponents from 0.05
    to 1.5 the best is taken. No start has to be guessed, and no optimum is missed.

    Args:
        images: (s,) numbers of training images, at least three different ones.
        errors: (m, s) errors.
        weights: (s,) positive, e.g. inverse variances.

    Raises:
        MetricsError: Arrays that don't fit, or fewer than three sizes.
    """
    if len(np.unique(images)) < 3 or errors.ndim != 2 or errors.shape[1:] != images.shape != weights.shape:
        raise MetricsError(
            f"got sizes {images.shape}, errors {errors.shape} and weights {weights.shape}, expected (s,), (m, s), (s,), and "
            "at least three different sizes"
        )
    share = weights / weights.sum()
    curves = (images / images.max()) ** -_EXPONENTS[:, None]  # (e, s); in units that keep the numbers small
    mean_curve, mean_error = curves @ share, errors @ share
    spread = (curves**2) @ share - mean_curve**2
    slope = ((errors * share) @ curves.T - np.outer(mean_error, mean_curve)) / spread  # (m, e)
    slope = slope.clip(0)
    floor = mean_error[:, None] - slope * mean_curve
    alone = ((errors * share) @ curves.T) / ((curves**2) @ share)  # the best scale where the asymptote is 0
    slope, floor = np.where(floor < 0, alone, slope), floor.clip(0)
    fitted = floor[:, :, None] + slope[:, :, None] * curves
    best = ((fitted - errors[:, None]) ** 2 @ share).argmin(axis=1)
    rows = np.arange(len(errors))
    scale = slope[rows, best] * images.max() ** _EXPONENTS[best]
    laws = zip(floor[rows, best].tolist(), scale.tolist(), _EXPONENTS[best].tolist(), strict=True)
    return [PowerLaw(*law) for law in laws]
