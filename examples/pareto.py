"""Compare three heads on three pretrained backbones on scikit-learn's digits, and plot accuracy against time.

Needs no network and takes two minutes on two cores: pip install 'frostline[zoo]', then python examples/pareto.py. Results
that exist are not computed again.
"""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from frostline.pipeline import Leaderboard, compare, extract, train_head
from frostline.pipeline.demo import write_digits

BACKBONES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
HEADS = ("linear", "knn", "lda")
FOLDER = Path("pareto")


def main() -> None:
    """Extract, train, compare, draw."""
    write_digits(FOLDER / "digits")
    runs = []
    for backbone in BACKBONES:
        cache = FOLDER / f"{backbone}.h5"
        extract(FOLDER / "digits", backbone=backbone, image_size=64, cache=cache)
        for head in HEADS:
            run = FOLDER / f"{backbone}-{head}"
            if not run.exists():
                print(f"{run}: {train_head(cache, head, run=run).validation['accuracy']:.2%}")
            runs.append(run)
    board = compare(runs, sort="total")
    draw(board, FOLDER / "pareto.png")
    print(f"{board.best.summary.name} is the most accurate; see {FOLDER / 'pareto.png'}")


def draw(board: Leaderboard, path: Path) -> None:
    """Draw each run, its interval, and the line of those that none beats in both accuracy and time."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    known = [
        (place, seconds, accuracy)
        for place in board.places
        if (seconds := place.summary.cost.total_seconds) and (accuracy := place.accuracy)
    ]
    for head in HEADS:
        some = [(seconds, accuracy) for place, seconds, accuracy in known if place.summary.head == head]
        errors = [(each.value - each.low, each.high - each.value) for _, each in some]
        axes.errorbar(
            [seconds for seconds, _ in some],
            [accuracy.value for _, accuracy in some],
            list(zip(*errors, strict=True)),
            fmt="o",
            capsize=3,
            label=head,
        )
    front = [(seconds, each.value) for place, seconds, each in known if place.on_time_front]
    axes.plot(*zip(*sorted(front), strict=True), color="grey", zorder=0, label="none is better in both")
    for place, seconds, accuracy in known:
        at = (seconds, accuracy.value)
        backbone = place.summary.backbones[0].removeprefix("embedded:efficientnet_")
        axes.annotate(backbone, at, (4, 4), textcoords="offset points", fontsize="small")
    axes.set(xscale="log", xlabel="extraction and training, s", ylabel=f"{board.split} accuracy")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
