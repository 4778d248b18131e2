"""The linear head's path against scikit-learn's, its cost by rows, a million rows in bounded memory, MLPs together.

python benchmarks/heads.py [--quick] [--values 3] [--rows] [--mlp] [--million] [--json FILE]
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from classifiers import MLPHead, linear_path
from classifiers.heads import HEADS
from classifiers.mlp_batch import fit_together

L2S = HEADS["linear"].grid({})["l2"]


class Features:
    """Correlated features of very different scales, with classes that overlap."""

    def __init__(self, d: int, k: int, *, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.centres = 0.6 * rng.normal(size=(k, 64)).astype(np.float32)
        self.mixing = (rng.normal(size=(64, d)) * np.geomspace(1, 0.1, 64)[:, None]).astype(np.float32)
        self.scale = np.geomspace(0.1, 10, d).astype(np.float32)

    def draw(self, n: int, seed: int) -> tuple[Any, Any]:
        """Rows (n, d) float32 and their classes."""
        rng = np.random.default_rng(seed)
        y = rng.integers(0, len(self.centres), n)
        hidden = self.centres[y] + 1.5 * rng.standard_normal((n, 64), np.float32)
        noise = 0.7 * rng.standard_normal((n, len(self.scale)), np.float32)
        return (hidden @ self.mixing + noise) * self.scale, y


def objective(Z: Any, y: Any, coef: Any, intercept: Any, l2: float) -> float:
    scores = log_softmax(Z @ coef.T + intercept, axis=1)
    return float(-scores[np.arange(len(y)), y].mean() + l2 / 2 * (coef**2).sum())


def path(options: argparse.Namespace) -> dict[str, Any]:
    n, d, k = (3000, 256, 20) if options.quick else (20_000, 1280, 100)
    features = Features(d, k)
    (X, y), (Xt, yt) = features.draw(n, 1), features.draw(n // 4, 2)
    began = time.perf_counter()
    solutions = list(linear_path(X, y, L2S, device="cpu"))
    seconds = time.perf_counter() - began
    scaler = StandardScaler().fit(X)
    Z, Zt = scaler.transform(X), scaler.transform(Xt)
    accuracies = [float(((Xt @ s.coef.T + s.intercept).argmax(1) == yt).mean()) for s in solutions]
    measured = np.linspace(0, len(L2S) - 1, options.values + 2).astype(int)[1:-1]
    model = LogisticRegression(warm_start=True, max_iter=10_000)
    rows = []
    for index in measured:
        mine = solutions[index]
        model.set_params(C=1 / (mine.l2 * n), tol=1e-4)
        began = time.perf_counter()
        model.fit(Z, y)
        theirs = time.perf_counter() - began
        accuracy = float((model.predict(Zt) == yt).mean())
        row = {"l2": mine.l2, "seconds": mine.seconds, "iterations": mine.iterations, "sklearn": theirs}
        row |= {"accuracy": accuracies[index], "sklearn_accuracy": accuracy}
        if options.tight:
            tight = LogisticRegression(C=1 / (mine.l2 * n), tol=1e-7, max_iter=10_000).fit(Z, y)
            best = objective(Z, y, tight.coef_, tight.intercept_, mine.l2)
            own = mine.intercept + mine.coef @ scaler.mean_
            row["excess"] = objective(Z, y, mine.coef * scaler.scale_, own, mine.l2) / best - 1
        rows.append(row)
        print("  ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
    expected = float(np.mean([row["sklearn"] for row in rows])) * len(L2S)
    result = {"rows": n, "features": d, "classes": k, "values": len(L2S), "seconds": seconds}
    result |= {"sklearn_seconds_extrapolated": expected, "ratio": expected / seconds, "measured": rows}
    print(
        f"{len(L2S)} values: {seconds:.1f} s, scikit-learn {expected:.0f} s (extrapolated): {expected / seconds:.1f}x"
    )
    return result


def by_rows(options: argparse.Namespace) -> list[dict[str, float]]:
    base, d, k = (1000, 128, 10) if options.quick else (5000, 640, 20)
    features, results = Features(d, k), []
    for times in (1, 2, 4, 8):
        X, y = features.draw(base * times, 1)
        began = time.perf_counter()
        solutions = list(linear_path(X, y, L2S, device="cpu"))
        seconds = time.perf_counter() - began
        iterations = sum(solution.iterations for solution in solutions)
        results.append({"rows": len(y), "seconds": seconds, "iterations": iterations})
        print(f"{len(y)} rows: {seconds:.2f} s, {iterations} iterations")
    return results


def million(options: argparse.Namespace) -> dict[str, float]:
    n, d, k = 100_000 if options.quick else 1_000_000, 1280, 10
    features = Features(d, k)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "features"
        labels = []
        with file.open("wb") as out:
            for seed in range(n // 10_000):
                X, y = features.draw(10_000, seed)
                out.write(X.astype(np.float16).tobytes())
                labels.append(y)
        mapped = np.memmap(file, np.float16, "r", shape=(n, d))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        theta = list(linear_path(mapped, np.concatenate(labels), [0.1, 0.01], device="cpu", memory=2**30))
        seconds = time.perf_counter() - began
        extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
        iterations = sum(each.iterations for each in theta)
    print(
        f"{n} x {d} float16, 2 strengths: {seconds:.0f} s, {iterations} iterations, {extra:.2f} GiB more at peak"
    )
    return {"rows": n, "seconds": seconds, "iterations": iterations, "peak_gib_above_start": extra}


def mlps(options: argparse.Namespace) -> dict[str, float]:
    n, d, k = (1000, 64, 5) if options.quick else (3000, 256, 10)
    X, y = Features(d, k).draw(n, 1)
    common = {"hidden": (64,), "epochs": 10, "batch_size": 64, "dropout": 0, "device": "cpu"}
    rates = np.geomspace(1e-4, 1e-2, 8)
    own = [{"lr": lr, "weight_decay": decay} for lr in rates for decay in (0, 1e-3, 1e-2, 1e-1)]
    began = time.perf_counter()
    alone = [MLPHead(**common, **each).fit(X, y) for each in own]
    middle = time.perf_counter()
    together = fit_together([MLPHead(**common, **each) for each in own], X, y)
    ended = time.perf_counter()
    gap = max(
        float(np.abs(a.predict_proba(X) - b.predict_proba(X)).max())
        for a, b in zip(alone, together, strict=True)
    )
    ratio = (middle - began) / (ended - middle)
    print(
        f"{len(own)} MLPs: alone {middle - began:.1f} s, together {ended - middle:.1f} s, {ratio:.1f}x, gap {gap:.1e}"
    )
    return {"alone": middle - began, "together": ended - middle, "ratio": ratio, "largest_gap": gap}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("quick", "tight", "rows", "mlp", "million", "skip-path"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--values", type=int, default=3, help="strengths that scikit-learn is measured at")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result: dict[str, Any] = {"threads": torch.get_num_threads(), "load": os.getloadavg()}
    if not options.skip_path:
        result["path"] = path(options)
    for name, measure in (("rows", by_rows), ("million", million), ("mlp", mlps)):
        if getattr(options, name):
            result[name] = measure(options)
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text)


if __name__ == "__main__":
    main()
