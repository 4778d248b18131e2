"""The split of a run: the images that its head was fitted and selected on."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from frostline.pipeline.errors import RunError
from frostline.pipeline.inputs.learning_rows import LearningRows
from frostline.splits import Split

SPLIT_FILE = "split.safetensors"


def save_split(folder: Path, rows: LearningRows[Any]) -> None:
    """Write the (n, 16) digests and the (n,) split codes of the training and validation images."""
    content = rows.images.content[np.concatenate([rows.train, rows.val])]
    codes = np.repeat([Split.TRAIN, Split.VAL], [len(rows.train), len(rows.val)]).astype(np.uint8)
    data = save({"content": np.ascontiguousarray(content), "split": codes})
    (folder / SPLIT_FILE).write_bytes(data)  # safetensors writes to paths in UTF-8 alone


def read_content(folder: Path) -> NDArray[np.void]:
    """Return the (n,) void digests of 16 bytes written by `save_split`.

    Raises:
        RunError: The file can't be read.
    """
    file = folder / SPLIT_FILE
    try:
        content = load(file.read_bytes())["content"]
    except (OSError, KeyError, SafetensorError) as error:
        raise RunError(
            f"{file} can't be read: {error}. Restore the file from a copy, or train again."
        ) from error
    if content.dtype != np.uint8 or content.shape[1:] != (16,):
        raise RunError(
            f"{file}, content: got {content.dtype} of shape {content.shape}, expected uint8 of shape (n, 16)."
            " Restore the file from a copy, or train again."
        )
    return np.ascontiguousarray(content).view("V16").ravel()
