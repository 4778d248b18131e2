"""Starting points of a training: a new linear head, or the head of an earlier run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from frostline.classifiers.fitting.fit import fit_head
from frostline.classifiers.fitting.fitted_head import FittedHead
from frostline.classifiers.fitting.inputs import FitOptions, LabelledRows
from frostline.classifiers.heads.linear import LinearHead
from frostline.features.backbones import Backbone
from frostline.features.backbones.weights import seeded
from frostline.features.cache import FeatureCache
from frostline.features.cache.imported.facts import describe_imported
from frostline.pipeline.errors import FinetuneError
from frostline.pipeline.inputs.joined_caches import find, image_digests
from frostline.pipeline.inputs.layers import layer_features
from frostline.pipeline.inputs.scanned_images import ImageSet
from frostline.pipeline.runs.run import Run, load_run

EMBEDDING = "embedding"
_LINEAR_SCALES = ("standard", "none")  # feature scalings that a linear layer can absorb


@dataclass(frozen=True)
class StartRun:
    """Run whose head, and backbone if it was fine-tuned, a training starts from."""

    run: Run

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a run.

        Raises:
            RunError: `path` is not a run.
            FinetuneError: The head is not a linear head on the embedding.
        """
        run = load_run(path)
        imported = next((each.spec for each in run.caches if each.spec.is_imported), None)
        if imported is not None:
            raise FinetuneError(
                f"{run.path} was trained on vectors that were {describe_imported(imported)}, so there is no network to"
                " fine-tune. Start from a run on a cache of frostline extract, or drop --from-run"
            )
        head = run.record.head
        scale = head.params.get("scale")
        plain = head.kind == "linear" and scale in _LINEAR_SCALES
        fitted = run.head() if plain else None
        if not fitted or run.layer != EMBEDDING or fitted.projection or fitted.columns:
            raise FinetuneError(
                f"{run.path} has a {head.kind!r} head on layer {run.layer!r}"
                f" (scale {scale!r}); fine-tuning starts from a linear head on {EMBEDDING!r}"
                f" with scale {' or '.join(_LINEAR_SCALES)}, without projection and side columns. Create one with: frostline train-head CACHE --head linear"
            )
        return cls(run)

    @property
    def tuned(self) -> bool:
        """Whether the backbone of the run was fine-tuned."""
        return self.run.tuned

    def check(self, net: Backbone) -> None:
        """Check that the backbone, weights and transform are those that the head was trained on.

        Raises:
            FinetuneError: One of them differs.
        """
        (trained,) = self.run.caches
        spec = trained.spec
        pairs = {
            "backbone": (spec.backbone, net.name),
            "weights": (spec.weights_sha256[:12], net.weights_sha256[:12]),
            "transform": (spec.transform, net.transform),
        }
        if self.tuned:
            del pairs["weights"]
        for name, (theirs, ours) in pairs.items():
            if theirs != ours:
                raise FinetuneError(
                    f"{self.run.path} was trained with {name} {theirs}, and this training has {ours}; pass the same"
                    " --backbone, --weights and --image-size, or drop --from-run"
                )

    def head(self, images: ImageSet, train: NDArray[np.int64]) -> nn.Linear:
        """Return the linear head; one that was trained on a cache is fitted again on the training rows alone.

        Raises:
            FinetuneError: The head has other classes, or its cache lacks some of the training images.
            FeaturesError: The cache is not usable.
        """
        fitted = self.run.head()
        if fitted.classes != images.classes:
            raise FinetuneError(
                f"{self.run.path} was trained on the classes {', '.join(fitted.classes)}; {images.path} has"
                f" {', '.join(images.classes)}"
            )
        if not self.tuned:
            fitted = self._refitted(images, train)
        return head_of(fitted)

    def _refitted(self, images: ImageSet, train: NDArray[np.int64]) -> FittedHead:
        (trained,) = self.run.caches
        try:
            cache = FeatureCache.open(trained.path)
        except FileNotFoundError as error:
            raise FinetuneError(
                f"{self.run.path} was trained on {trained.path}, which does not exist, and its head is fitted again on it."
                " If the cache was moved, run frostline train-head on it at its new place, and start from that run"
            ) from error
        rows = _rows_of(cache, images.content[train])
        if rows is None:
            raise FinetuneError(
                f"{cache.path}, on which {self.run.path} was trained, lacks some of the training images of {images.path};"
                " run extract and train-head again"
            )
        y = np.full(cache.rows, -1, np.int64)
        y[rows] = images.labels[train]
        return fit_head(
            "linear",
            LabelledRows(
                layer_features(cache, self.run.layer),
                y,
                np.unique(rows),
                np.zeros(0, np.int64),
                images.classes,
            ),
            FitOptions(self.run.record.head.params),
            refit=False,
        )


def _rows_of(cache: FeatureCache, content: NDArray[np.uint8]) -> NDArray[np.int64] | None:
    """Return the (k,) rows of a cache that hold the given images; None if one is missing."""
    readable = np.flatnonzero(cache.ok)
    found = find(image_digests(content), image_digests(cache.content[readable]))
    return readable[found] if (found >= 0).all() else None


def fresh_head(dim: int, classes: int, seed: int) -> nn.Linear:
    """Return an untrained head with small weights, so that the first gradients reach the backbone."""
    with seeded(seed):
        head = nn.Linear(dim, classes)
        nn.init.trunc_normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)
    return head


def head_of(fitted: FittedHead) -> nn.Linear:
    """Convert a fitted head to a linear layer over all classes; classes without training rows are never predicted."""
    estimator: Any = fitted.estimator
    coef, intercept = estimator.coef_, estimator.intercept_
    if len(estimator.classes_) == 2:  # binary: one logit, for the second class
        coef, intercept = np.concatenate([0 * coef, coef]), np.concatenate([0 * intercept, intercept])
    head = nn.Linear(coef.shape[1], len(fitted.classes))
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(float(intercept.min()) - 10.0)
        rows = torch.from_numpy(np.asarray(estimator.classes_, np.int64))
        head.weight[rows] = torch.from_numpy(coef).float()
        head.bias[rows] = torch.from_numpy(intercept).float()
    return head


def to_estimator(head: nn.Linear) -> LinearHead:
    """Convert a linear layer to a fitted head on unscaled features."""
    coef = head.weight.detach().cpu().double().numpy()
    intercept = head.bias.detach().cpu().double().numpy()
    if len(coef) == 2:
        coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
    tensors = {"coef": coef, "intercept": intercept, "classes": np.arange(head.out_features)}
    return LinearHead(scale="none").from_tensors(tensors)
