"""Options of the division into train, val and test."""

from dataclasses import dataclass

from frostline.options import option
from frostline.pipeline.options.stage import StageOptions

DEFAULT_FRACTIONS = (0.6, 0.2, 0.2)


@dataclass(frozen=True, kw_only=True)
class SplitOptions(StageOptions):
    """Options of the division into train, val and test."""

    fractions: tuple[float, float, float] = option(
        DEFAULT_FRACTIONS,
        "Shares of train, val and test for data without splits.",
        low=0,
        high=1,
        metavar="TRAIN VAL TEST",
    )
