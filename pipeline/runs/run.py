"""A trained run, loaded from its directory."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.fitting.fitted_head import FittedHead
from frostline.classifiers.heads.catalog import HEADS
from frostline.classifiers.saving.head_files import HEAD_RECORD
from frostline.features.backbones import Backbone
from frostline.pipeline.errors import RunError
from frostline.pipeline.inputs.labelled_images import CLASS_RULE, HASH_RULE, LabelledImages, Rule, divide_rows
from frostline.pipeline.inputs.learning_rows import Images, LearningRows
from frostline.pipeline.progress import Reporter
from frostline.pipeline.runs.backbone import load_run_backbone
from frostline.pipeline.runs.head import load_run_head
from frostline.pipeline.runs.ledger import Ledger
from frostline.pipeline.runs.record import (
    RUN_FILE,
    CacheRecord,
    RunRecord,
    TunedRun,
    TuningRecord,
    read_record,
)
from frostline.pipeline.runs.split import RunSplit, read_split
from frostline.splits import Split


@dataclass(frozen=True)
class Run:
    """A run directory.

    Attributes:
        path: Run directory.
        record: Record of the training.
    """

    path: Path
    record: RunRecord

    def _repr_html_(self) -> str:
        from frostline.pipeline.drawing.run_html import run_html

        return run_html(self)

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
        """Key of the layer that the head reads; see `frostline.pipeline.runs.record.HeadRun`."""
        return self.record.layer

    @property
    def ledger(self) -> Ledger:
        """Ledger of the evaluations on the test split."""
        return Ledger(self.path)

    def backbone(self, trained: CacheRecord, weights: str | Path | None = None) -> Backbone:
        """Load the backbone of one of the caches; see `frostline.pipeline.runs.backbone.load_run_backbone`."""
        return load_run_backbone(self.path, trained, weights, tuned=self.tuned)

    def head(self, *, trusted: Collection[str] = ()) -> FittedHead:
        """Load the trained head; see `frostline.pipeline.runs.head.load_run_head`.

        Raises:
            RunError: It is not the head that the record of the run describes.
        """
        head, recorded = load_run_head(self.path, trusted), self.record
        if head.classes != recorded.classes:
            raise RunError(
                f"{self.path / HEAD_RECORD} has other classes than {RUN_FILE}, or in another order, so it is not the head of"
                " this run; restore the folder from a copy, or train again."
            )
        if {*HEADS.builtin} & {head.name, recorded.head.kind} and head.name != recorded.head.kind:
            raise RunError(
                f"{self.path / HEAD_RECORD} describes a {head.name!r} head, and {RUN_FILE} a {recorded.head.kind!r} head, so it is"
                " not the head of this run; restore the folder from a copy, or train again."
            )
        return head

    @cached_property
    def split(self) -> RunSplit:
        """Images that the head was fitted and selected on, and those held out.

        Raises:
            RunError: The file of the split can't be read.
        """
        return read_split(self.path, self.record.split.counts, len(self.record.classes))

    def divide(self, images: LabelledImages) -> NDArray[np.uint8]:
        """Split rows by the rule of the run. Images that the run recorded keep their split where none is declared.

        Returns:
            (n,) uint8 codes of `Split`.
        """
        split = self.record.split
        return divide_rows(images, split.fractions, rule=split.rule, known=self.split.known(images))


def load_run(path: str | Path | Run) -> Run:
    """Read a run directory.

    Args:
        path: Run directory; or a run, which is returned.

    Raises:
        RunError: `path` is not a run, or its record is malformed or of a later version.
    """
    if isinstance(path, Run):
        return path
    return Run(Path(path), read_record(Path(path)))


def divide_for_training(
    images: Images, runs: Sequence[Run], fractions: tuple[float, float, float], report: Reporter
) -> LearningRows[Images]:
    """Split rows for a training that starts from earlier ones, whose images keep their split.

    Args:
        images: The images.
        runs: Runs whose heads or networks are trained further, or computed the features.
        fractions: Shares of train, val and test for data without declared splits.
        report: Receiver of warnings.

    Raises:
        SplitError: No row is labelled, or a class has no training rows.
        LeakError: The same image bytes, or one group, are in more than one split.
        RunError: The split of a run can't be read.
    """
    known = np.zeros(len(images.labels), np.uint8)
    for run in runs:
        codes = run.split.known(images)
        known = np.where((known == Split.NONE) | ((codes > 0) & (codes < known)), codes, known)
    by_class = all(run.record.split.rule == CLASS_RULE for run in runs)
    rule: Rule = CLASS_RULE if by_class else HASH_RULE
    return LearningRows.of(images, fractions, report, rule=rule, known=known)


def tuning_runs(weights: Iterable[str]) -> list[Run]:
    """Return the runs that fine-tuned backbones, given the files of their weights.

    Weights that are no file of a run, such as pretrained ones, and runs that were moved are ignored.
    """
    folders = {Path(name).parent for name in weights if name and Path(name).is_file()}
    return [load_run(folder) for folder in sorted(folders) if (folder / RUN_FILE).is_file()]
