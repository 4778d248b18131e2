"""Plots of a run, as PNG."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from frostline.classifiers.experiments.few_shot import FewShot
from frostline.classifiers.experiments.learning_curve import LearningCurve
from frostline.classifiers.fitting.fitted_head import Curve
from frostline.classifiers.protocol.calibration import Calibration
from frostline.features.images.thumbnails import Thumbnail
from frostline.pipeline.drawing.lettering import legible, save
from frostline.pipeline.drawing.thumbnails import draw_thumbnail

_SOLVER_FACTS = {"objective", "iterations"}  # written to the CSV, not plotted
_MAX_LABELLED_CLASSES = 40


def plot_curve(curve: Curve, path: Path, *, title: str) -> None:
    """Plot a regularisation path or a learning curve, one panel per quantity."""
    panels = _panels(curve)
    figure = Figure(figsize=(5.2 * len(panels), 3.8), layout="constrained")
    figure.suptitle(legible(title, None))
    for axes, (quantity, names) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for name in names:
            axes.plot(curve.x, curve.series[name], marker=".", label=legible(name))
        if curve.log_x:
            axes.set_xscale("log")
        if curve.chosen is not None:
            axes.axvline(curve.chosen, color="grey", linestyle="--", linewidth=1, label="chosen")
        axes.set_xlabel(legible(curve.x_label))
        axes.set_ylabel(legible(quantity))
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
    save(figure, path)


def _panels(curve: Curve) -> dict[str, list[str]]:
    """Group series that share a unit: ``train loss`` and ``validation loss`` are both ``loss``."""
    panels: dict[str, list[str]] = {}
    for name in curve.series:
        if name in _SOLVER_FACTS:
            continue
        panels.setdefault(name.removeprefix("train ").removeprefix("validation "), []).append(name)
    return panels


def plot_confusion(matrix: NDArray[np.int64], classes: Sequence[str], path: Path, *, title: str) -> None:
    """Plot a (k, k) confusion matrix, rows true and columns predicted: colours are row shares, labels are counts."""
    count = len(classes)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = min(4 + 0.36 * count, 16)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    axes.set(title=legible(title, None), xlabel="predicted", ylabel="true")
    if count <= _MAX_LABELLED_CLASSES:
        names = [legible(name) for name in classes]
        axes.set_xticks(range(count), names, rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(count), names)
        for (row, column), value in np.ndenumerate(matrix):
            if value:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(value), ha="center", va="center", color=colour, fontsize=7)
    save(figure, path)


class Mistake:
    """A wrong prediction to draw: thumbnail of the image, true class, predicted class and confidence."""

    def __init__(self, thumbnail: Thumbnail, true: str, predicted: str, probability: float) -> None:
        self.thumbnail, self.true, self.predicted, self.probability = thumbnail, true, predicted, probability


def plot_mistakes(
    mistakes: Sequence[Mistake], path: Path, *, title: str, word: str = "true", remark: str = ""
) -> None:
    """Plot the images of `mistakes` in a grid with predicted and true class.

    Args:
        mistakes: The mistakes.
        path: Path of the PNG file.
        title: Title of the figure.
        word: Label of the true class.
        remark: Sentence below the images; empty for none.
    """
    columns = min(6, max(len(mistakes), 1))
    rows = max(-(-len(mistakes) // columns), 1)
    figure = Figure(figsize=(2.1 * columns, 2.5 * rows + 0.6), layout="constrained")
    figure.suptitle(legible(title, None))
    axes: Any = figure.subplots(rows, columns, squeeze=False)
    for cell in axes.flat:
        cell.axis("off")
    for cell, mistake in zip(axes.flat, mistakes, strict=False):
        title = f"{legible(mistake.predicted)} {mistake.probability:.0%}\n{word}: {legible(mistake.true)}"
        draw_thumbnail(cell, mistake.thumbnail, title)
    _write_remark(figure, remark)
    save(figure, path)


class PicturePair(NamedTuple):
    """Two images to draw next to each other, with their titles: names in them as `lettering.legible` returns them."""

    thumbnail_a: Thumbnail
    thumbnail_b: Thumbnail
    title_a: str
    title_b: str


def plot_pairs(pairs: Sequence[PicturePair], path: Path, *, title: str, remark: str = "") -> None:
    """Plot pairs of images, three pairs per row, and a remark below them."""
    columns = min(3, max(len(pairs), 1))
    rows = max(-(-len(pairs) // columns), 1)
    figure = Figure(figsize=(4.0 * columns, 2.5 * rows + 0.6), layout="constrained")
    figure.suptitle(legible(title, None))
    axes: Any = figure.subplots(rows, 2 * columns, squeeze=False)
    for cell in axes.flat:
        cell.axis("off")
    for left, right, pair in zip(axes.flat[::2], axes.flat[1::2], pairs, strict=False):
        draw_thumbnail(left, pair.thumbnail_a, pair.title_a)
        draw_thumbnail(right, pair.thumbnail_b, pair.title_b)
    _write_remark(figure, remark)
    save(figure, path)


def _write_remark(figure: Figure, remark: str) -> None:
    if remark:
        width = int(figure.get_figwidth() * 14)  # characters of this size per inch
        figure.supxlabel(textwrap.fill(legible(remark, None), width), fontsize=8)


def plot_search(
    trials: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any], path: Path, *, title: str
) -> None:
    """Plot the accuracy of every trial, in order and against each searched parameter."""
    panels = ["trial", *(["layer"] if "layer" in trials[0] else []), *chosen]
    figure = Figure(figsize=(4.2 * len(panels), 3.8), layout="constrained")
    figure.suptitle(legible(title, None))
    shares = [trial["share"] for trial in trials]
    for axes, name in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        points = _draw_trials(axes, trials, name)
        values = _values(trials, name)
        if name != "trial" and _is_numeric(values):
            axes.axvline(chosen[name], color="grey", linestyle="--", linewidth=1)
            if max(values) >= 100 * min(values) > 0:
                axes.set_xscale("log")
    if min(shares) < 1:
        figure.colorbar(points, label="share of the training rows")
    save(figure, path)


def _draw_trials(axes: Any, trials: Sequence[Mapping[str, Any]], name: str) -> Any:
    """Plot the accuracy of every trial against one parameter, or in order; return the points."""
    values = _values(trials, name)
    x = values if _is_numeric(values) else [legible(str(value)) for value in values]
    accuracy, shares = zip(*((trial["accuracy"], trial["share"]) for trial in trials), strict=True)
    points = axes.scatter(x, accuracy, c=shares, vmin=0, vmax=1, cmap="viridis", s=16)
    axes.set(xlabel=legible(name), ylabel="accuracy")
    axes.grid(visible=True, alpha=0.3)
    return points


def _values(trials: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    return [number if name == "trial" else trial[name] for number, trial in enumerate(trials, 1)]


def _is_numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def plot_few_shot(found: FewShot, path: Path, *, title: str) -> None:
    """Plot the accuracy of every episode, and the means with both intervals, against the number of shots."""
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    shots = [score.shots for score in found.scores]
    means = np.array([score.accuracy for score in found.scores])
    for score in found.scores:
        spread = score.shots * 1.06 ** np.linspace(-1, 1, len(score.episodes))
        axes.plot(spread, score.episodes, ".", color="tab:blue", alpha=0.25, markersize=4)
    wide = [[score.wide_low, score.wide_high] for score in found.scores]
    narrow = [[score.low, score.high] for score in found.scores]
    interval = f"{found.confidence:.0%} interval"
    axes.errorbar(
        shots, means, _reach(means, wide), color="grey", capsize=5, label=f"{interval} over images as well"
    )
    axes.errorbar(
        shots, means, _reach(means, narrow), color="black", linewidth=2, label=f"{interval} over episodes"
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(shots, map(str, shots))
    axes.set(title=legible(title, None), xlabel="training images per class", ylabel="validation accuracy")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="lower right")
    save(figure, path)


def _reach(means: NDArray[np.float64], ends: ArrayLike) -> NDArray[np.float64]:
    """Return the (2, n) lengths of error bars."""
    low, high = np.asarray(ends).T
    return np.stack([means - low, high - means])


def plot_learning_curve(found: LearningCurve, path: Path, *, title: str) -> None:
    """Plot accuracy against training images with a confidence band, and the fitted power law up to twice as many."""
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    images = [point.images for point in found.points]
    for point in found.points:
        axes.plot(
            [point.images] * len(point.draws), point.draws, ".", color="tab:blue", alpha=0.4, markersize=5
        )
    axes.plot(
        images, [point.accuracy for point in found.points], "o-", color="tab:blue", label="mean of the draws"
    )
    low, high = [point.low for point in found.points], [point.high for point in found.points]
    axes.fill_between(images, low, high, alpha=0.2, label=f"{found.confidence:.0%} band")
    if found.forecast:
        law, more = found.forecast.law, np.geomspace(images[0], found.forecast.images, 100)
        formula = f"error = {law.asymptote:.3g} + {law.scale:.3g} n$^{{-{law.exponent:.2f}}}$"
        axes.plot(more, [1 - law.error(n) for n in more], "--", color="tab:orange", label=formula)
        ends = np.array([[found.forecast.low, found.forecast.high]]) + found.points[-1].accuracy
        last = np.array([found.forecast.accuracy])
        axes.errorbar(
            [found.forecast.images], last, _reach(last, ends), fmt="o", color="tab:orange", capsize=5
        )
    axes.set_xscale("log")
    axes.set(title=legible(title, None), xlabel="training images", ylabel="validation accuracy")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(loc="lower right")
    figure.supxlabel(textwrap.fill(legible(found.answer, None), 100), fontsize=8)
    save(figure, path)


def plot_reliability(found: Calibration, path: Path, *, title: str) -> None:
    """Plot accuracy against confidence before and after temperature scaling, with the number of images per bin."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    figure.suptitle(legible(title, None))
    panels: Any = figure.subplots(2, 2, sharex=True, height_ratios=[4, 1])
    sides = {
        f"before: rms calibration error {found.before.rms_calibration_error.value:.3f}": found.before,
        f"after, T = {found.temperature:.3g}: {found.after.rms_calibration_error.value:.3f}": found.after,
    }
    for (axes, below), (name, side) in zip(panels.T, sides.items(), strict=True):
        width, filled = np.diff(side.edges), side.counts > 0
        axes.bar(
            side.edges[:-1],
            side.accuracy,
            width,
            align="edge",
            edgecolor="white",
            label="accuracy per bin",
        )
        axes.plot(
            side.confidence[filled],
            side.accuracy[filled],
            "o",
            color="black",
            markersize=3,
            label="at the mean probability of the bin",
        )
        axes.plot([0, 1], [0, 1], "--", color="grey", linewidth=1, label="perfect calibration")
        axes.set(title=name, ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
        below.bar(side.edges[:-1], side.counts, width, align="edge", color="grey", edgecolor="white")
        below.set(xlabel="probability of the predicted class", ylabel="images")
    handles = panels[0][0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3)
    save(figure, path)
