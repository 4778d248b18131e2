"""The split of a run: the images that its head was fitted and selected on, and those held out for its test."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from frostline.classifiers.protocol.splits import positions
from frostline.features.content import CONTENT_BYTES
from frostline.files.checksums import read_listed
from frostline.pipeline.errors import RunError
from frostline.pipeline.inputs.joined_caches import find, image_digests
from frostline.pipeline.inputs.labelled_images import LabelledImages
from frostline.pipeline.inputs.learning_rows import LearningRows
from frostline.pipeline.runs.record import Counts, SplitRecord
from frostline.splits import Split
from frostline.system.atomic import replace_file

SPLIT_FILE = "split.safetensors"

_MAX_BYTES = 1 << 34  # 33 bytes per image
_REMEDY = "Restore the file from a copy, or train again."


@dataclass(frozen=True, eq=False)
class RunSplit:
    """Images of a run with their splits, as recorded when it was trained.

    Attributes:
        content: (n,) digests of the images, as byte strings of 16 bytes.
        codes: (n,) uint8 codes of `Split`. A run of version 3 or earlier recorded no test images.
        labels: (n,) int64 indices into the classes of the run; None in a run of version 3 or earlier.
        positions: (n,) float64 hash positions of the images, or of their groups; None in a run of version 3 or
            earlier.
    """

    content: NDArray[np.bytes_]
    codes: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    positions: NDArray[np.float64] | None

    @property
    def trained(self) -> NDArray[np.bytes_]:
        """Digests of the images that the head was fitted or selected on."""
        held_out: NDArray[np.bool_] = self.codes == Split.TEST
        return self.content[~held_out]

    def known(self, images: LabelledImages) -> NDArray[np.uint8]:
        """Return the (n,) recorded code of each image, or of its group; `Split.NONE` for others."""
        codes = np.zeros(len(images.labels), np.uint8)
        rows = np.flatnonzero(images.ok & (images.labels >= 0))
        pairs: list[tuple[NDArray[Any], NDArray[Any]]] = [(image_digests(images.content[rows]), self.content)]
        if self.positions is not None:
            pairs.append((positions(images.content[rows], images.groups[rows]), self.positions))
        for theirs, ours in pairs:
            found = find(theirs, ours)
            new = (found >= 0) & (codes[rows] == Split.NONE)
            codes[rows[new]] = self.codes[found[new]]
        return codes


def describe_split(rows: LearningRows[Any], fractions: tuple[float, float, float]) -> SplitRecord:
    """Return the record of a split."""
    return SplitRecord(
        fractions=fractions, counts=Counts(**rows.counts), problems=rows.problems, rule=rows.rule
    )


def save_split(folder: Path, rows: LearningRows[Any]) -> None:
    """Write the digests, codes, labels and positions of the training, validation and test images."""
    images = rows.images
    order = np.concatenate([rows.train, rows.val, rows.test])
    codes = np.repeat([Split.TRAIN, Split.VAL, Split.TEST], [len(rows.train), len(rows.val), len(rows.test)])
    arrays = {
        "content": images.content[order],
        "split": codes.astype(np.uint8),
        "labels": images.labels[order],
        "positions": positions(images.content[order], images.groups[order]),
    }
    data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    replace_file(folder / SPLIT_FILE, data)


def read_split(folder: Path, counts: Counts, classes: int) -> RunSplit:
    """Return the split written by `save_split`, or by an earlier version.

    Args:
        folder: Run directory.
        counts: Number of images in each split, as the run records them.
        classes: Number of classes of the run.

    Raises:
        RunError: The file can't be read, was changed, or contradicts the record of the run.
    """
    file = folder / SPLIT_FILE
    try:
        data = read_listed(folder, SPLIT_FILE, raises=RunError, remedy=_REMEDY, limit=_MAX_BYTES)
    except FileNotFoundError:
        raise RunError(f"{file} is missing. {_REMEDY}") from None
    try:
        arrays = load(data)
    except (SafetensorError, LookupError, ValueError, TypeError) as error:  # an unknown dtype is a KeyError
        raise RunError(f"{file} can't be read: {error}. {_REMEDY}") from error
    missing = [name for name in ("content", "split") if name not in arrays]
    if missing:
        raise RunError(f"{file} has no array {missing[0]!r}. {_REMEDY}")
    problem = next(chain(_misshapen(arrays), _misvalued(arrays, classes), _miscounted(arrays, counts)), "")
    if problem:
        raise RunError(f"{file}, {problem}. {_REMEDY}")
    return RunSplit(
        image_digests(arrays["content"]), arrays["split"], arrays.get("labels"), arrays.get("positions")
    )


def _misshapen(arrays: Mapping[str, NDArray[Any]]) -> Iterator[str]:
    """Yield the arrays of another type or shape, whose values can't be checked."""
    content = arrays["content"]
    if content.dtype != np.uint8 or content.shape[1:] != (CONTENT_BYTES,):
        yield f"content: got {content.dtype} of shape {content.shape}, expected uint8 of shape (n, {CONTENT_BYTES})"
        return
    others = {"labels": np.dtype(np.int64), "positions": np.dtype(np.float64), "split": np.dtype(np.uint8)}
    for name, dtype in others.items():
        array = arrays.get(name)
        if array is not None and (array.dtype != dtype or array.shape != content.shape[:1]):
            yield (
                f"{name}: got {array.dtype} of shape {array.shape}, expected {dtype} of shape ({len(content)},)"
            )


def _misvalued(arrays: Mapping[str, NDArray[Any]], classes: int) -> Iterator[str]:
    """Yield what no training writes: codes, labels and positions out of range, and digests of no image."""
    valid = {
        "content": (arrays["content"].any(axis=1), "the digest of an image, not zeros"),
        "split": (
            np.isin(arrays["split"], (Split.TRAIN, Split.VAL, Split.TEST)),
            f"{int(Split.TRAIN)} to {int(Split.TEST)}",
        ),
    }
    if "labels" in arrays:
        labels = arrays["labels"]
        valid["labels"] = (labels >= 0) & (labels < classes), f"0 to {classes - 1}, the classes of the run"
    if "positions" in arrays:
        shares = arrays["positions"]
        valid["positions"] = (shares >= 0) & (shares <= 1), "a number from 0 to 1"
    for name, (right, expected) in valid.items():
        wrong = np.flatnonzero(~right)
        if len(wrong):
            yield f"{name}, row {wrong[0]}: got {arrays[name][wrong[0]].tolist()}, expected {expected}"


def _miscounted(arrays: Mapping[str, NDArray[Any]], counts: Counts) -> Iterator[str]:
    """Yield the splits whose number of images is not that of the record; earlier versions recorded no test images."""
    names = {"train": Split.TRAIN, "val": Split.VAL} | ({"test": Split.TEST} if "labels" in arrays else {})
    for name, code in names.items():
        found, recorded = int((arrays["split"] == code).sum()), getattr(counts, name)
        if found != recorded:
            yield f"split: got {found} images of {name}, expected {recorded} as in run.json"
