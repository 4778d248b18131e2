"""Find nearest neighbours with KNNHead and with scikit-learn's brute force, in turns, and compare.

python benchmarks/knn.py [--rows 50000] [--dim 1280] [--queries 2000] [--rounds 3] [--threads N] [--device cpu] [--json FILE]

Features are synthetic: sparse and clustered like a backbone's, and sorted by class as image folders are. Both sides run
in one process with the same number of threads. Wall time is what a user waits for. On a machine that others share, use
CPU time with --threads 1, where no thread waits for another.
"""

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits

from frostline.classifiers.heads.knn import KNNHead
from frostline.commands.interface.terminal import print_table

CLASSES, NEIGHBORS = 100, 10
CHECKED = 200  # queries compared with scikit-learn in float64
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
        threadpool_limits(options.threads)
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLASSES, options.dim)).astype(np.float32)
    X, y = features(centres, options.rows, rng)
    queries, _ = features(centres, options.queries, rng)
    result: dict[str, Any] = {
        "options": {name: str(value) for name, value in vars(options).items()},
        "comparison": [compare(metric, X, y, queries, options) for metric in ("cosine", "euclidean")],
        "scaling": scaling(X, y, queries, options),
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))
    if not all(line["same neighbours"] for line in result["comparison"]):
        sys.exit("the neighbours differ")


def features(
    centres: NDArray[np.float32], n: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    y = np.sort(rng.integers(0, CLASSES, n))
    X = rng.standard_normal((n, centres.shape[1]), dtype=np.float32)
    X += 0.5 * centres[y]
    return np.maximum(X, 0, out=X), y


def compare(
    metric: Any, X: NDArray[Any], y: NDArray[Any], queries: NDArray[Any], options: argparse.Namespace
) -> dict[str, Any]:
    sides = {
        "frostline": KNNHead(NEIGHBORS, metric=metric, device=options.device),
        "scikit-learn": KNeighborsClassifier(NEIGHBORS, metric=metric, algorithm="brute"),
    }
    costs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, head in sides.items():
            head.fit(X, y)
            costs[name].append(cost(functools.partial(head.predict, queries)))
    best = {name: summary(lines) for name, lines in costs.items()}
    ratios = [best["scikit-learn"][i] / best["frostline"][i] for i in (0, 1)]
    same = equal_neighbours(metric, X, y, queries[:CHECKED], options.device)
    title = f"{len(queries):,} queries among {len(X):,} x {X.shape[1]} float32, k = {NEIGHBORS}, {metric}"
    lines = [[name, f"{w:.2f}", f"{c:.2f}", f"{m:.0f}"] for name, (w, c, m) in best.items()]
    lines.append(["ratio", f"{ratios[0]:.2f}", f"{ratios[1]:.2f}", "-"])
    print_table(["side", "wall s", "CPU s", "peak MB above start"], lines, title=title)
    print(f"neighbours equal to scikit-learn's in float64: {same}\n")
    return {
        "metric": metric,
        "rounds": costs,
        "wall ratio": ratios[0],
        "CPU ratio": ratios[1],
        "same neighbours": same,
    }


def equal_neighbours(
    metric: Any, X: NDArray[Any], y: NDArray[Any], queries: NDArray[Any], device: str
) -> bool:
    """Whether distances and rows are those of scikit-learn in float64, distances up to its rounding."""
    ours = KNNHead(NEIGHBORS, metric=metric, device=device).fit(X, y).kneighbors(queries)
    theirs = KNeighborsClassifier(NEIGHBORS, metric=metric, algorithm="brute").fit(X.astype(np.float64), y)
    distances, rows = theirs.kneighbors(queries.astype(np.float64))
    return bool(np.allclose(distances, ours.distances, rtol=1e-7) and np.array_equal(rows, ours.rows))


def scaling(
    X: NDArray[Any], y: NDArray[Any], queries: NDArray[Any], options: argparse.Namespace
) -> list[dict[str, float]]:
    """Cost of 1, 2, 4 and 8 eighths of the rows."""
    found = []
    for times in (1, 2, 4, 8):
        part = slice(None, None, 8 // times)  # all classes, still sorted
        head = KNNHead(NEIGHBORS, device=options.device).fit(np.ascontiguousarray(X[part]), y[part])
        runs = [cost(functools.partial(head.predict, queries)) for _ in range(options.rounds)]
        wall, cpu, peak = summary(runs)
        found.append({"rows": len(head.rows_), "wall": wall, "CPU": cpu, "MB": peak})
    headings = ["training rows", "wall s", "CPU s", "CPU against first", "peak MB above start"]
    lines = [
        [f"{rows:,}", f"{wall:.2f}", f"{cpu:.2f}", f"{cpu / found[0]['CPU']:.2f}", f"{peak:.0f}"]
        for rows, wall, cpu, peak in (each.values() for each in found)
    ]
    print_table(headings, lines, title="cosine, growing")
    return found


def cost(call: Callable[[], object]) -> tuple[float, float, float]:
    """Wall and CPU seconds, and the peak of memory above the start in MB (Linux; nan elsewhere)."""
    before = memory("VmRSS:")
    if CLEAR.exists():
        CLEAR.write_text("5")  # forget the peak so far
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu, memory("VmHWM:") - before


def summary(runs: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    """The least time, and the most memory: what a round frees, the next one may find again."""
    wall, cpu, peak = zip(*runs, strict=True)
    return min(wall), min(cpu), max(peak)


def memory(field: str) -> float:
    if not STATUS.exists():
        return float("nan")
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
