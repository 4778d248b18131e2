"""A trained run, loaded from its directory."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.fitting.fitted_head import FittedHead
from frostline.features.backbones import Backbone
from frostline.pipeline.runs.backbone import load_run_backbone
from frostline.pipeline.runs.head import load_run_head
from frostline.pipeline.runs.ledger import Ledger
from frostline.pipeline.runs.record import CacheRecord, RunRecord, TunedRun, TuningRecord, read_record
from frostline.pipeline.runs.split import read_content


@dataclass(frozen=True)
class Run:
    """A run directory.

    Attributes:
        path: Run directory.
        record: Record of the training.
    """

    path: Path
    record: RunRecord

    @cached_property
    def caches(self) -> tuple[CacheRecord, ...]:
        """Caches that the head was trained on, in the order in which their features are concatenated.

        A fine-tuned run has one cache, within the run, for the features of its own backbone; it may not exist yet.
        """
        return tuple(
            msgspec.structs.replace(cache, path=str(self.path / cache.path)) for cache in self.record.caches
        )

    @property
    def tuning(self) -> TuningRecord | None:
        """Record of the fine-tuning; None for a head on cached features."""
        return self.record.finetune if isinstance(self.record, TunedRun) else None

    @property
    def tuned(self) -> bool:
        """Whether the run holds its own fine-tuned backbone."""
        return self.tuning is not None

    @property
    def layer(self) -> str:
        """Key of the layer that the head reads; see `pipeline.runs.record.HeadRun`."""
        return self.record.layer

    @property
    def ledger(self) -> Ledger:
        """Ledger of the evaluations on the test split."""
        return Ledger(self.path)

    def backbone(self, trained: CacheRecord, weights: str | Path | None = None) -> Backbone:
        """Load the backbone of one of the caches; see `pipeline.runs.backbone.load_run_backbone`."""
        return load_run_backbone(self.path, trained, weights, tuned=self.tuned)

    def head(self, *, trusted: Collection[str] = ()) -> FittedHead:
        """Load the trained head; see `pipeline.runs.head.load_run_head`."""
        return load_run_head(self.path, trusted)

    def trained_content(self) -> NDArray[np.void]:
        """Return the (n,) void digests of 16 bytes of the images that the head was fitted or selected on."""
        return read_content(self.path)


def load_run(path: str | Path) -> Run:
    """Read a run directory.

    Args:
        path: Run directory.

    Raises:
        RunError: `path` is not a run, or its record is malformed or of a later version.
    """
    path = Path(path)
    return Run(path, read_record(path))
