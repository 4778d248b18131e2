"""Compare a grid search on images with `ImageFeatures`, with a plain transformer, and on arrays that were extracted before.

python benchmarks/transformer.py [--images 100] [--folds 5] [--engine eager] [--n-jobs 1] [--json FILE]

The search tries three classifiers of scikit-learn on JPEG files of 500 x 375 pixels. Contenders:

- cold: `ImageFeatures` with an empty store.
- warm: the same again, as another notebook or a later run would. Processes and networks are warm as well.
- arrays: `frostline.extract`, then the search on the array of its features.
- plain: a transformer that one would write: Pillow, the network's own transform, and the fp32 network, in `transform`.

It also prints what a `transform` of stored features takes, for files that were just written, which are hashed each
time, and for settled ones, which are not read again.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_sample_images
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform

from frostline import FeatureCache, ImageFeatures, extract, load_backbone
from frostline.commands.interface.terminal import print_table

HEADS = [LogisticRegression(max_iter=1000), RidgeClassifier(), KNeighborsClassifier()]
BACKBONE = "efficientnet_lite0"


class PlainFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """The transformer that one would write."""

    net = load_backbone(BACKBONE).module
    pixels = create_transform(**resolve_model_data_config(net), is_training=False)  # type: ignore[no-untyped-call]

    def fit(self, X: Sequence[str], y: Any = None) -> Self:  # noqa: ARG002
        """Do nothing."""
        return self

    def transform(self, X: Sequence[str]) -> NDArray[np.float32]:
        """Return the (n, d) class scores of the network."""
        found = []
        with torch.inference_mode():
            for start in range(0, len(X), 32):
                batch = []
                for path in X[start : start + 32]:
                    with Image.open(path) as image:
                        batch.append(self.pixels(image.convert("RGB")))
                found.append(self.net(torch.stack(batch)).numpy())
        return np.concatenate(found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--engine", default="eager", help="of Frostline; the plain transformer is eager")
    parser.add_argument("--n-jobs", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options)
    rows = [[name, f"{seconds:.2f}", f"{seconds / figures['cold']:.3f}"] for name, seconds in figures.items()]
    print_table(["", "seconds", "relative to cold"], rows)
    if options.json:
        options.json.write_text(json.dumps(figures), encoding="utf-8")


def measure(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    paths, labels = write_photos(folder / "photos", options.images)
    ours = ImageFeatures(BACKBONE, engine=options.engine, cache=folder / "store")
    ours.transform(paths[:1])  # loads the network, as was done for the plain transformer

    def search(step: Any, X: Any) -> float:
        grid = {"logisticregression": HEADS}
        model = make_pipeline(step, HEADS[0])
        found = GridSearchCV(model, grid, cv=options.folds, n_jobs=options.n_jobs, error_score="raise")
        return float(found.fit(X, labels).best_score_)

    def on_arrays() -> float:
        cache = extract(
            folder / "photos",
            backbone=BACKBONE,
            engine=options.engine,
            precision="fp32",
            cache=folder / "c.h5",
        ).cache
        return search("passthrough", np.array(FeatureCache.open(cache).features()))

    contenders: dict[str, Callable[[], float]] = {
        "cold": lambda: search(ours, paths),
        "warm": lambda: search(ours, paths),
        "arrays": on_arrays,
        "plain": lambda: search(PlainFeatures(), paths),
    }
    figures, scores = {}, {}
    for name, run in contenders.items():
        began = time.perf_counter()
        scores[name] = run()
        figures[name] = time.perf_counter() - began
    print(f"scores: {scores}")
    for path in paths:
        os.utime(path)
    figures["transform of new files"] = median_time(lambda: ours.transform(paths))
    time.sleep(2.5)
    ours.transform(paths)
    figures["transform of settled files"] = median_time(lambda: ours.transform(paths))
    return figures


def median_time(run: Callable[[], Any], rounds: int = 5) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def write_photos(folder: Path, count: int) -> tuple[list[str], NDArray[np.int64]]:
    """Write different parts of two photos as JPEG files; return their paths and the numbers of their photos."""
    folder.mkdir()
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    random = np.random.default_rng(0)
    paths = []
    for number in range(count):
        left, top = (int(random.integers(0, limit)) for limit in (140, 52))
        path = folder / f"{number:05}.jpg"
        photos[number % 2].crop((left, top, left + 500, top + 375)).save(path, quality=90)
        paths.append(str(path))
    return paths, np.arange(count) % 2


if __name__ == "__main__":
    main()
