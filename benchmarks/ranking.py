"""Measure whether transferability scores rank backbones or layers as their heads perform, by rank correlations.

python benchmarks/ranking.py [RUN ...] [--json FILE]

Takes runs of train-head, each on one layer of one cache, all of the same images, for example those of a batch. Every
layer that a run read is scored as by `frostline rank`. For each kind of head the scores are correlated (Kendall's tau,
1 for the same order) with the runs' accuracies, averaged over seeds: on test if each run was evaluated, else on
validation. Without runs it trains a linear and a k-NN head on each of seven layers of the default backbone, on
scikit-learn's digits.
"""

import argparse
import json
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy.stats import kendalltau

from frostline.commands.interface.terminal import print_table
from frostline.pipeline import extract, train_head
from frostline.pipeline.demo import write_digits
from frostline.pipeline.inspection.rank_backbones import SCORES, rank
from frostline.pipeline.runs.summary import Split, Summary, summarise

LAYERS = ("embedding", *(f"blocks.{number}:avg" for number in range(1, 7)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = correlate(options.runs or digits_runs(Path(folder)))
    print(json.dumps(report))
    if options.json:
        options.json.write_text(json.dumps(report), encoding="utf-8")


def digits_runs(folder: Path) -> list[Path]:
    data = folder / "digits"
    write_digits(data)
    cache = extract(data, cache=folder / "digits.h5", image_size=64, layers=LAYERS).cache
    return [
        train_head(cache, head, layer=layer, run=folder / f"{layer}-{head}").run
        for layer in LAYERS
        for head in ("linear", "knn")
    ]


def correlate(runs: Sequence[Path]) -> dict[str, Any]:
    summaries = [summary for summary in map(summarise, runs) if len(summary.run.caches) == 1]
    split: Split = "test" if all(each.accuracy("test") for each in summaries) else "validation"
    accuracies: dict[str, dict[tuple[Path, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for summary in summaries:
        accuracy = summary.accuracy(split)
        if accuracy:
            accuracies[summary.head][where(summary)].append(accuracy.value)
    wanted = sorted({place for heads in accuracies.values() for place in heads})
    ranked = {
        (each.cache.resolve(), each.layer): each
        for path in sorted({path for path, _ in wanted})
        for each in rank([path]).ranked
    }
    lines, found = [], []
    for place in wanted:
        scores = {name: getattr(ranked[place], name) for name in SCORES}
        mine = {
            head: statistics.mean(values[place]) for head, values in accuracies.items() if place in values
        }
        candidate: dict[str, Any] = {"cache": str(place[0]), "layer": place[1], "accuracy": mine}
        found.append(candidate | scores)
        texts = ["-" if score is None else f"{score:.4f}" for score in scores.values()]
        lines.append([place[0].name, place[1], *texts, *(f"{mine.get(head, 0):.4f}" for head in accuracies)])
    print_table(["cache", "layer", *SCORES, *accuracies], lines, title=f"scores, and {split} accuracies")
    correlations = {
        head: {name: tau(found, name, head) for name in SCORES if found[0][name] is not None}
        for head in accuracies
    }
    rows = [[head, *(f"{value:+.2f}" for value in taus.values())] for head, taus in correlations.items()]
    title = f"Kendall's tau between score and accuracy, {len(wanted)} candidates"
    print_table(["head", *next(iter(correlations.values()))], rows, title=title)
    return {"split": split, "candidates": found, "kendall_tau": correlations}


def where(summary: Summary) -> tuple[Path, str]:
    return Path(summary.run.caches[0].path).resolve(), summary.layer


def tau(found: Sequence[dict[str, Any]], score: str, head: str) -> float:
    both = [(each[score], each["accuracy"][head]) for each in found if head in each["accuracy"]]
    return float(kendalltau(*zip(*both, strict=True)).statistic)


if __name__ == "__main__":
    main()
