"""The few-shot and learning-curve stages: accuracy against the number of training images."""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frostline.classifiers.experiments import few_shot as few_shots
from frostline.classifiers.experiments import learning_curve as curves
from frostline.classifiers.experiments.few_shot import ShotScore
from frostline.classifiers.experiments.learning_curve import CurvePoint, Forecast
from frostline.classifiers.fitting.columns import ColumnEncoding
from frostline.classifiers.fitting.inputs import FitOptions
from frostline.classifiers.heads.catalog import parse_params
from frostline.files.checksums import read_listed
from frostline.files.documents import MAX_BYTES, Document, to_plain, with_current_names_in
from frostline.pipeline.drawing.attempts import drawn
from frostline.pipeline.drawing.plots import plot_few_shot, plot_learning_curve
from frostline.pipeline.drawing.tables import write_table
from frostline.pipeline.errors import RunError
from frostline.pipeline.hosts.versions import library_versions, now
from frostline.pipeline.inputs.joined_caches import AnyCache, members, open_caches
from frostline.pipeline.inputs.layers import layer_choices
from frostline.pipeline.inputs.learning_rows import LearningRows
from frostline.pipeline.inputs.side_columns import digest_of, fit_columns, head_rows
from frostline.pipeline.options.learning.heads import FewShotOptions, LearningCurveOptions, SampleSizeOptions
from frostline.pipeline.options.stage import stage
from frostline.pipeline.runs.caches import describe_caches
from frostline.pipeline.runs.directory import (
    FEW_SHOT,
    LEARNING_CURVE,
    claim_run,
    default_run_path,
    write_run,
)
from frostline.pipeline.runs.run import divide_for_training, tuning_runs
from frostline.system.atomic import replace_file


@dataclass(frozen=True)
class FewShotResult:
    """Few-shot validation accuracy of a head on a cache.

    Attributes:
        folder: Folder with the table, the plot and the JSON document.
        head: Kind of head.
        params: Parameters of the head, the same in every episode.
        layer: Key of the layer.
        scores: One score per number of shots.
        rows: Number of validation rows.
        confidence: Confidence level of the intervals.
        seconds: Wall time.
    """

    folder: Path
    head: str
    params: Mapping[str, Any]
    layer: str
    scores: tuple[ShotScore, ...]
    rows: int
    confidence: float
    seconds: float


@dataclass(frozen=True)
class LearningCurveResult:
    """Validation accuracy of a head against the number of training images.

    Attributes:
        folder: Folder with the table, the plot and the JSON document.
        head: Kind of head.
        params: Fixed parameters; the others were chosen for each subset.
        layer: Key of the layer.
        points: Points of the curve, from the fewest images to all.
        forecast: Expected accuracy with twice the images; None with too few points.
        answer: Sentence that says whether more images would help.
        rows: Number of validation rows.
        confidence: Confidence level of the intervals.
        seconds: Wall time.
    """

    folder: Path
    head: str
    params: Mapping[str, Any]
    layer: str
    points: tuple[CurvePoint, ...]
    forecast: Forecast | None
    answer: str
    rows: int
    confidence: float
    seconds: float


@stage(FewShotOptions)
def few_shot(cache: str | Path | AnyCache, options: FewShotOptions) -> FewShotResult:
    """Measure the accuracy of a head trained on k images per class; see `frostline.classifiers.experiments.few_shot`.

    Test rows are never read. Finished episodes are kept in a journal next to the folder until it is written.

    Args:
        cache: The cache or its path; join several with ``+``.
        options: Options of the stage.

    Raises:
        ClassifiersError: The head, a parameter or the rows are not usable.
        FeaturesError: The cache is not usable.
        LeakError: The same image bytes, or one group, are in more than one split.
        RunError: The folder exists already, or the layer does not exist.
    """
    with _Study.open(FEW_SHOT, cache, options) as study:
        found = study.run(
            f"Drawing {' and '.join(map(str, sorted(set(options.shots))))} shots",
            options.episodes * len(set(options.shots)),
            few_shots.few_shot,
            shots=options.shots,
            episodes=options.episodes,
        )
        result = FewShotResult(params=found.params, scores=found.scores, **study.common(found))
        lines = [
            {"shots": score.shots, "episode": episode, "accuracy": accuracy}
            for score in found.scores
            for episode, accuracy in enumerate(score.episodes, 1)
        ]
        study.write(result, lines, lambda path, title: plot_few_shot(found, path, title=title), found.journal)
        return result


@stage(LearningCurveOptions)
def learning_curve(cache: str | Path | AnyCache, options: LearningCurveOptions) -> LearningCurveResult:
    """Measure accuracy against the number of training images, and report whether more images would help.

    See `frostline.classifiers.experiments.learning_curve`. Test rows are never read. Finished subsets are kept in a journal
    next to the folder until it is written.

    Args:
        cache: The cache or its path; join several with ``+``.
        options: Options of the stage.

    Raises:
        ClassifiersError: The head, a parameter or the rows are not usable.
        FeaturesError: The cache is not usable.
        LeakError: The same image bytes, or one group, are in more than one split.
        RunError: The folder exists already, or the layer does not exist.
    """
    with _Study.open(LEARNING_CURVE, cache, options) as study:
        found = study.run(
            "Learning from subsets",
            None,
            curves.learning_curve,
            points=options.points,
            draws=options.draws,
            groups=study.rows.images.groups,
        )
        result = LearningCurveResult(
            params=study.fitting.params,
            points=found.points,
            forecast=found.forecast,
            answer=found.answer,
            **study.common(found),
        )
        lines = [
            {"images": point.images, "draw": draw, "accuracy": accuracy}
            for point in found.points
            for draw, accuracy in enumerate(point.draws, 1)
        ]
        study.write(
            result, lines, lambda path, title: plot_learning_curve(found, path, title=title), found.journal
        )
        return result


def read_learning_curve(folder: str | Path) -> LearningCurveResult | None:
    """Read the result that `learning_curve` wrote into a folder; return None if the folder holds no learning curve.

    Raises:
        RunError: The file can't be read.
    """
    folder = Path(folder)
    name, remedy = f"{LEARNING_CURVE}.json", "Restore the file from a copy, or run learning-curve again."
    try:
        text = read_listed(folder, name, raises=RunError, remedy=remedy, limit=MAX_BYTES)
    except FileNotFoundError:
        return None
    described = Document(folder / name, "a learning curve", remedy, RunError)
    document = with_current_names_in(described.parse(text), "forecast", {"missed": "last_point_error"})
    return described.convert({**document, "folder": folder}, LearningCurveResult)


@dataclass(frozen=True)
class _Study:
    """Inputs and output of an experiment, shared by both stages."""

    name: str
    options: SampleSizeOptions
    fitting: FitOptions
    layer: str
    rows: LearningRows[AnyCache]
    columns: ColumnEncoding | None
    folder: Path
    started: float

    @classmethod
    @contextmanager
    def open(cls, name: str, cache: str | Path | AnyCache, options: SampleSizeOptions) -> Iterator["_Study"]:
        started = time.perf_counter()
        cache = open_caches(cache)
        key, *others = layer_choices(cache, options.layer)
        if others:
            raise RunError(f"{name} reads one layer, or several joined layers: pass e.g. --layer a+b.")
        params = parse_params(options.head, options.params or {}, options.trusted)
        default = default_run_path(cache.path, f"{options.head}-{name}")
        with claim_run(options.out, default, options.report) as folder:  # before any work
            runs = tuning_runs(each.weights for each in members(cache))
            rows = divide_for_training(cache, runs, options.fractions, options.report)
            fitting = FitOptions(params, options.seed, options.device, trusted=options.trusted)
            yield cls(
                name, options, fitting, key, rows, fit_columns(rows, options.with_columns), folder, started
            )

    def common(self, found: Any) -> dict[str, Any]:
        """Return the fields that both results have."""
        return {
            "folder": self.folder,
            "head": self.options.head,
            "layer": self.layer,
            "rows": found.rows,
            "confidence": found.confidence,
            "seconds": time.perf_counter() - self.started,
        }

    def run(self, task: str, total: int | None, measure: Callable[..., Any], **options: Any) -> Any:
        cache, head, report = self.rows.images, self.options.head, self.options.report
        with report.task(f"{task} with {head} on {self.layer}", total) as advance:
            found = measure(
                head,
                self.rows.labelled(head_rows(cache, self.layer, self.columns)),
                self.fitting,
                content=cache.content,
                jobs=self.options.jobs,
                key=f"{cache.key} {self.layer} {self.rows.digest}{digest_of(self.rows, self.columns)}",
                journal=self.folder.with_name(f".{self.folder.name}"),
                progress=advance,
                **options,
            )
        if found.resumed:
            report.note(f"Resumed {found.resumed} fits of an interrupted run.")
        return found

    def write(
        self,
        result: Any,
        lines: Sequence[Mapping[str, Any]],
        plot: Callable[[Path, str], None],
        journal: Path | None,
    ) -> None:
        cache = self.rows.images
        document = {
            "created": now(),
            "caches": to_plain(describe_caches(cache)),
            "split": {"counts": dict(self.rows.counts), "problems": list(self.rows.problems)},
            "columns": self.columns.names if self.columns else (),
            "seed": self.options.seed,
            **{name: value for name, value in dataclasses.asdict(result).items() if name != "folder"},
            "versions": library_versions(),
        }
        with write_run(self.folder) as folder:
            text = json.dumps(document, indent=2, allow_nan=False)
            write_table(lines, folder / f"{self.name}.csv")
            replace_file(folder / f"{self.name}.json", f"{text}\n".encode())
            drawn(
                folder / f"{self.name}.png",
                lambda path: plot(path, f"{self.options.head} on {self.layer} of {cache.path.name}"),
                self.options.report,
                place=self.folder,
            )
        if journal is not None:
            journal.unlink(missing_ok=True)
