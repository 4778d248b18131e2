"""Collection of the contents of a report, and writing of the HTML file."""

import datetime
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.escapes import visible
from frostline.features.cache.imported.facts import describe_imported
from frostline.features.errors import FeaturesError
from frostline.features.images.thumbnails import Pictures, data_uri
from frostline.pipeline.drawing.attempts import attempted
from frostline.pipeline.drawing.embedding import Map, check_map, draw_map
from frostline.pipeline.drawing.sheets import page_style
from frostline.pipeline.drawing.thumbnails import opened_pictures
from frostline.pipeline.errors import PipelineError, ReportError, RunError
from frostline.pipeline.hosts.versions import library_versions
from frostline.pipeline.inputs.joined_caches import AnyCache, open_caches
from frostline.pipeline.inputs.layers import layer_features
from frostline.pipeline.options.stage import stage
from frostline.pipeline.options.studies import MapKind, ReportOptions
from frostline.pipeline.progress import Reporter
from frostline.pipeline.runs.data_changes import compare_data
from frostline.pipeline.runs.predictions import Predictions
from frostline.pipeline.studies.html_report.commands import repeating_commands
from frostline.pipeline.studies.leaderboard import COLUMNS, Leaderboard, Place, compare
from frostline.pipeline.studies.leaderboard_text import ACCURACIES, cell, known_costs
from frostline.pipeline.training.sample_sizes import LearningCurveResult, read_learning_curve
from frostline.system.atomic import replace_file

_FOLDER = Path(__file__).parent
_MOST_POINTS = 1000  # per map, because each point has a thumbnail
_SHOWN_MISTAKES = 24
_SIDE = 72  # longest side of a thumbnail in pixels


@dataclass(frozen=True)
class ReportResult:
    """Result of writing a report.

    Attributes:
        path: Path of the file.
        runs: Number of runs in the report.
        bytes: Size of the file in bytes.
        seconds: Wall time.
    """

    path: Path
    runs: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class _Mistake:
    """A wrong prediction; `picture` is the thumbnail as a data URI, None if the image does not exist."""

    image: str
    true: str
    predicted: str
    probability: float
    picture: str | None


@dataclass(frozen=True)
class _Section:
    """Contents of the section of one run; `remark` says why there are no pictures."""

    name: str
    place: Place
    facts: Sequence[tuple[str, str]]
    charts: Sequence[Any]
    mistakes: Sequence[_Mistake]
    mistake_count: int
    remark: str
    commands: Sequence[str]


@stage(ReportOptions)
def write_report(runs: Sequence[str | Path], options: ReportOptions) -> ReportResult:
    """Write an HTML report on runs: one file with all charts, tables and thumbnails, which needs no network.

    Only the run directories are read and, for the maps, the cached features of the scored rows. Nothing is
    evaluated. Missing data are omitted.

    Args:
        runs: Run directories, and folders of `frostline.pipeline.learning_curve`, which are drawn in one chart.
        options: Options of the stage.

    Raises:
        ReportError: plotly or Jinja2 is not installed.
        RunError: A run can't be read, or UMAP is not installed.
    """
    started = time.perf_counter()
    if isinstance(runs, str | Path):
        runs = [runs]
    render = _renderer()
    check_map(options.map)
    board = compare(runs, on=options.on, report=options.report)
    learning = _learning_curves(runs, options.report)
    shared = _Shared(_Gallery(), _Maps(options.map, options.seed), options.report)
    sections = []
    with options.report.task("Drawing", len(board.places)) as advance:
        for number, place in enumerate(board.places):
            sections.append(_section(f"run{number}", place, board, shared))
            advance(1)
    from plotly.offline import get_plotlyjs

    from frostline.pipeline.studies.html_report.figures import label_fractions, pareto

    text = render(
        title=options.title,
        made=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        versions=library_versions(),
        board=board,
        columns=[(key, COLUMNS[key]) for key in (*ACCURACIES, *known_costs(board))],
        cell=cell,
        pareto=attempted("accuracy against cost", lambda: pareto(board), options.report) or [],
        fractions=attempted("the learning curves", lambda: label_fractions(learning), options.report) or [],
        learning=learning,
        sections=sections,
        pictures=shared.gallery.pictures,
        style=page_style() + (_FOLDER / "style.css").read_text("utf-8"),
        script=(_FOLDER / "page.js").read_text("utf-8"),
        plotly=get_plotlyjs(),
    )
    path = Path(options.out)
    replace_file(path, text.encode(errors="replace"))
    return ReportResult(path, len(sections), path.stat().st_size, time.perf_counter() - started)


def _learning_curves(folders: Sequence[str | Path], report: Reporter) -> list[LearningCurveResult]:
    """Return the learning curves among the folders, without damaged ones."""
    found = []
    for folder in folders:
        try:
            curve = read_learning_curve(folder)
        except RunError as error:
            report.warn(f"{error} It is left out.")
            continue
        found += [curve] if curve else []
    return found


def _renderer() -> Any:
    try:
        import plotly.graph_objects  # noqa: F401  # checked before any work
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise ReportError(
            f"a report needs {error.name}, which is not installed: pip install 'frostline[report]'."
        ) from error
    page = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value, keep="\n\t") if type(value) is str else value,
    )
    page.filters["script_json"] = _script_json
    return page.get_template("page.html.j2").render


def _script_json(value: Any) -> str:
    """Return JSON that is safe in a script element, which would end at the first ``</script``."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.replace("<", "\\u003c")


@dataclass
class _Gallery:
    """Thumbnails by source and name of the image, each encoded once."""

    pictures: list[str] = field(default_factory=list)
    _known: dict[tuple[str, str], int | None] = field(default_factory=dict)

    def add(self, pictures: Pictures, row: int) -> int | None:
        """Add an image of a cache and return the number of its thumbnail; None if the image can't be read."""
        key = (pictures.cache.source, str(pictures.cache.ids[row]))
        if key not in self._known:
            image = pictures.thumbnail(row, _SIDE).picture
            self._known[key] = None if image is None else len(self.pictures)
            self.pictures += [] if image is None else [data_uri(image)]
        return self._known[key]

    def get(self, number: int | None) -> str | None:
        """Return a thumbnail as a data URI."""
        return None if number is None else self.pictures[number]


@dataclass
class _Maps:
    """Maps of features, each computed once for all runs that share them."""

    kind: MapKind
    seed: int
    _known: dict[tuple[str, str, bytes], Map | None] = field(default_factory=dict)

    def of(self, cache: AnyCache, layer: str, rows: NDArray[np.int64]) -> Map | None:
        """Return the map of the given rows; None if no map is requested."""
        if self.kind == "none":
            return None
        key = (f"{cache.path} {cache.key}", layer, rows.tobytes())
        if key not in self._known:
            X = layer_features(cache, layer)
            self._known[key] = draw_map(X, self.kind, rows=rows, seed=self.seed)
        return self._known[key]


@dataclass(frozen=True)
class _Shared:
    """State shared by the sections of all runs."""

    gallery: _Gallery
    maps: _Maps
    report: Reporter


def _section(name: str, place: Place, board: Leaderboard, shared: _Shared) -> _Section:
    from frostline.pipeline.studies.html_report.figures import confusion, curves, reliability_diagram

    summary = place.summary
    predictions = summary.predictions(board.split)
    charts: list[Any] = []
    mistakes: list[_Mistake] = []
    remark = ""

    def add(what: str, draw: Callable[[], list[Any]]) -> None:
        charts.extend(attempted(f"{what} of {summary.name}", draw, shared.report) or [])

    if predictions is not None:
        add("the confusion matrix", lambda: [confusion(name, predictions, summary.classes)])
        add("the reliability diagram", lambda: [reliability_diagram(name, predictions)])
        cache = _cache(place)
        rows = None if cache is None else _rows(cache, predictions)
        if cache is None or rows is None:
            remark = "Images are not shown, because the cache of this run is missing or has changed."
            mistakes = _mistakes(predictions, lambda _: None)
        else:
            with opened_pictures(cache) as pictures:

                def picture(index: int) -> int | None:
                    return shared.gallery.add(pictures, int(rows[index]))

                def features(shown: NDArray[np.int64]) -> Map | None:
                    return shared.maps.of(cache, summary.layer, rows[shown])

                add("the map", lambda: _map(name, predictions, summary.classes, features, picture))
                mistakes = attempted(
                    f"the mistakes of {summary.name}",
                    lambda: _mistakes(predictions, lambda index: shared.gallery.get(picture(index))),
                    shared.report,
                ) or _mistakes(predictions, lambda _: None)
            remark = pictures.obstacle
    add("the curves", lambda: curves(name, summary.run.path / "curve.csv", summary.run.record.head.params))
    return _Section(
        name=name,
        place=place,
        facts=_facts(place),
        charts=charts,
        mistakes=mistakes,
        mistake_count=0 if predictions is None else int((~predictions.correct).sum()),
        remark=remark,
        commands=repeating_commands(summary.run),
    )


def _map(
    name: str,
    predictions: Predictions,
    classes: Sequence[str],
    features: Callable[[NDArray[np.int64]], Map | None],
    picture: Callable[[int], int | None],
) -> list[Any]:
    """Return the map of some of the scored images, evenly chosen; empty if no map is requested.

    Args:
        name: Name of the section.
        predictions: The scored images.
        classes: Names of the classes.
        features: Function that returns the map of some of them.
        picture: Function that returns the number of the thumbnail of one of them.
    """
    from frostline.pipeline.studies.html_report.figures import embedding_map

    shown = np.unique(
        np.linspace(0, len(predictions) - 1, min(len(predictions), _MOST_POINTS)).astype(np.int64)
    )
    drawn = features(shown)
    if drawn is None:
        return []
    return [embedding_map(name, drawn, predictions.take(shown), [picture(int(i)) for i in shown], classes)]


def _cache(place: Place) -> AnyCache | None:
    """Return the caches that a run was trained on; None if they are missing, or replaced by others."""
    run = place.summary.run
    try:
        cache = open_caches([each.path for each in run.caches])
        is_other = compare_data(run, cache).is_other
    except (OSError, FeaturesError, PipelineError):
        return None
    same = cache.key == "+".join(each.key for each in run.caches)
    same = same or run.tuned  # the cache of a fine-tuned run may be computed by any engine
    return cache if same and not is_other else None


def _rows(cache: AnyCache, predictions: Predictions) -> NDArray[np.int64] | None:
    """Return the rows of the scored images; None if the cache lacks the features of one of them."""
    row_of = {str(name): row for row, name in enumerate(cache.ids)}
    rows = np.array([row_of.get(str(name), -1) for name in predictions.ids], np.int64)
    return rows if (rows >= 0).all() and cache.ok[rows].all() else None


def _mistakes(predictions: Predictions, picture: Callable[[int], str | None]) -> list[_Mistake]:
    """Return the most confident mistakes, the most confident first, with their pictures as data URIs."""
    return [
        _Mistake(
            str(predictions.ids[i]),
            str(predictions.labels[i]),
            str(predictions.predicted[i]),
            float(predictions.probability[i]),
            picture(int(i)),
        )
        for i in predictions.mistakes[:_SHOWN_MISTAKES]
    ]


def _facts(place: Place) -> list[tuple[str, str]]:
    """Return the names and values at the top of a section."""
    summary = place.summary
    record = summary.run.record
    params = ", ".join(f"{name}={value}" for name, value in record.head.params.items())
    facts = {
        "backbone": " + ".join(summary.backbones),
        "layer": summary.layer,
        "projection": summary.project or "",
        "side columns": ", ".join(summary.columns),
        "head": f"{summary.head} ({params})" if params else summary.head,
        "validation": cell(place, "validation"),
        "test": cell(place, "test"),
        "trained": record.created,
        "vectors": "; ".join(
            describe_imported(each.spec) for each in summary.run.caches if each.spec.is_imported
        ),
        "data": ", ".join(dict.fromkeys(each.source for each in summary.run.caches)),
        "timed on": summary.cost.machine or "",
        "run": str(summary.run.path),
    }
    return [(name, text) for name, text in facts.items() if text not in {"", "-"}]
