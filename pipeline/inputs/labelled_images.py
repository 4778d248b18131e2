"""Selection of the layer and the rows of a cache for training."""

from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.errors import SplitError
from frostline.classifiers.protocol.splits import SplitReport, assign_splits, check_splits
from frostline.errors import OptionError
from frostline.features.cache import FeatureCache
from frostline.features.spec import Layer
from frostline.pipeline.errors import RunError
from frostline.pipeline.options.learning.splits import DEFAULT_FRACTIONS
from frostline.splits import Split

Rule = Literal[1, 2]

HASH_RULE: Final = 1
"""Version of the rule of division by which runs of earlier versions were divided: by the hash alone."""

CLASS_RULE: Final = 2
"""Version of the rule of division by which runs are divided now: by the hash within each class."""


class LabelledImages(Protocol):
    """Per-row data that splits are derived from: a cache, or a set of images without one."""

    @property
    def path(self) -> Path | str:
        """Path or URL, for messages."""

    @property
    def ids(self) -> NDArray[Any]:
        """(n,) str names of the images."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) indices into the classes, -1 for unknown."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""

    @property
    def split(self) -> NDArray[np.uint8]:
        """(n,) uint8 declared splits, codes of `Split`."""

    @property
    def groups(self) -> NDArray[Any]:
        """(n,) str names of the groups, empty for no group."""

    @property
    def content(self) -> NDArray[np.uint8]:
        """(n, 16) uint8 digests of the image bytes."""

    @property
    def ok(self) -> NDArray[np.bool_]:
        """(n,) bool mask of the images that could be read."""


def choose_layer(cache: FeatureCache, layer: str | None) -> Layer:
    """Return a layer of the cache by its key or name, or the only layer if `layer` is None.

    Raises:
        RunError: The layer does not exist, or the choice is ambiguous.
    """
    layers = cache.layers
    if layer is None:
        if len(layers) == 1:
            return layers[0]
        problem = "holds several layers; choose one with --layer"
    else:
        found = [each for each in layers if layer in {each.key, each.name}]
        if len(found) == 1:
            return found[0]
        problem = f"holds no layer {layer!r}" if not found else f"holds {layer!r} under several pools"
    raise RunError(f"{cache.path} {problem}: {', '.join(each.key for each in layers)}.")


def split_rows(
    images: LabelledImages,
    fractions: tuple[float, float, float] = DEFAULT_FRACTIONS,
    *,
    rule: Rule = CLASS_RULE,
    known: NDArray[np.uint8] | None = None,
) -> tuple[NDArray[np.uint8], SplitReport]:
    """Split the labelled, readable rows of a cache or another set of images into train, val and test.

    The same images and fractions always give the same split; see `frostline.classifiers.protocol.splits.assign_splits`.

    Args:
        images: The rows.
        fractions: Shares of train, val and test for data without declared splits.
        rule: Version of the rule of division: `CLASS_RULE`, or `HASH_RULE` as in earlier versions.
        known: (n,) codes of rows that keep the split of an earlier division; see `assign_splits`.

    Returns:
        (n,) uint8 codes of `Split`, `Split.NONE` for all other rows, and a report on the split.

    Raises:
        OptionError: `images` is a path.
        SplitError: No row is labelled, or a class has no training rows.
    """
    if isinstance(images, str | Path):
        raise OptionError(
            f"images: got the path {str(images)!r}, expected an open cache: FeatureCache.open(path)"
        )
    if (images.labels < 0).all():
        raise SplitError(
            f"{images.path}: no label is known of any of its {len(images.labels)} images. Expected class folders, or a"
            " manifest with the column label (--label-column names another); extract again after the change"
        )
    split = divide_rows(images, fractions, rule=rule, known=known)
    declared = bool((images.split[split != Split.NONE] != Split.NONE).any())
    return split, check_splits(
        split, images.labels, images.classes, fractions=None if declared else fractions
    )


def divide_rows(
    images: LabelledImages,
    fractions: tuple[float, float, float],
    *,
    rule: Rule = CLASS_RULE,
    known: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Split rows like `split_rows`, without checking that there are training rows."""
    return assign_splits(
        images.split,
        images.content,
        images.groups,
        labels=images.labels if rule == CLASS_RULE else None,
        fractions=fractions,
        usable=images.ok & (images.labels >= 0),
        known=known,
    )
