"""The compare stage: accuracy and costs of runs, with significance tests of the differences."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from frostline.classifiers.protocol.significance import holm, mcnemar
from frostline.features.spec import MIN_COSINE
from frostline.pipeline.errors import RunError
from frostline.pipeline.options.stage import stage
from frostline.pipeline.options.studies import CompareOptions, On, Sort
from frostline.pipeline.progress import Reporter
from frostline.pipeline.runs.directory import is_of_sample_sizes
from frostline.pipeline.runs.predictions import Predictions
from frostline.pipeline.runs.record import RUN_FILE
from frostline.pipeline.runs.summary import Accuracy, Split, Summary, summarise
from frostline.system.files import resolved


@dataclass(frozen=True)
class Place:
    """A run in the leaderboard.

    Attributes:
        summary: Summary of the run.
        accuracy: Accuracy on the compared split; None if the run was not scored on it.
        pvalue: p-value of McNemar's mid-p test against the best run on the same rows, adjusted for the number of
            runs (Holm); None for the best run, and for runs that were scored on other rows.
        is_best: Whether the run is the most accurate.
        on_time_front: Whether the run is on the Pareto front of accuracy and total time.
        on_size_front: Whether the run is on the Pareto front of accuracy and number of parameters.
    """

    summary: Summary
    accuracy: Accuracy | None
    pvalue: float | None
    is_best: bool
    on_time_front: bool
    on_size_front: bool


@dataclass(frozen=True)
class Leaderboard:
    """Comparison of runs.

    Attributes:
        split: Split that the runs are compared on.
        places: The runs, sorted.
        notes: Remarks on the comparison, one sentence each.
    """

    split: Split
    places: tuple[Place, ...]
    notes: tuple[str, ...]

    @property
    def best(self) -> Place:
        """The most accurate run."""
        return next(place for place in self.places if place.is_best)

    def records(self) -> list[dict[str, Any]]:
        """Return one flat record per run, with unformatted numbers."""
        return [{key: column.value(place) for key, column in COLUMNS.items()} for place in self.places]


@dataclass(frozen=True)
class Column:
    """One column of the leaderboard.

    Attributes:
        title: Heading.
        value: Function that returns the value of a run: text, a number, or None if unknown.
        text: Function that formats a value.
    """

    title: str
    value: Callable[[Place], Any]
    text: Callable[[Any], str] = str


def _bound(split: Split, name: str) -> Callable[[Place], float | None]:
    def value(place: Place) -> float | None:
        accuracy = place.summary.accuracy(split)
        return getattr(accuracy, name) if accuracy else None

    return value


def _cost(name: str) -> Callable[[Place], Any]:
    return lambda place: getattr(place.summary.cost, name)


def _fronts(place: Place) -> str:
    return ", ".join(["time"] * place.on_time_front + ["parameters"] * place.on_size_front)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


COLUMNS: Mapping[str, Column] = MappingProxyType(
    {
        "run": Column("run", lambda place: place.summary.name),
        "path": Column("path", lambda place: str(place.summary.run.path)),
        "backbone": Column("backbone", lambda place: " + ".join(place.summary.backbones)),
        "layer": Column("layer", lambda place: place.summary.layer),
        "head": Column("head", lambda place: place.summary.head),
        "validation": Column("validation", _bound("validation", "value"), lambda value: f"{value:.2%}"),
        "validation_low": Column("low", _bound("validation", "low"), lambda value: f"{value:.2%}"),
        "validation_high": Column("high", _bound("validation", "high"), lambda value: f"{value:.2%}"),
        "test": Column("test", _bound("test", "value"), lambda value: f"{value:.2%}"),
        "test_low": Column("low", _bound("test", "low"), lambda value: f"{value:.2%}"),
        "test_high": Column("high", _bound("test", "high"), lambda value: f"{value:.2%}"),
        "pvalue": Column("p", lambda place: place.pvalue, lambda value: f"{value:.2g}"),
        "front": Column("front", _fronts),
        "parameters": Column("parameters", _cost("parameters"), lambda value: f"{value / 1e6:.2f} M"),
        "gflops": Column("GFLOPs", _cost("gflops"), lambda value: f"{value:.2f}"),
        "width": Column("width", _cost("width")),
        "extraction_seconds": Column("extract s", _cost("extraction_seconds"), _number),
        "images_per_second": Column("images/s", _cost("images_per_second"), _number),
        "joules": Column("J/image", _cost("joules"), _number),
        "training_seconds": Column("train s", _cost("training_seconds"), _number),
        "total_seconds": Column("total s", _cost("total_seconds"), _number),
        "cache_bytes": Column("cache", _cost("cache_bytes"), lambda value: f"{value / 1e6:.1f} MB"),
        "machine": Column("machine", _cost("machine")),
    }
)
"""Columns of the leaderboard, by key."""

SORTS: Mapping[Sort, tuple[str, bool]] = MappingProxyType(
    {
        "accuracy": ("", True),
        "validation": ("validation", True),
        "test": ("test", True),
        "name": ("run", False),
        "parameters": ("parameters", False),
        "gflops": ("gflops", False),
        "width": ("width", False),
        "extraction": ("extraction_seconds", False),
        "rate": ("images_per_second", True),
        "training": ("training_seconds", False),
        "total": ("total_seconds", False),
        "cache": ("cache_bytes", False),
    }
)
"""Sort orders: key of a column (empty for the compared accuracy), and whether the largest value comes first."""


@stage(CompareOptions)
def compare(runs: Sequence[str | Path], options: CompareOptions) -> Leaderboard:
    """Compare runs by accuracy, size and time. Only the run directories are read; nothing is evaluated.

    A run with a damaged file is left out with a warning, if there are others.

    Args:
        runs: Run directories. Folders of few-shot and learning-curve among them are ignored.
        options: Options of the stage.

    Raises:
        RunError: No run is named or can be read, a folder is not a run, or a run was not scored on the requested split.
    """
    if isinstance(runs, str | Path):
        runs = [runs]
    runs = [path for path in runs if not is_of_sample_sizes(path)]
    if not runs:
        raise RunError("no runs to compare; name one or more run directories.")
    summaries, damaged = _summaries(runs, options.report)
    names = [resolved(summary.run.path) for summary in summaries]
    if len(set(names)) < len(names):
        raise RunError("a run is named twice.")
    split: Split = _choose_split(summaries, options.on)
    best = _best(summaries, split)
    notes = _notes(summaries, split)
    if damaged:
        notes.append(f"Left out, because a file of the run is damaged: {', '.join(damaged)}.")
    pvalues = _pvalues(summaries, best, split, notes)
    scores = [_value(summary, split) for summary in summaries]
    time_front = _front(scores, [summary.cost.total_seconds for summary in summaries])
    size_front = _front(scores, [summary.cost.parameters for summary in summaries])
    places = [
        Place(summary, summary.accuracy(split), pvalue, summary is best, fast, small)
        for summary, pvalue, fast, small in zip(summaries, pvalues, time_front, size_front, strict=True)
    ]
    return Leaderboard(split, tuple(_sorted(places, split, options.sort)), tuple(notes))


def _summaries(runs: Sequence[str | Path], report: Reporter) -> tuple[list[Summary], list[str]]:
    """Return the summaries of the runs that can be read, and the paths of those with a damaged file."""
    summaries, damaged = list[Summary](), list[str]()
    with report.task("Reading runs", len(runs)) as advance:
        for path in runs:
            try:
                summary = summarise(path)
                summary.read_predictions()
                summaries.append(summary)
            except RunError as error:
                if not (Path(path) / RUN_FILE).exists() or len(damaged) == len(runs) - 1:
                    raise
                report.warn(f"{error} The run is left out.")
                damaged.append(str(path))
            advance(1)
    return summaries, damaged


def _choose_split(summaries: Sequence[Summary], on: On) -> Split:
    unlooked = [summary.name for summary in summaries if summary.test is None]
    if on == "test" and unlooked:
        raise RunError(
            f"{len(unlooked)} of {len(summaries)} runs have not been evaluated on test: {', '.join(unlooked[:3])}"
            f"{' ...' if len(unlooked) > 3 else ''}. Evaluate them with: frostline evaluate RUN"
        )
    return "test" if on == "test" or (on == "auto" and not unlooked) else "validation"


def _value(summary: Summary, split: Split) -> float | None:
    accuracy = summary.accuracy(split)
    return accuracy.value if accuracy else None


def _best(summaries: Sequence[Summary], split: Split) -> Summary:
    """Return the most accurate run; the fastest of equally accurate ones."""

    def order(summary: Summary) -> tuple[float, float]:
        value, seconds = _value(summary, split), summary.cost.total_seconds
        return (-math.inf if value is None else value, -math.inf if seconds is None else -seconds)

    return max(summaries, key=order)


def _notes(summaries: Sequence[Summary], split: Split) -> list[str]:
    looked = sum(summary.test is not None for summary in summaries)
    rows = "test rows; a run chosen by them should be evaluated on new ones"
    if split == "validation":
        rows = "validation rows, on which hyper-parameters were chosen as well"
        if looked:
            rows += f"; {looked} of {len(summaries)} runs were evaluated on test"
    notes = [f"Compared on {rows}."]
    machines = {summary.cost.machine for summary in summaries} - {None}
    if len(machines) > 1:
        notes.append(f"Extraction was timed on different machines: {'; '.join(sorted(map(str, machines)))}.")
    if len({summary.classes for summary in summaries}) > 1:
        notes.append("The runs have different classes: their accuracies can't be compared.")
    interrupted = [summary.name for summary in summaries if summary.interrupted]
    if interrupted:
        notes.append(
            f"The evaluation of {', '.join(interrupted)} on test was interrupted, and its result is unknown. Run evaluate"
            " again."
        )
    return notes + _computations(summaries)


def _computations(summaries: Sequence[Summary]) -> list[str]:
    """Return remarks on features that were computed in different ways."""
    failures: dict[str, str | None] = {}
    for provenance, layers in (each for summary in summaries for each in summary.provenances):
        if not provenance.spec.is_imported:  # of which the backbone says it
            failures[provenance.name] = failures.get(provenance.name) or provenance.failure(layers)
    if len(failures) < 2:
        return []
    ways = f"Features were computed in different ways: {'; '.join(sorted(failures))}."
    found = sorted(failure for failure in failures.values() if failure)
    if found:
        return [f"{ways} No check shows that they agree: {'; '.join(found)}."]
    return [f"{ways} Each has a cosine similarity of at least {MIN_COSINE} to eager fp32."]


def _pvalues(
    summaries: Sequence[Summary], best: Summary, split: Split, notes: list[str]
) -> list[float | None]:
    reference = best.predictions(split)
    raw = {
        index: _mcnemar(reference, summary.predictions(split))
        for index, summary in enumerate(summaries)
        if summary is not best
    }
    elsewhere = [summaries[index].name for index, pvalue in raw.items() if pvalue is None]
    if elsewhere:
        notes.append(
            f"No significance test for {', '.join(elsewhere)}: not scored on the rows of {best.name}, or the"
            " predictions were not recorded."
        )
    known = {index: pvalue for index, pvalue in raw.items() if pvalue is not None}
    found = dict(zip(known, holm(list(known.values())).tolist(), strict=True))
    return [found.get(index) for index in range(len(summaries))]


def _mcnemar(best: Predictions | None, other: Predictions | None) -> float | None:
    if best is None or other is None or len(best) != len(other):
        return None
    order, others = np.argsort(best.ids), np.argsort(other.ids)
    same = (best.ids[order] == other.ids[others]) & (best.labels[order] == other.labels[others])
    if not same.all():
        return None
    return mcnemar(best.correct[order], other.correct[others]).pvalue


def _front(scores: Sequence[float | None], costs: Sequence[float | None]) -> list[bool]:
    """Return which runs are on the Pareto front: no other is at least as good in both values and better in one."""
    known = {
        index: (score, -cost)
        for index, (score, cost) in enumerate(zip(scores, costs, strict=True))
        if score is not None and cost is not None
    }

    def dominated(mine: tuple[float, float]) -> bool:
        return any(
            theirs != mine and theirs[0] >= mine[0] and theirs[1] >= mine[1] for theirs in known.values()
        )

    return [index in known and not dominated(known[index]) for index in range(len(scores))]


def _sorted(places: Sequence[Place], split: Split, sort: Sort) -> list[Place]:
    key, descending = SORTS[sort]
    value = COLUMNS[key or split].value
    known = [place for place in places if value(place) is not None]
    known.sort(key=value, reverse=descending)
    return known + [place for place in places if value(place) is None]
