"""Heads on subsets of the training rows: sampling, fitting and evaluation on validation rows."""

import base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.fitting.fit import fit_head, predict_candidates
from frostline.classifiers.fitting.inputs import FitOptions, LabelledRows
from frostline.classifiers.fitting.journal import Journal, digest_of, in_parallel, journal_path
from frostline.classifiers.heads.kinds import HeadKind

Side = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Subset:
    """Subset of the training rows.

    Attributes:
        size: Number of rows, or of rows per class.
        draw: Number of the draw, which also determines the seed of the head.
        rows: Sorted row indices.
    """

    size: int
    draw: int
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Trial:
    """Head, rows and options that are common to all subsets.

    Attributes:
        kind: Kind of head.
        rows: Features and labels.
        sides: Pairs of validation rows: rows to choose parameters on (empty if all are fixed), and rows to
            evaluate on. Each validation row is evaluated once.
        options: Fixed parameters, device and seed. The seed of each head is derived from this seed and the number
            of the draw.
    """

    kind: HeadKind
    rows: LabelledRows
    sides: tuple[Side, ...]
    options: FitOptions

    def options_of(self, subset: Subset) -> FitOptions:
        """Return the fit options for the subset."""
        return replace(self.options, seed=self.head_seed(subset))

    def head_seed(self, subset: Subset) -> int:
        """Return the seed of the head that is fitted to the subset."""
        return int(_entropy(self.options.seed, subset.draw).generate_state(1)[0])

    def digest(self, key: str) -> str:
        """Return a digest of everything that a result depends on except the subset; `key` identifies X."""
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
class TrialResult:
    """Evaluation of heads that were fitted to subsets.

    Attributes:
        correct: (subsets, validation rows) bool, whether each head predicts each row correctly.
        resumed: Number of subsets that were read from the journal.
        journal: File of the journal, to be deleted by the caller; None without a journal.
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
    """Return the rows of each class in random order, with one row for all copies of an image.

    Args:
        rows: Rows to draw from.
        y: (n,) labels of all rows.
        content: (n, 16) digests of the image bytes of all rows.
        seed: Seed of all draws.
        draw: Number of the draw, at least 0. Each draw has a different order.

    Returns:
        Row indices by class index.
    """
    keys = np.ascontiguousarray(content[rows]).view("V16").ravel()
    _, first = np.unique(keys, return_index=True)
    shuffled = np.random.default_rng(_entropy(seed, draw)).permutation(rows[np.sort(first)])
    return {int(label): shuffled[y[shuffled] == label] for label in np.unique(y[shuffled])}


def evaluate_subsets(
    trial: Trial,
    subsets: Sequence[Subset],
    *,
    key: str = "",
    journal: Path | None = None,
    jobs: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> TrialResult:
    """Fit a head to each subset and evaluate it on the validation rows. No other row is read.

    Args:
        trial: Head, rows and options.
        subsets: Subsets to fit.
        key: Identifier of X, for the journal.
        journal: File stem for finished subsets, from which an interrupted computation resumes.
        jobs: Number of processes; None for the setting of joblib's `parallel_config`.
        progress: Called with the number of subsets just finished.

    Raises:
        HeadError: The head cannot be fitted.
        SplitError: The rows cannot be used.
    """
    file = journal_path(journal, trial.digest(key))
    # One name per set of rows and seed, so that equal subsets are computed once.
    names = [digest_of({"seed": trial.head_seed(each)}, [each.rows]) for each in subsets]

    def run(todo: list[int]) -> Iterable[tuple[int, dict[str, Any]]]:
        results = in_parallel(_evaluate, ((trial, subsets[index]) for index in todo), jobs)
        return ((index, {"correct": _pack(each)}) for index, each in zip(todo, results, strict=True))

    with Journal(file) as log:
        found = log.complete(names, run, progress or (lambda _done: None))
    count = sum(len(evaluation_rows) for _, evaluation_rows in trial.sides)
    return TrialResult(np.stack([_unpack(each["correct"], count) for each in found]), log.resumed, file)


def _evaluate(trial: Trial, subset: Subset) -> NDArray[np.bool_]:
    """Return whether the head is correct, for the validation rows in ascending order."""
    evaluated = np.concatenate([evaluation_rows for _, evaluation_rows in trial.sides])
    right = np.concatenate(
        _right_by_side(trial, subset) if trial.kind.search == "epochs" else _right_by_candidate(trial, subset)
    )
    ordered: NDArray[np.bool_] = right[np.argsort(evaluated)]
    return ordered


def _right_by_side(trial: Trial, subset: Subset) -> list[NDArray[np.bool_]]:
    """Evaluate one head per side, for heads that stop early on the rows that they are chosen on."""
    rows, options = trial.rows, trial.options_of(subset)
    heads = [
        fit_head(trial.kind.name, rows.divided(subset.rows, choose), options, refit=False)
        for choose, _ in trial.sides
    ]
    return [
        np.asarray(head.predict(rows.X[evaluation_rows]) == rows.y[evaluation_rows])
        for head, (_, evaluation_rows) in zip(heads, trial.sides, strict=True)
    ]


def _right_by_candidate(trial: Trial, subset: Subset) -> list[NDArray[np.bool_]]:
    """Evaluate candidates that are fitted once for all sides."""
    val = np.sort(np.concatenate([evaluation_rows for _, evaluation_rows in trial.sides]))
    rows = trial.rows.divided(subset.rows, val)
    labels = predict_candidates(trial.kind.name, rows, trial.options_of(subset))
    correct = labels == rows.y[val]
    return [
        _chosen(correct, np.isin(val, choose))[np.isin(val, evaluation_rows)]
        for choose, evaluation_rows in trial.sides
    ]


def _chosen(correct: NDArray[np.bool_], choose: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the row of the candidate with the highest accuracy on the rows to choose on; ties take the first."""
    best: NDArray[np.bool_] = correct[correct[:, choose].sum(axis=1).argmax()]
    return best


def _pack(correct: NDArray[np.bool_]) -> str:
    return base64.b85encode(np.packbits(correct).tobytes()).decode()


def _unpack(text: str, count: int) -> NDArray[np.bool_]:
    return np.unpackbits(np.frombuffer(base64.b85decode(text), np.uint8), count=count).astype(np.bool_)
