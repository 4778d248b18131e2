"""The option of stages that may import code by its name."""

from collections.abc import Sequence
from dataclasses import dataclass

from frostline.options import option
from frostline.pipeline.options.stage import StageOptions


@dataclass(frozen=True, kw_only=True)
class TrustOptions(StageOptions):
    """Option of stages that import the head module:Class, or load the file of such a head."""

    trusted: Sequence[str] = option(
        (),
        "Module or type whose code may run: of a head module:Class, or in the file of a third-party head. Repeat to trust"
        " several.",
        flag="trust-module",
        earlier_flag="trust",
        metavar="MODULE",
        setting=False,
    )
