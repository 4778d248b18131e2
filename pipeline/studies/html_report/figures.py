"""Charts of a report, as plotly figures without a theme; the page applies its own."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from frostline.classifiers.protocol.calibration_error import BINS, bin_of, rms_calibration_error
from frostline.files.documents import MAX_BYTES
from frostline.files.tables import read_table
from frostline.pipeline.drawing.embedding import Map
from frostline.pipeline.errors import RunError
from frostline.pipeline.runs.predictions import Predictions
from frostline.pipeline.runs.summary import Accuracy
from frostline.pipeline.studies.leaderboard import COLUMNS, Leaderboard, Place
from frostline.pipeline.studies.leaderboard_text import cell
from frostline.pipeline.training.sample_sizes import LearningCurveResult

# Paul Tol's bright scheme without grey, followed by colours of his vibrant and muted schemes. They can be distinguished
# with any colour vision, on white and on black.
_PALETTE = (
    "#4477AA",
    "#EE6677",
    "#228833",
    "#CCBB44",
    "#66CCEE",
    "#AA3377",
    "#EE7733",
    "#009988",
    "#8877DD",
    "#AA8866",
)
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "pentagon", "star", "hexagon", "cross")
_OTHER = "#888888"
_LEGEND = {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0}
_MANY_CLASSES = 20
_SOLVER_FACTS = {"objective", "iterations", "seconds", "images per second"}
_UNITS = {
    "parameters": "parameters",
    "gflops": "GFLOPs per image",
    "extraction_seconds": "extraction, seconds",
    "total_seconds": "extraction and training, seconds",
}


@dataclass(frozen=True)
class Chart:
    """A chart of the page.

    Attributes:
        name: Id of the chart in the page.
        title: Heading.
        summary: Text description for screen readers.
        figure: The figure as JSON of plotly.
    """

    name: str
    title: str
    summary: str
    figure: str


def _chart(name: str, title: str, summary: str, figure: go.Figure) -> Chart:
    figure.layout.template = None  # the page applies its own theme
    return Chart(name, title, summary, figure.to_json())


def pareto(board: Leaderboard) -> list[Chart]:
    """Return charts of accuracy against each cost that is known for at least two runs, or for the only run."""
    return [chart for key in _UNITS if (chart := _pareto(board, key))]


@dataclass(frozen=True)
class _Point:
    """A run with a known cost and accuracy."""

    place: Place
    cost: float
    accuracy: Accuracy

    @property
    def backbone(self) -> str:
        return " + ".join(self.place.summary.backbones)


def _points(board: Leaderboard, key: str) -> list[_Point]:
    """Return the runs with a known positive cost."""
    value = COLUMNS[key].value
    known = [(place, value(place), place.accuracy) for place in board.places]
    return [
        _Point(place, cost, accuracy) for place, cost, accuracy in known if accuracy and cost and cost > 0
    ]


def _pareto(board: Leaderboard, key: str) -> Chart | None:
    points = _points(board, key)
    if len(points) < min(2, len(board.places)):
        return None
    figure = go.Figure(_front_line([(point.cost, point.accuracy.value) for point in points]))
    heads = list(dict.fromkeys(point.place.summary.head for point in points))
    for number, backbone in enumerate(dict.fromkeys(point.backbone for point in points)):
        mine = [point for point in points if point.backbone == backbone]
        figure.add_scatter(name=_escape(backbone), **_marks(mine, heads, _PALETTE[number % len(_PALETTE)]))
    figure.update_layout(
        xaxis={"title": {"text": _UNITS[key]}, "type": "log", **_ticks([point.cost for point in points])},
        yaxis={"title": {"text": f"{board.split} accuracy"}, "tickformat": ".0%"},
        legend=_LEGEND,
        hovermode="closest",
    )
    best = max(points, key=lambda point: point.accuracy.value).place
    cheapest = min(points, key=lambda point: point.cost).place
    summary = (
        f"Accuracy against {_UNITS[key]} of {len(points)} run{'s' * (len(points) > 1)}. Most accurate: {best.summary.name}, {cell(best, board.split)};"
        f" cheapest: {cheapest.summary.name}, {cell(cheapest, board.split)}. The leaderboard has all numbers."
    )
    return _chart(f"pareto-{key}", f"Accuracy against {_UNITS[key]}", summary, figure)


def _marks(points: Sequence[_Point], heads: Sequence[str], colour: str) -> dict[str, Any]:
    """Return the trace of the runs on one backbone: the symbol shows the head, the size the number of features."""
    places = [point.place for point in points]
    return {
        "x": [point.cost for point in points],
        "y": [point.accuracy.value for point in points],
        "error_y": _reach(
            [(each.value, each.low, each.high) for each in (point.accuracy for point in points)]
        ),
        "mode": "markers",
        "marker": {
            "size": [_size(place.summary.cost.width) for place in places],
            "symbol": [_SYMBOLS[heads.index(place.summary.head) % len(_SYMBOLS)] for place in places],
            "color": colour,
            "line": {"width": 1},
            "opacity": 0.9,
        },
        "text": [_hover(place) for place in places],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _reach(intervals: Sequence[tuple[float, float, float]]) -> dict[str, Any]:
    """Return error bars from (value, low, high) triples."""
    return {
        "array": [high - value for value, _, high in intervals],
        "arrayminus": [value - low for value, low, _ in intervals],
        "thickness": 1,
        "width": 3,
    }


def label_fractions(learning: Sequence[LearningCurveResult]) -> list[Chart]:
    """Return one chart with all learning curves; empty without learning curves."""
    if not learning:
        return []
    figure = go.Figure()
    for number, curve in enumerate(learning):
        common = {"name": _escape(curve.folder.name), "legendgroup": str(number)}
        for line in _curve_lines(curve, _PALETTE[number % len(_PALETTE)]):
            figure.add_scatter(**line, **common)
    images = [point.images for curve in learning for point in curve.points]
    images += [curve.forecast.images for curve in learning if curve.forecast]
    figure.update_layout(
        xaxis={"title": {"text": "training images"}, "type": "log", **_ticks(images)},
        yaxis={"title": {"text": "validation accuracy"}, "tickformat": ".0%"},
        legend=_LEGEND,
        showlegend=True,
        hovermode="closest",
    )
    ends = (
        f"{curve.folder.name} from {curve.points[0].accuracy:.1%} with {curve.points[0].images:,} images to"
        f" {curve.points[-1].accuracy:.1%} with {curve.points[-1].images:,}"
        for curve in learning
    )
    title = "Accuracy against training images"
    return [_chart("label-fractions", title, f"{'; '.join(ends)}. Dotted: a forecast.", figure)]


def _curve_lines(curve: LearningCurveResult, colour: str) -> Iterator[dict[str, Any]]:
    """Yield the traces of a learning curve, and of its forecast if it has one."""
    yield {
        "x": [point.images for point in curve.points],
        "y": [point.accuracy for point in curve.points],
        "error_y": _reach([(point.accuracy, point.low, point.high) for point in curve.points]),
        "mode": "lines+markers",
        "line": {"color": colour},
        "hovertemplate": "%{x:,} images: %{y:.2%}",
    }
    if curve.forecast:
        last = curve.points[-1]
        yield {
            "x": [last.images, curve.forecast.images],
            "y": [last.accuracy, curve.forecast.accuracy],
            "mode": "lines+markers",
            "line": {"color": colour, "dash": "dot"},
            "marker": {"symbol": "circle-open"},
            "showlegend": False,
            "hovertemplate": "expected with %{x:,} images: %{y:.2%}",
        }


def _ticks(costs: Sequence[float]) -> dict[str, Any]:
    """Return a padded logarithmic axis with ticks at 1, 2 and 5, or at each digit if those are too few."""
    low, high = min(costs) / 1.3, max(costs) * 1.3
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), range(1, 10)):
        ticks = [digit * 10.0**decade for decade in decades for digit in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) > 2:
            break
    return {
        "range": [math.log10(low), math.log10(high)],
        "tickvals": ticks,
        "ticktext": [f"{tick / 1e6:g} M" if tick >= 1e6 else f"{tick:,g}" for tick in ticks],
    }


def _front_line(points: Sequence[tuple[float, float]]) -> go.Scatter:
    """Return a step line along the Pareto front of (cost, accuracy) points."""
    front: list[tuple[float, float]] = []
    for cost, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or accuracy > front[-1][1]:
            front.append((cost, accuracy))
    return go.Scatter(
        x=[x for x, _ in front],
        y=[y for _, y in front],
        mode="lines",
        line={"shape": "hv", "dash": "dot", "width": 1.5, "color": _OTHER},
        name="Pareto front",
        hoverinfo="skip",
    )


def _size(width: int | None) -> float:
    return float(np.clip(2 + np.sqrt(width or 256) / 2, 7, 30))


def _hover(place: Place) -> str:
    keys = ("validation", "test", "parameters", "gflops", "width", "extraction_seconds", "total_seconds")
    lines = [f"{COLUMNS[key].title}: {text}" for key in keys if (text := cell(place, key)) != "-"]
    head = f"{place.summary.head} on {place.summary.layer}"
    return "<br>".join([f"<b>{_escape(place.summary.name)}</b>", _escape(head), *map(_escape, lines)])


def _escape(text: str) -> str:
    """Escape the characters that plotly would interpret as tags."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def confusion(name: str, predictions: Predictions, classes: Sequence[str]) -> Chart:
    """Return the confusion matrix as a heat map of row shares, labelled with counts."""
    position = {each: index for index, each in enumerate(classes)}
    true, said = (
        np.array([position[each] for each in column])
        for column in (predictions.labels, predictions.predicted)
    )
    k = len(classes)
    counts = np.bincount(true * k + said, minlength=k * k).reshape(k, k)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    few = k <= _MANY_CLASSES
    labels = [_escape(each) for each in classes]
    figure = go.Figure(
        go.Heatmap(
            z=shares,
            x=labels,
            y=labels,
            zmin=0,
            zmax=1,
            customdata=counts,
            text=np.where(counts > 0, counts.astype(str), "") if few else None,
            texttemplate="%{text}" if few else None,
            hovertemplate="true %{y}, predicted %{x}: %{customdata} (%{z:.0%})<extra></extra>",
            showscale=False,
            xgap=1,
            ygap=1,
        )
    )
    figure.update_layout(
        xaxis={"title": {"text": "predicted"}, "type": "category", "showgrid": False},
        yaxis={"title": {"text": "true"}, "type": "category", "autorange": "reversed", "showgrid": False},
    )
    off = counts * (1 - np.eye(k, dtype=counts.dtype))
    row, column = divmod(int(off.argmax()), k)
    summary = f"{predictions.correct.mean():.1%} of {len(predictions)} predictions are correct."
    if off.any():
        summary += (
            f" The most frequent mistake is {classes[row]} predicted as {classes[column]}: {off.max()} times."
        )
    return _chart(f"confusion-{name}", "Confusion matrix", summary, figure)


def reliability_diagram(name: str, predictions: Predictions) -> Chart:
    """Return the reliability diagram (Niculescu-Mizil & Caruana 2005)."""
    bins = bin_of(predictions.probability)
    counts, sure, right = (
        np.bincount(bins, values, BINS) for values in (None, predictions.probability, predictions.correct)
    )
    error = rms_calibration_error(predictions.probability, predictions.correct)
    filled = counts > 0
    confidence, accuracy = sure[filled] / counts[filled], right[filled] / counts[filled]
    figure = go.Figure(
        [
            go.Bar(
                x=(np.flatnonzero(filled) + 0.5) / BINS,
                y=counts[filled] / len(predictions),
                width=0.9 / BINS,
                marker={"color": _OTHER, "opacity": 0.35},
                name="share of images",
                hovertemplate="%{y:.0%} of the images<extra></extra>",
            ),
            go.Scatter(
                x=[0, 1],
                y=[0, 1],
                mode="lines",
                line={"dash": "dot", "width": 1, "color": _OTHER},
                hoverinfo="skip",
                name="perfect",
            ),
            go.Scatter(
                x=confidence,
                y=accuracy,
                mode="lines+markers",
                line={"color": "#117733"},
                customdata=counts[filled],
                hovertemplate="confidence %{x:.0%}, accuracy %{y:.0%}, %{customdata} images<extra></extra>",
                name="accuracy",
            ),
        ]
    )
    figure.update_layout(
        xaxis={"title": {"text": "probability of the predicted class"}, "range": [0, 1], "tickformat": ".0%"},
        yaxis={"title": {"text": "accuracy"}, "range": [0, 1.02], "tickformat": ".0%"},
        legend=_LEGEND,
    )
    summary = (
        f"Root mean square calibration error {error.value:.1%} (95 % interval {error.low:.1%} - {error.high:.1%}): "
        f"on average, the confidence is {_gap(predictions)}."
    )
    return _chart(f"reliability-{name}", "Reliability", summary, figure)


def _gap(predictions: Predictions) -> str:
    """Describe the mean confidence minus the accuracy."""
    gap = float(predictions.probability.mean() - predictions.correct.mean())
    return f"{abs(gap) * 100:.1f} percentage points {'above' if gap > 0 else 'below'} the accuracy"


def curves(name: str, path: Path, chosen: Mapping[str, Any]) -> list[Chart]:
    """Return the learning curves or the regularisation path, one chart per quantity; empty if the file is missing."""
    columns = _columns(path)
    x_label, x = next(iter(columns.items()), ("", np.empty(0)))
    if len(x) < 2:
        return []
    panels: dict[str, dict[str, NDArray[np.float64]]] = {}
    for label, values in list(columns.items())[1:]:
        if label not in _SOLVER_FACTS:
            quantity = label.removeprefix("train ").removeprefix("validation ")
            panels.setdefault(quantity, {})[label] = values
    return [
        _curve_chart(name, quantity, (x_label, x), series, chosen.get(x_label))
        for quantity, series in panels.items()
    ]


def _columns(path: Path) -> dict[str, NDArray[np.float64]]:
    """Return the numeric columns of a CSV file of a run, by name; empty if the file is missing.

    Raises:
        RunError: The file can't be read, or was changed.
    """
    remedy = "Restore the file from a copy, or train again."
    try:
        cells = read_table(path.parent, path.name, raises=RunError, remedy=remedy, limit=MAX_BYTES)
    except FileNotFoundError:
        return {}
    columns = {}
    for label, texts in cells.items():
        with contextlib.suppress(ValueError):  # not a numeric column
            words = label.replace("_", " ").replace("val ", "validation ")
            columns[words] = np.array([float(text or "nan") for text in texts])
    return columns


def _curve_chart(
    name: str,
    quantity: str,
    axis: tuple[str, NDArray[np.float64]],
    series: Mapping[str, NDArray[np.float64]],
    chosen: Any,
) -> Chart:
    x_label, x = axis
    figure = go.Figure(
        [
            go.Scatter(
                x=x,
                y=values,
                mode="lines+markers",
                name=label,
                line={"color": "#CC6677" if label.startswith("train") else "#4477AA"},
                hovertemplate=f"{_escape(x_label)} %{{x:.4g}}: %{{y:.4g}}<extra>{_escape(label)}</extra>",
            )
            for label, values in series.items()
        ]
    )
    logarithmic = bool(x.min() > 0 and x.max() >= 100 * x.min())
    figure.update_layout(
        xaxis={"title": {"text": _escape(x_label)}, "type": "log" if logarithmic else "linear"},
        yaxis={"title": {"text": _escape(quantity)}},
        legend=_LEGEND,
        showlegend=True,
    )
    if isinstance(chosen, int | float):
        figure.add_vline(x=chosen, line={"dash": "dot", "width": 1, "color": _OTHER})
    last = ", ".join(f"{label} from {values[0]:.4g} to {values[-1]:.4g}" for label, values in series.items())
    return _chart(f"curve-{name}-{quantity}".replace(" ", "-"), quantity.capitalize(), f"{last}.", figure)


def embedding_map(
    name: str, drawn: Map, predictions: Predictions, pictures: Sequence[int | None], classes: Sequence[str]
) -> Chart:
    """Return a map of images coloured by true class; mistakes are crosses, and `pictures` are shown on hover."""
    figure = go.Figure()
    colours = [_PALETTE[number % len(_PALETTE)] for number in range(len(classes))]
    wrong = ~predictions.correct
    for number, label in enumerate(classes):
        rows = np.flatnonzero(predictions.labels == label)
        figure.add_scatter(
            x=drawn.points[rows, 0],
            y=drawn.points[rows, 1],
            mode="markers",
            name=_escape(label),
            marker={
                "color": colours[number],
                "size": np.where(wrong[rows], 9, 6),
                "symbol": np.where(wrong[rows], "x", _SYMBOLS[number // len(_PALETTE) % len(_SYMBOLS)]),
                "line": {"width": np.where(wrong[rows], 1, 0)},
                "opacity": 0.85,
            },
            customdata=[
                [
                    pictures[int(row)],
                    str(predictions.ids[row]),
                    str(predictions.labels[row]),
                    str(predictions.predicted[row]),
                    float(predictions.probability[row]),
                ]
                for row in rows
            ],
            text=[_escape(str(predictions.ids[row])) for row in rows],
            hoverinfo="none",  # the page shows the thumbnail
        )
    figure.update_layout(
        xaxis={"title": {"text": drawn.axes[0]}, "zeroline": False, "showticklabels": False},
        yaxis={"title": {"text": drawn.axes[1]}, "zeroline": False, "showticklabels": False},
        legend=_LEGEND,
        hovermode="closest",
        showlegend=len(classes) <= _MANY_CLASSES,
    )
    summary = f"{len(predictions)} images as points, coloured by class; crosses mark the {int(wrong.sum())} mistakes."
    return _chart(f"map-{name}", "Map of the features", summary, figure)
