"""Search a cache and group its duplicates: time and memory, in turns with scikit-learn's brute force and faiss.

python benchmarks/search.py [--rows 10000 50000 200000] [--dim 512] [--queries 500] [--rounds 3] [--device cpu] [--json FILE]

Vectors are synthetic: clustered, with a tenth of near copies. Each measurement runs in a process of its own, all sides
with the same number of threads, and in turns. Wall and CPU seconds are the least of the rounds. Memory is the peak of
the process's resident memory (VmHWM) above that before the work, which holds the vectors. Neighbours are compared with
float64 brute force on some queries. faiss (pip install faiss-cpu) is left out if it is not installed.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
K, CHECKED, THRESHOLD = 20, 50, 0.95
SEARCHERS, GROUPERS = ("frostline", "scikit-learn", "faiss"), ("dedupe", "all alike", "outliers")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 50_000, 200_000])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--most", type=int, default=50_000, help="largest number of rows for dedupe and outliers"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one, options.rows[0], options)))
        return
    from frostline.commands.interface.terminal import print_table

    found = []
    for rows in options.rows:
        best: dict[str, dict[str, Any]] = {}
        for number in range(options.rounds):
            names = [*SEARCHERS, *(GROUPERS if rows <= options.most and not number else ())]
            for name in names:
                line = run(name, rows, options)
                known = best.setdefault(name, line)
                best[name] = line | {
                    key: min(line[key], known[key]) for key in ("wall", "CPU", "MB") if key in line
                }
        ours = best["frostline"]
        table = [
            [
                name,
                *(f"{each[key]:.2f}" for key in ("wall", "CPU")),
                f"{each['MB']:.0f}",
                f"{each['wall'] / ours['wall']:.2f}" if name in SEARCHERS else "",
                str(each.get("exact", "")),
            ]
            for name, each in best.items()
            if "wall" in each
        ]
        title = (
            f"{rows:,} x {options.dim} float32, {options.queries} queries, k = {K}, cosine, {options.device}"
        )
        print_table(["", "wall s", "CPU s", "MB", "wall ratio", "same as float64"], table, title=title)
        sys.stdout.flush()
        found.append({"rows": rows, **best})
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


def run(name: str, rows: int, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", name, "--rows", str(rows), "--dim", str(options.dim)]
    command += ["--queries", str(options.queries), "--device", options.device]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    line: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return line


def vectors(rows: int, dim: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((100, dim), dtype=np.float32)
    X = rng.standard_normal((rows, dim), dtype=np.float32)
    X += 0.5 * centres[rng.integers(0, 100, rows)]
    copies = rows // 10
    X[-copies:] = X[:copies] + 0.05 * X[-copies:]
    return X


def one(name: str, rows: int, options: argparse.Namespace) -> dict[str, Any]:
    if name == "faiss":
        try:
            import faiss
        except ImportError:
            return {"missing": True}
    import torch

    from frostline.classifiers.inspection.groups import duplicate_groups
    from frostline.classifiers.inspection.outliers import neighbour_scores
    from frostline.numerics.neighbors import RowSearch, Vectors

    X = vectors(rows, options.dim)
    if name == "all alike":
        X = (X[:1] + 1e-3 * X).astype(np.float32)
    queries = X[:: max(1, rows // options.queries)][: options.queries]
    content = np.arange(2 * rows).astype("<i8").view(np.uint8).reshape(rows, 16)
    labels = np.arange(rows) % 10
    RowSearch(Vectors(X[:64]), metric="cosine", device=torch.device(options.device)).nearest(
        Vectors(X[:8]), 2
    )
    before = memory("VmRSS:")
    if CLEAR.exists():
        CLEAR.write_text("5")
    wall, cpu = time.perf_counter(), time.process_time()
    nearest = None
    if name == "frostline":
        search = RowSearch(Vectors(X), metric="cosine", device=torch.device(options.device))
        nearest = search.nearest(Vectors(queries), K).rows
    elif name == "scikit-learn":
        from sklearn.neighbors import NearestNeighbors

        nearest = NearestNeighbors(metric="cosine", algorithm="brute").fit(X).kneighbors(queries, K)[1]
    elif name == "faiss":
        import faiss

        unit = X / np.linalg.norm(X, axis=1, keepdims=True)
        index = faiss.IndexFlatIP(X.shape[1])
        index.add(unit)
        nearest = index.search(queries / np.linalg.norm(queries, axis=1, keepdims=True), K)[1]
    elif name == "outliers":
        neighbour_scores(X, np.arange(rows), labels, 10, device=options.device)
    else:
        groups = duplicate_groups(
            X,
            np.arange(rows),
            content,
            threshold=THRESHOLD,
            centre=np.zeros(X.shape[1]),
            device=options.device,
        )
        assert len(np.unique(groups)) == (1 if name == "all alike" else rows - rows // 10)  # noqa: S101
    result = {
        "wall": time.perf_counter() - wall,
        "CPU": time.process_time() - cpu,
        "MB": memory("VmHWM:") - before,
    }
    if nearest is not None:
        result["exact"] = bool((nearest[:CHECKED] == brute_force(X, queries[:CHECKED])).all())
    return result


def brute_force(X: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.int64]:
    """The nearest rows by cosines in float64."""
    wide = X.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    ours = queries.astype(np.float64)
    cosines = ours / np.linalg.norm(ours, axis=1, keepdims=True) @ wide.T
    return np.argsort(-cosines, axis=1, kind="stable")[:, :K]


def memory(field: str) -> float:
    if not STATUS.exists():
        return float("nan")
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
