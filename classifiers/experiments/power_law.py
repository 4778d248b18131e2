"""Learning curves as power laws: error(n) = asymptote + scale * n ** -exponent."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from frostline.classifiers.errors import MetricsError

# Errors of networks have exponents of 0.07 to 0.35 (Hestness et al. 2017), those of simpler models up to 1.
_EXPONENTS = np.linspace(0.05, 1.5, 146)


@dataclass(frozen=True)
class PowerLaw:
    """Power law of the error against the number of training images.

    Attributes:
        asymptote: Error in the limit of infinite data, at least 0.
        scale: Error above the asymptote with one image, at least 0.
        exponent: Rate of decay.
    """

    asymptote: float
    scale: float
    exponent: float

    def error(self, images: float) -> float:
        """Return the error with this number of training images."""
        return float(self.asymptote + self.scale * images**-self.exponent)


def fit_power_laws(
    images: NDArray[np.float64], errors: NDArray[np.float64], covariance: NDArray[np.float64]
) -> list[PowerLaw]:
    """Fit a power law to each of m curves by least squares (Cortes et al. 1994; Viering & Loog 2022).

    The covariance weights the errors. Errors that were measured on the same images share most of their deviation,
    so that their differences are more precise than their values. For a given exponent, the best non-negative
    asymptote and scale have a closed form. The exponent is the best of 146 values from 0.05 to 1.5. The fit
    therefore needs no initial guess, and cannot end in a local optimum.

    Args:
        images: (s,) numbers of training images, at least three different ones.
        errors: (m, s) errors.
        covariance: (s, s) positive definite covariance of the errors of one curve.

    Returns:
        One power law per curve.

    Raises:
        MetricsError: The shapes do not match, or there are fewer than three sizes.
    """
    sizes = len(images)
    if len(np.unique(images)) < 3 or errors.shape[1:] != (sizes,) or covariance.shape != (sizes, sizes):
        raise MetricsError(
            f"got sizes {images.shape}, errors {errors.shape} and covariance {covariance.shape}, expected (s,), (m, s) and "
            "(s, s), and at least three different sizes"
        )
    curves = (images / images.max()) ** -_EXPONENTS[
        :, None
    ]  # in units of the largest size, which keeps the numbers small
    factor = np.linalg.cholesky(covariance)
    level, shapes, seen = (
        solve_triangular(factor, each.T, lower=True) for each in (np.ones(sizes), curves, errors)
    )
    aa, ac, cc = level @ level, level @ shapes, (shapes**2).sum(axis=0)
    ea, ec = (seen.T @ level)[:, None], seen.T @ shapes
    floor = (cc * ea - ac * ec) / (aa * cc - ac**2)
    scale = (ec - floor * ac) / cc
    scale = np.where(floor < 0, ec / cc, scale).clip(0)
    floor = np.where(scale == 0, ea / aa, floor).clip(0)
    misfit = floor**2 * aa + 2 * floor * scale * ac + scale**2 * cc - 2 * (floor * ea + scale * ec)
    best, rows = misfit.argmin(axis=1), np.arange(len(errors))
    units = images.max() ** _EXPONENTS[best]
    laws = zip(floor[rows, best].tolist(), (scale[rows, best] * units).tolist(), best.tolist(), strict=True)
    return [PowerLaw(level, slope, float(_EXPONENTS[index])) for level, slope, index in laws]
