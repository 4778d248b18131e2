"""Accuracy by number of labelled images if they are chosen by `frostline suggest`, or at random.

python benchmarks/suggest.py [FOLDER ...] [--start 40] [--step 40] [--rounds 5] [--seeds 10] [--l2 1] [--json FILE]

Takes folders of images by class, or caches; by default scikit-learn's digits as images. Features are those of the default backbone
(--image-size 64, for small images). For each seed a third of the images is set aside, and the labels of the others are
hidden but for --start random ones, the same for all rules. Each round, a rule chooses --step images, whose labels are
shown, and a linear head is fitted to all that are labelled. Printed is the mean accuracy on the images set aside, and
the difference from random draws of the same seed, with the standard error of its mean.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.heads.linear import LinearHead
from frostline.classifiers.inspection.selection import Rule, doubts, rows_to_label
from frostline.commands.interface.terminal import print_table
from frostline.features.cache import FeatureCache
from frostline.pipeline import extract
from frostline.pipeline.demo import write_digits

RULES = ("random", "coreset", "uncertainty", "both")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="images by class, or a cache")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--start", type=int, default=40, help="random images that are labelled first")
    parser.add_argument("--step", type=int, default=40, help="images that are labelled in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--l2", type=float, default=1.0, help="strength of the penalty of the head")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = {}
    with tempfile.TemporaryDirectory() as folder:
        for data in options.folders or [_digits(Path(folder))]:
            path = data
            if data.is_dir():
                path = extract(
                    data, cache=Path(folder) / "c.h5", image_size=options.image_size, overwrite=True
                ).cache
            cache = FeatureCache.open(path)
            rows = np.flatnonzero(cache.ok & (cache.labels >= 0))
            X = np.asarray(cache.features(), np.float32)[rows]
            found = simulate(
                X, cache.labels[rows], RULES, start=options.start, step=options.step, rounds=options.rounds,
                seeds=range(options.seeds), l2=options.l2,
            )  # fmt: skip
            show(data.name, found, options)
            report[data.name] = {rule: values.tolist() for rule, values in found.items()}
    if options.json:
        options.json.write_text(json.dumps(report, indent=2), encoding="utf-8")


def _digits(folder: Path) -> Path:
    write_digits(folder / "digits")
    return folder / "digits"


def simulate(
    X: NDArray[np.float32],
    y: NDArray[np.int64],
    rules: Sequence[str],
    *,
    start: int,
    step: int,
    rounds: int,
    seeds: Sequence[int],
    l2: float,
) -> dict[str, NDArray[np.float64]]:
    """Return the (seeds, rounds + 1) accuracies of each rule; ``random`` is a rule as well."""
    found = {rule: np.empty((len(seeds), rounds + 1)) for rule in rules}
    for number, seed in enumerate(seeds):
        order = np.random.default_rng(seed).permutation(len(y))
        test, pool = order[: len(y) // 3], order[len(y) // 3 :]
        for rule in rules:
            labelled, hidden = np.sort(pool[:start]), np.sort(pool[start:])
            for turn in range(rounds + 1):
                head = LinearHead(l2=l2).fit(X[labelled], y[labelled])
                predicted = head.classes_[head.predict_proba(X[test]).argmax(axis=1)]
                found[rule][number, turn] = (predicted == y[test]).mean()
                if turn < rounds:
                    chosen = _choose(
                        rule, X, hidden, labelled, count=min(step, len(hidden)), head=head, seed=seed
                    )
                    labelled, hidden = np.union1d(labelled, chosen), np.setdiff1d(hidden, chosen)
    return found


def _choose(
    rule: Any,
    X: NDArray[np.float32],
    hidden: NDArray[np.int64],
    labelled: NDArray[np.int64],
    *,
    count: int,
    head: LinearHead,
    seed: int,
) -> NDArray[np.int64]:
    if rule == "random":
        return np.random.default_rng([seed, len(labelled)]).permutation(hidden)[:count]
    named: Rule = rule
    doubt = doubts(np.asarray(head.predict_proba(X[hidden]), np.float64), "margin")
    return rows_to_label(X, hidden, labelled, count, named, doubt=doubt, seed=seed).rows


def show(name: str, found: dict[str, NDArray[np.float64]], options: argparse.Namespace) -> None:
    sizes = [str(options.start + options.step * turn) for turn in range(options.rounds + 1)]
    plain = found["random"]
    table = [[rule, *(f"{value:.3f}" for value in values.mean(axis=0))] for rule, values in found.items()]
    for rule, values in found.items():
        if rule != "random":
            gap = values - plain
            error = gap.std(axis=0, ddof=1) / len(gap) ** 0.5
            table.append(
                [
                    f"{rule} - random",
                    *(f"{m:+.3f} ± {e:.3f}" for m, e in zip(gap.mean(axis=0), error, strict=True)),
                ]
            )
    print_table(["labelled images", *sizes], table, title=f"{name}: accuracy, mean of {len(plain)} seeds")
    print()


if __name__ == "__main__":
    main()
