"""Images that are trained on without a cache, decoded once to find the readable ones."""

import io
import os
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.features.content import CONTENT_BYTES
from frostline.features.images.batches import load_batches
from frostline.features.sources.remote.urls import is_url
from frostline.features.spec import Transform
from frostline.features.table import OK, STAMP_BYTES, ImageSource
from frostline.files.archives import check_stored
from frostline.pipeline.errors import TooManyBadImagesError
from frostline.pipeline.inputs.unreadable import describe_unreadable, report_remarks
from frostline.pipeline.progress import Reporter
from frostline.system.atomic import replace_file
from frostline.system.files import read_regular

_BATCH = 64
_MAX_BYTES = 1 << 33


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Image source whose images were read once; implements `LabelledImages`.

    Attributes:
        source: The images.
        content: (n, 16) uint8 digests of the file bytes.
        ok: (n,) bool mask of the images that can be decoded.
    """

    source: ImageSource
    content: NDArray[np.uint8]
    ok: NDArray[np.bool_]

    @property
    def path(self) -> Path | str:
        """Path or URL of the image folder or manifest."""
        return self.source.root if is_url(self.source.root) else Path(self.source.root)

    @property
    def ids(self) -> NDArray[Any]:
        """(n,) str names of the images, relative to the source."""
        return np.char.decode(self.source.table.ids, "utf-8")

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) indices into the classes, -1 for unknown."""
        return self.source.table.labels

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.source.table.classes

    @property
    def split(self) -> NDArray[np.uint8]:
        """(n,) declared splits."""
        return self.source.table.split

    @property
    def groups(self) -> NDArray[Any]:
        """(n,) str names of the groups."""
        return np.char.decode(self.source.table.groups, "utf-8")


def check_images(
    source: ImageSource,
    transform: Transform,
    *,
    known: Path | None = None,
    workers: int | None = None,
    max_bad: float = 0.01,
    report: Reporter,
) -> ImageSet:
    """Read and decode every image once.

    Args:
        source: The images.
        transform: Image transform of the network.
        known: File with the results of an earlier call; images with the same name and stamp are not read again,
            unless they had just been changed at the time of that call.
        workers: Decoding threads; None for one per core.
        max_bad: Largest tolerated fraction of unreadable images.
        report: Receiver of progress and of warnings about unreadable images.

    Raises:
        TooManyBadImagesError: More than `max_bad` of the images are unreadable.
    """
    table = source.table
    content = np.zeros((len(table), CONTENT_BYTES), np.uint8)
    ok = np.zeros(len(table), bool)
    begun = time.time_ns()
    todo = _load_results(known, source, content, ok)
    stamps = table.stamps.copy()
    errors: dict[str, str] = {}
    remarks: dict[str, str] = {}
    with report.task("Reading the images", len(todo)) as advance:
        batches = load_batches(
            source, todo, transform, batch_size=_BATCH, workers=workers, block_rows=max(len(table), 1)
        )
        for batch in batches:
            content[batch.rows], stamps[batch.rows] = batch.content, batch.stamps
            ok[batch.rows] = batch.status == OK
            for row, error in zip(batch.rows.tolist(), batch.errors, strict=True):
                if error:
                    errors[table.ids[row].decode()] = error
            remarks |= {os.fsdecode(table.ids[row]): text for row, text in batch.remarks.items()}
            advance(len(batch.rows))
    if known is not None and len(todo):
        _save_results(known, ids=table.ids, stamps=stamps, content=content, ok=ok, begun=begun)
    _report_unreadable(source, errors, int((~ok).sum()), max_bad, report)
    report_remarks(remarks, report)
    return ImageSet(source, content, ok)


def _load_results(
    known: Path | None, source: ImageSource, content: NDArray[np.uint8], ok: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Fill in the results of an earlier call; return the rows that are still to be read."""
    table = source.table
    everything = np.arange(len(table))
    if known is None:
        return everything
    earlier = _read_results(known)
    if earlier is None:
        return everything
    _, mine, theirs = np.intersect1d(table.ids, earlier["ids"], return_indices=True)
    same = (table.stamps[mine] == earlier["stamps"][theirs]).all(axis=1) & earlier["ok"][theirs]
    same &= ~source.unsettled(int(earlier["begun"]))[mine]
    mine, theirs = mine[same], theirs[same]
    content[mine], ok[mine] = earlier["content"][theirs], True
    return np.setdiff1d(everything, mine)


def _read_results(known: Path) -> dict[str, NDArray[Any]] | None:
    """Return the arrays that `_save_results` wrote; None if they are missing or not as written."""
    try:
        data = read_regular(known, _MAX_BYTES)
        check_stored(data)
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            found = {name: file[name] for name in ("ids", "stamps", "content", "ok", "begun")}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    rows = found["ids"].shape[:1]
    expected = {
        "ids": ("S", rows),
        "stamps": ("u1", (*rows, STAMP_BYTES)),
        "content": ("u1", (*rows, CONTENT_BYTES)),
        "ok": ("b1", rows),
        "begun": ("i8", ()),
    }
    for name, (kind, shape) in expected.items():
        array = found[name]
        if array.shape != shape or kind not in {array.dtype.kind, array.dtype.str[1:]}:
            return None
    return found


def _save_results(known: Path, **arrays: Any) -> None:
    data = io.BytesIO()
    np.savez(data, **arrays)
    replace_file(known, data.getvalue())


def _report_unreadable(
    source: ImageSource, errors: dict[str, str], failed: int, max_bad: float, report: Reporter
) -> None:
    if not failed:
        return
    text = describe_unreadable(errors, failed, len(source.table))
    if failed > max_bad * len(source.table):
        raise TooManyBadImagesError(
            f"{text}\nThat is more than the allowed {max_bad:.1%}. Repair or remove them, or raise --max-bad."
        )
    report.warn(f"{text}\nThey are skipped.")
