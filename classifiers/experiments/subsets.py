"""How well a head does when it learns from a few of the training rows: subsets drawn, fitted and judged on validation."""

import base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.fitting.fit import fit_head, predict_candidates
from frostline.classifiers.fitting.inputs import FitOptions, LabelledRows
from frostline.classifiers.fitting.resumable import Journal, digest_of, in_parallel, journal_path
from frostline.classifiers.heads.kinds import HeadKind

Side = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Subset:
    """Training rows that a head may learn from.

    Attributes:
        size: Rows, or rows of each class.
        draw: Number of the draw, which also decides the seed of the head.
        rows: Sorted rows.
    """

    size: int
    draw: int
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Trial:
    """What every subset is put to.

    Attributes:
        kind: Kind of head.
        rows: Features and labels.
        sides: Pairs of validation rows: those that parameters are chosen on (none where all are fixed), and those that
            then judge. Each validation row judges once.
        options: Parameters that are fixed, device, and the seed from which, with the number of the draw, the seed of each
            head is derived.
    """

    kind: HeadKind
    rows: LabelledRows
    sides: tuple[Side, ...]
    options: FitOptions

    def options_of(self, subset: Subset) -> FitOptions:
        """What every fit to the subset is given."""
        return replace(self.options, seed=self.head_seed(subset))

    def head_seed(self, subset: Subset) -> int:
        """Seed of the head that learns from the subset."""
        return int(_entropy(self.options.seed, subset.draw).generate_state(1)[0])

    def digest(self, key: str) -> str:
        """Of all that a result depends on, apart from the subset; `key` identifies X."""
        document = {
            "key": key,
            "head": self.kind.name,
            "params": self.options.params,
            "shape": list(self.rows.X.shape),
            "classes": self.rows.classes,
            "seed": self.options.seed,
            "device": self.options.device,
        }
        parts = (part for side in self.sides for part in side)
        return digest_of(document, (column for part in parts for column in (part, self.rows.y[part])))


@dataclass(frozen=True)
class Judged:
    """How heads that learnt from subsets did.

    Attributes:
        correct: (subsets, validation rows) whether each head was right about each row.
        resumed: Subsets that the journal already had.
        journal: Its file, to be deleted by the caller; None where none was asked for.
    """

    correct: NDArray[np.bool_]
    resumed: int
    journal: Path | None


def _entropy(seed: int, draw: int) -> np.random.SeedSequence:
    """Return the seed sequence of a draw. It differs for every pair of seed and draw, unlike ``seed + draw``."""
    return np.random.SeedSequence(seed, spawn_key=(draw,))


def distinct_images(
    rows: NDArray[np.int64], y: NDArray[np.int64], content: NDArray[np.uint8], seed: int, draw: int
) -> dict[int, NDArray[np.int64]]:
    """By class, its rows in random order, one row for all copies of an image.

    Args:
        rows: Rows to draw from.
        y: (n,) labels of all rows.
        content: (n, 16) digests of the image bytes of all rows.
        seed: Seed of all draws.
        draw: Number of the draw, at least 0; each has an order of its own.
    """
    keys = np.ascontiguousarray(content[rows]).view("V16").ravel()
    _, first = np.unique(keys, return_index=True)
    shuffled = np.random.default_rng(_entropy(seed, draw)).permutation(rows[np.sort(first)])
    return {int(label): shuffled[y[shuffled] == label] for label in np.unique(y[shuffled])}


def judge_subsets(
    trial: Trial,
    subsets: Sequence[Subset],
    *,
    key: str = "",
    journal: Path | None = None,
    jobs: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Judged:
    """Fit a head to each subset and judge it on the validation rows; no other row is read.

    Args:
        trial: What every subset is put to.
        subsets: The subsets.
        key: What identifies X, for the journal.
        journal: File stem for finished subsets; a computation that was killed goes on from there.
        jobs: Processes; None for what joblib's `parallel_config` says.
        progress: Called with the number of subsets just finished.

    Raises:
        HeadError: The head can't be fitted.
        SplitError: Rows that can't be used.
    """
    file = journal_path(journal, trial.digest(key))
    # One name a set of rows and a seed: equal subsets are one piece of work.
    names = [digest_of({"seed": trial.head_seed(each)}, [each.rows]) for each in subsets]

    def run(todo: list[int]) -> Iterable[tuple[int, dict[str, Any]]]:
        results = in_parallel(_judge, ((trial, subsets[place]) for place in todo), jobs)
        return ((place, {"correct": _pack(each)}) for place, each in zip(todo, results, strict=True))

    with Journal(file) as log:
        found = log.complete(names, run, progress or (lambda _done: None))
    count = sum(len(judge) for _, judge in trial.sides)
    return Judged(np.stack([_unpack(each["correct"], count) for each in found]), log.resumed, file)


def _judge(trial: Trial, subset: Subset) -> NDArray[np.bool_]:
    """Whether the head was right, for the validation rows in ascending order."""
    judges = np.concatenate([judge for _, judge in trial.sides])
    right = np.concatenate(
        _right_by_side(trial, subset) if trial.kind.search == "epochs" else _right_by_candidate(trial, subset)
    )
    ordered: NDArray[np.bool_] = right[np.argsort(judges)]
    return ordered


def _right_by_side(trial: Trial, subset: Subset) -> list[NDArray[np.bool_]]:
    """Of heads that also stop on the rows that they are chosen on, so that each side needs its own."""
    rows, options = trial.rows, trial.options_of(subset)
    heads = [
        fit_head(trial.kind.name, rows.divided(subset.rows, choose), options, refit=False)
        for choose, _ in trial.sides
    ]
    return [
        np.asarray(head.predict(rows.X[judge]) == rows.y[judge])
        for head, (_, judge) in zip(heads, trial.sides, strict=True)
    ]


def _right_by_candidate(trial: Trial, subset: Subset) -> list[NDArray[np.bool_]]:
    """Of candidates that are fitted once, whichever side they are chosen on."""
    val = np.sort(np.concatenate([judge for _, judge in trial.sides]))
    rows = trial.rows.divided(subset.rows, val)
    labels = predict_candidates(trial.kind.name, rows, trial.options_of(subset))
    correct = labels == rows.y[val]
    return [_chosen(correct, np.isin(val, choose))[np.isin(val, judge)] for choose, judge in trial.sides]


def _chosen(correct: NDArray[np.bool_], choose: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The line of the candidate that is most often right where it is chosen; of equals the first."""
    best: NDArray[np.bool_] = correct[correct[:, choose].sum(axis=1).argmax()]
    return best


def _pack(correct: NDArray[np.bool_]) -> str:
    return base64.b85encode(np.packbits(correct).tobytes()).decode()


def _unpack(text: str, count: int) -> NDArray[np.bool_]:
    return np.unpackbits(np.frombuffer(base64.b85decode(text), np.uint8), count=count).astype(np.bool_)
