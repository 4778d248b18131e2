"""Image source of containers."""

import errno
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.features.errors import SourceError
from frostline.features.notes import SourceNotes
from frostline.features.sources.containers.container import Container, ContainerChangedError, Member
from frostline.features.sources.files import TICK_NS, stamps_of
from frostline.features.sources.folders.arrangement import Arrangement
from frostline.features.sources.stats import stat_fields
from frostline.features.table import ImageSource, ImageTable
from frostline.splits import Split


class ContainedSource(ImageSource):
    """Images in containers, each read by its place.

    A stamp is that of the container, with the size of the image. After a container was changed or copied, its images
    are read again, and those with the same bytes are not computed again.

    Args:
        root: Container or pattern that the user named, as an absolute path.
        table: The images.
        members: Place of each image.
        changed: (n,) int64 time in nanoseconds of the last modification or status change of each image's container.
        notes: How the images were listed, and which entries were skipped.
    """

    def __init__(
        self,
        root: str,
        table: ImageTable,
        members: Sequence[Member],
        changed: NDArray[np.int64],
        notes: SourceNotes,
    ) -> None:
        self.root, self.table, self.notes = root, table, notes
        self._members, self._changed = members, changed
        self._anew: dict[str, tuple[Container, dict[str, int]]] = {}  # containers listed again, by path
        self._lock = threading.Lock()

    def read(self, row: int) -> tuple[bytes, bytes]:
        """Read one image's file; see `ImageSource.read`. A container that has changed is listed again."""
        member = self._members[row]
        try:
            container, index = self._current(member)
            data = container.read(index)
        except ContainerChangedError:
            container, index = self._listed_again(member)
            data = container.read(index)
        return data, stamps_of([container.file_stat(index)]).tobytes()

    def display_name(self, row: int) -> str:
        """Return the path of the container followed by the image's path in it."""
        return self._members[row].location

    def unsettled(self, since: int) -> NDArray[np.bool_]:
        """Return a mask of the images in containers modified too close to a time; see `ImageSource.unsettled`."""
        return np.asarray(self._changed > since - TICK_NS)

    def close(self) -> None:
        """Release the files that are kept open; see `ImageSource.close`."""
        for container in {id(member.container): member.container for member in self._members}.values():
            container.close()
        for container, _ in self._anew.values():
            container.close()

    def _current(self, member: Member) -> tuple[Container, int]:
        path = member.container.path
        if path not in self._anew:
            return member.container, member.index
        container, index = self._anew[path]
        if member.name not in index:
            raise FileNotFoundError(errno.ENOENT, "the file no longer holds this image", member.location)
        return container, index[member.name]

    def _listed_again(self, member: Member) -> tuple[Container, int]:
        path = member.container.path
        with self._lock:
            listed = self._anew[path][0] if path in self._anew else member.container
            if stat_fields(os.stat(path)) != listed.stat:  # noqa: PTH116
                try:
                    container = listed.reopened()
                except SourceError as error:
                    raise OSError(errno.EIO, str(error), member.location) from None
                self._anew[path] = container, {name: index for index, name in enumerate(container.names)}
        return self._current(member)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the lock, which can't be passed to worker processes."""
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set the state of a copy in another process."""
        vars(self).update(state, _lock=threading.Lock())


def contained_source(
    root: str,
    told: Arrangement,
    ids: Sequence[str],
    members: Sequence[Member],
    splits: Sequence[Split] | None = None,
) -> ContainedSource:
    """Return the source of some images in containers.

    Args:
        root: Container or pattern that the user named, as an absolute path.
        told: Table of the images.
        ids: Id of each image, in any order.
        members: Place of each image, in the order of `ids`.
        splits: Split of each image, in the order of `ids`, for a table without splits; None for none.
    """
    row = {id_.encode(): index for index, id_ in enumerate(ids)}
    order = [row[id_] for id_ in told.table.ids.tolist()]
    table = told.table
    if splits is not None and not table.split.any():
        table = replace(table, split=np.array([splits[index] for index in order], np.uint8))
    return ContainedSource(root, table, [members[index] for index in order], told.changed, told.notes)
