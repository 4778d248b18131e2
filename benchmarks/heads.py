"""Measure the linear head's path against scikit-learn's, its cost by rows, MLPs trained together, k-NN and a large cache.

python benchmarks/heads.py [--quick] [--only path rows small excess mlp knn large] [--values 45] [--references 5] [--tol 1e-4 1e-7] [--json FILE]

path: multinomial logistic regression at --values of the 45 default strengths, evenly spaced, each warm-started at the
last, by linear_path and by scikit-learn's LogisticRegression at each --tol, in turn, on one thread each. Seconds are CPU
seconds, which other work on the machine hardly changes. At --references of the strengths, scikit-learn continues from
linear_path's solution to a gradient of 1e-8; the excess of a solver is the distance of its objective from that. small:
train-head on 800 rows, also with --cv 3, against scikit-learn's warm-started path on the same folds. excess: the
distance of fits and paths from a Newton optimum on hard rows, in units of their tolerance. knn and large run knn.py and
large_cache.py.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from frostline.classifiers import LinearHead, MLPHead, linear_path
from frostline.classifiers.fitting.inputs import FitOptions, LabelledRows
from frostline.classifiers.fitting.search import SearchPlan, search_head
from frostline.classifiers.heads.catalog import HEADS
from frostline.classifiers.heads.mlp import fit_together
from frostline.commands.interface.terminal import print_table

L2S = HEADS["linear"].grid({})["l2"]
TIGHT = 1e-8


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
    logits = Z @ coef.T + intercept
    if logits.shape[1] == 1:
        logits = np.hstack([np.zeros_like(logits), logits])
    scores = log_softmax(logits, axis=1)
    return float(-scores[np.arange(len(y)), y].mean() + l2 / 2 * (coef**2).sum())


def path(options: argparse.Namespace) -> dict[str, Any]:
    n, d, k = (3000, 256, 20) if options.quick else (20_000, 1280, 100)
    l2s = [L2S[place] for place in evenly(len(L2S), options.values)]
    features = Features(d, k)
    (X, y), (held, held_y) = features.draw(n, 1), features.draw(n // 4, 2)
    scaler = StandardScaler().fit(X)
    Z, held_Z = scaler.transform(X), scaler.transform(held)

    def judge(coef: Any, intercept: Any, l2: float) -> tuple[float, float]:
        accuracy = float(((held_Z @ coef.T + intercept).argmax(1) == held_y).mean())
        return objective(Z, y, coef, intercept, l2), accuracy

    began = time.process_time()
    solutions = list(linear_path(X, y, l2s, device="cpu"))
    seconds = time.process_time() - began
    ours = [(s.coef * scaler.scale_, s.intercept + s.coef @ scaler.mean_) for s in solutions]
    sides = {"linear_path": (seconds, [judge(*each, l2) for each, l2 in zip(ours, l2s, strict=True)])}
    print(f"linear_path: {seconds:.1f} s, {sum(s.iterations for s in solutions)} iterations", flush=True)
    for tol in options.tol:
        sides[f"scikit-learn, tol {tol:g}"] = sklearn_path(Z, y, l2s, tol, judge)
    best = {}
    for place in evenly(len(l2s), options.references):
        best[place] = objective(Z, y, *refine(Z, y, l2s[place], *ours[place]), l2s[place])
    result = {"rows": n, "features": d, "classes": k, "strengths": l2s, "references": [l2s[i] for i in best]}
    lines = []
    for name, (cost, judged) in sides.items():
        excess = [judged[place][0] / least - 1 for place, least in best.items()]
        chosen = max(accuracy for _, accuracy in judged)
        result[name] = {"CPU seconds": cost, "excess": excess, "accuracy": chosen, "ratio": cost / seconds}
        lines.append([name, f"{cost:.1f}", f"{cost / seconds:.1f}", f"{max(excess):.1e}", f"{chosen:.4f}"])
    headings = ["side", "CPU s", "times linear_path", "largest excess", "accuracy of the best"]
    print_table(headings, lines, title=f"{len(l2s)} strengths, {n:,} x {d:,}, {k} classes, one thread")
    return result


def sklearn_path(Z: Any, y: Any, l2s: Any, tol: float, judge: Any) -> tuple[float, list[tuple[float, float]]]:
    model = LogisticRegression(warm_start=True, max_iter=10_000, tol=tol)
    seconds, judged = 0.0, []
    for l2 in l2s:
        began = time.process_time()
        model.set_params(C=1 / (l2 * len(y))).fit(Z, y)
        seconds += time.process_time() - began
        judged.append(judge(model.coef_, model.intercept_, l2))
        print(
            f"scikit-learn, tol {tol:g}: l2 {l2:g}, {model.n_iter_[0]} iterations, {seconds:.1f} s so far",
            flush=True,
        )
    return seconds, judged


def refine(Z: Any, y: Any, l2: float, coef: Any, intercept: Any) -> tuple[Any, Any]:
    """scikit-learn's solution to tight tolerance, from one nearby."""
    model = LogisticRegression(C=1 / (l2 * len(y)), warm_start=True, max_iter=10_000, tol=TIGHT)
    model.coef_, model.intercept_, model.classes_ = (
        coef.astype(Z.dtype),
        intercept.astype(Z.dtype),
        np.unique(y),
    )
    model.fit(Z, y)
    return model.coef_, model.intercept_


def evenly(count: int, wanted: int) -> list[int]:
    """Places among `count`, both ends among them."""
    return sorted(set(np.linspace(0, count - 1, min(count, wanted)).round().astype(int).tolist()))


def by_rows(options: argparse.Namespace) -> list[dict[str, float]]:
    base, d, k = (1000, 128, 10) if options.quick else (5000, 640, 20)
    features, found = Features(d, k), []
    for times in (1, 2, 4, 8):
        X, y = features.draw(base * times, 1)
        began = time.process_time()
        solutions = list(linear_path(X, y, L2S, device="cpu"))
        seconds = time.process_time() - began
        iterations = sum(solution.iterations for solution in solutions)
        found.append({"rows": len(y), "CPU seconds": seconds, "iterations": iterations})
    lines = [
        [
            f"{r['rows']:,}",
            f"{r['CPU seconds']:.2f}",
            str(r["iterations"]),
            f"{r['CPU seconds'] / found[0]['CPU seconds']:.2f}",
        ]
        for r in found
    ]
    headings = ["rows", "CPU s", "iterations", "CPU against first"]
    print_table(headings, lines, title=f"{len(L2S)} strengths, {d} features, {k} classes, growing")
    return found


def small(options: argparse.Namespace) -> dict[str, Any]:
    n, d, k = (200, 320, 5) if options.quick else (800, 1280, 10)
    X, y = Features(d, k).draw(n, 1)
    parts = np.arange(n) % 3
    folds = [(np.flatnonzero(parts != part), np.flatnonzero(parts == part)) for part in range(3)]
    began = time.process_time()
    solutions = list(linear_path(X, y, L2S, device="cpu"))
    middle = time.process_time()
    names = [str(label) for label in range(k)]
    rows = LabelledRows(X, y, *folds[0], names)
    found = search_head("linear", rows, SearchPlan(), FitOptions(device="cpu"), folds=folds)
    LinearHead(found.params["l2"], device="cpu").fit(X, y)
    ours = {"path": middle - began, "three folds and the fit": time.process_time() - middle}
    Z = StandardScaler().fit_transform(X)
    theirs = {"path": sklearn_path(Z, y, L2S, options.tol[0], lambda *_: (0.0, 0.0))[0]}
    theirs["three folds and the fit"] = sum(
        sklearn_path(
            StandardScaler().fit_transform(X[fit]), y[fit], L2S, options.tol[0], lambda *_: (0.0, 0.0)
        )[0]
        for fit, _ in folds
    )
    lines = [
        [name, f"{ours[name]:.2f}", f"{theirs[name]:.2f}", f"{theirs[name] / ours[name]:.1f}"]
        for name in ours
    ]
    headings = ["what", "CPU s", "scikit-learn CPU s", "ratio"]
    print_table(headings, lines, title=f"{len(L2S)} strengths, {n:,} x {d:,}, {k} classes, one thread")
    return {"iterations": sum(s.iterations for s in solutions), "ours": ours, "scikit-learn": theirs}


def hard_rows() -> Iterator[tuple[str, Any, Any]]:
    """Rows (n, d) float64 and classes on which few iterations are not enough."""
    rng = np.random.default_rng(0)

    def draw(counts: list[int], d: int, separation: float = 0.5) -> tuple[Any, Any]:
        y = np.repeat(np.arange(len(counts)), counts)
        return separation * rng.normal(size=(len(counts), d))[y] + rng.normal(size=(len(y), d)), y

    X, y = draw([100] * 4, 40)
    yield "collinear", np.hstack([X, X[:, :20] + 1e-4 * rng.normal(size=(400, 20))]), y
    for condition in (1e4, 1e6, 1e8):
        X, y = draw([150] * 4, 40)
        left, _, right = np.linalg.svd(X, full_matrices=False)
        yield f"condition {condition:.0e}", (left * np.geomspace(1, 1 / condition, 40)) @ right * 20, y
    yield "1 : 1000", *draw([2000, 2], 20)
    yield "1 : 20 : 800", *draw([1600, 40, 2], 20)
    X, y = draw([100] * 4, 40)
    yield "scales 1e-12 to 1e12", X * np.geomspace(1e-12, 1e12, 40), y
    X, y = draw([15] * 4, 40)
    copies = np.where(np.arange(60) % 6 == 0, 100, 1)
    yield "duplicated", X.repeat(copies, axis=0), y.repeat(copies)
    yield "separable", *draw([100] * 4, 40, 4)
    X, y = draw([100] * 5, 8, 1)
    yield "rectified", np.maximum(X @ rng.normal(size=(8, 100)) - 4, 0), y


def excesses(options: argparse.Namespace) -> list[dict[str, Any]]:
    l2s = (1.0, 1e-2, 1e-4) if options.quick else (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    tol, found = 1e-4, []
    for name, X, y in hard_rows():
        scaler = StandardScaler().fit(X)
        Z = scaler.transform(X)
        best = {l2: objective(Z, y, *newton(Z, y, l2), l2) for l2 in l2s}

        def off(coef: Any, intercept: Any, l2: float, known: Any = (Z, y, scaler, best)) -> float:
            Z, y, scaler, best = known
            reached = objective(Z, y, coef * scaler.scale_, intercept + coef @ scaler.mean_, l2)
            return float((reached / best[l2] - 1) / tol)

        fits = [LinearHead(l2, tol=tol, max_iter=5000, device="cpu").fit(X, y) for l2 in l2s]
        path = list(linear_path(X, y, l2s, tol=tol, device="cpu"))
        found.append(
            {
                "rows": name,
                "fits": max(off(fit.coef_, fit.intercept_, l2) for fit, l2 in zip(fits, l2s, strict=True)),
                "fit iterations": sum(fit.n_iter_ for fit in fits),
                "path": max(off(each.coef, each.intercept, each.l2) for each in path),
                "path iterations": sum(each.iterations for each in path),
            }
        )
    lines = [[f"{v:.2f}" if isinstance(v, float) else str(v) for v in line.values()] for line in found]
    print_table(
        list(found[0]), lines, title=f"largest excess over {len(l2s)} strengths, in units of tol {tol:g}"
    )
    return found


def newton(Z: Any, y: Any, l2: float) -> tuple[Any, Any]:
    """scikit-learn's Newton optimum."""
    model = LogisticRegression(C=1 / (l2 * len(y)), solver="newton-cholesky", tol=1e-10, max_iter=200)
    model.fit(Z, y)
    return model.coef_, model.intercept_


def mlps(options: argparse.Namespace) -> dict[str, float]:
    n, d, k = (1000, 64, 5) if options.quick else (3000, 256, 10)
    X, y = Features(d, k).draw(n, 1)
    common: dict[str, Any] = {"hidden": (64,), "epochs": 10, "batch_size": 64, "dropout": 0, "device": "cpu"}
    rates = np.geomspace(1e-4, 1e-2, 8)
    own: list[dict[str, Any]] = [
        {"lr": lr, "weight_decay": decay} for lr in rates for decay in (0, 1e-3, 1e-2, 1e-1)
    ]
    began = time.process_time()
    alone = [MLPHead(**common, **each).fit(X, y) for each in own]
    middle = time.process_time()
    together = fit_together([MLPHead(**common, **each) for each in own], X, y)
    ended = time.process_time()
    gap = max(
        float(np.abs(a.predict_proba(X) - b.predict_proba(X)).max())
        for a, b in zip(alone, together, strict=True)
    )
    ratio = (middle - began) / (ended - middle)
    print(
        f"{len(own)} MLPs: alone {middle - began:.1f} s, together {ended - middle:.1f} s, {ratio:.1f}x, gap {gap:.1e}"
    )
    return {"alone": middle - began, "together": ended - middle, "ratio": ratio, "largest_gap": gap}


def beside(script: str, *arguments: str) -> dict[str, Any]:
    """Run another benchmark, which prints its own tables."""
    subprocess.run([sys.executable, str(Path(__file__).with_name(script)), *arguments], check=True)
    return {"command": [script, *arguments]}


def knn(options: argparse.Namespace) -> dict[str, Any]:
    small = ("--rows", "4000", "--queries", "200", "--dim", "256", "--rounds", "1") if options.quick else ()
    return beside("knn.py", "--threads", "1", *small)


def large(options: argparse.Namespace) -> dict[str, Any]:
    size = ("--rows", "20000", "--memory", "50MB") if options.quick else ()
    return beside("large_cache.py", *size)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = {
        "path": path,
        "rows": by_rows,
        "small": small,
        "excess": excesses,
        "mlp": mlps,
        "knn": knn,
        "large": large,
    }
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--values", type=int, default=len(L2S), help="how many of the 45 strengths")
    parser.add_argument("--references", type=int, default=5, help="strengths solved to tight tolerance")
    parser.add_argument("--tol", type=float, nargs="+", default=[1e-4], help="scikit-learn's, each timed")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"load": os.getloadavg()}
    with threadpool_limits(1):
        for name in options.only:
            result[name] = parts[name](options)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
