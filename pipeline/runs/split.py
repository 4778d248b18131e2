"""The split of a run: the images that its head was fitted and selected on, and those held out for its test."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from frostline.classifiers.protocol.splits import positions
from frostline.pipeline.errors import RunError
from frostline.pipeline.inputs.joined_caches import find, image_digests
from frostline.pipeline.inputs.labelled_images import LabelledImages
from frostline.pipeline.inputs.learning_rows import LearningRows
from frostline.pipeline.runs.record import Counts, SplitRecord
from frostline.splits import Split
from frostline.system.atomic import replace_file

SPLIT_FILE = "split.safetensors"


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


def read_split(folder: Path) -> RunSplit:
    """Return the split written by `save_split`, or by an earlier version.

    Raises:
        RunError: The file can't be read.
    """
    file = folder / SPLIT_FILE
    remedy = "Restore the file from a copy, or train again."
    try:
        arrays = load(file.read_bytes())
        content, codes = arrays["content"], arrays["split"]
    except (OSError, KeyError, SafetensorError) as error:
        raise RunError(f"{file} can't be read: {error}. {remedy}") from error
    if content.dtype != np.uint8 or content.shape[1:] != (16,):
        raise RunError(
            f"{file}, content: got {content.dtype} of shape {content.shape}, expected uint8 of shape (n, 16). {remedy}"
        )
    others = {"labels": np.dtype(np.int64), "positions": np.dtype(np.float64), "split": np.dtype(np.uint8)}
    for name, dtype in others.items():
        array = arrays.get(name)
        if array is not None and (array.dtype != dtype or array.shape != content.shape[:1]):
            raise RunError(
                f"{file}, {name}: got {array.dtype} of shape {array.shape}, expected {dtype} of shape"
                f" ({len(content)},). {remedy}"
            )
    return RunSplit(image_digests(content), codes, arrays.get("labels"), arrays.get("positions"))
