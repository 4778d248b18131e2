"""Reading of remote images ahead of their use, so that the network is never idle."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final

from frostline.features.sources.remote.stores.store import Found

IMAGES: Final = 64
"""Images that are read ahead at most."""

BYTES: Final = 256 << 20
"""Bytes of the images that are read ahead, at most, as far as their sizes are known."""

Got = tuple[bytes, Found]


class Ahead:
    """Images being read in a known order.

    Args:
        rows: Rows in the order in which they will be asked for.
        size: Function that returns the size of a row's image in bytes, 0 if it is unknown.
        begin: Function that begins to read a row's image; None if that is not worth while.
    """

    def __init__(
        self, rows: Sequence[int], size: Callable[[int], int], begin: Callable[[int], Future[Got] | None]
    ) -> None:
        self._waiting, self._size, self._begin = deque(rows), size, begin
        self._begun: dict[int, Future[Got]] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def take(self, row: int) -> Future[Got] | None:
        """Return the reading of a row's image, and begin others in its place; None if it was not begun."""
        with self._lock:
            self._fill()
            found = self._begun.pop(row, None)
            if found is not None:
                self._bytes -= self._size(row)
                self._fill()
            return found

    def close(self) -> None:
        """Give up what was begun and not taken."""
        with self._lock:
            self._waiting.clear()
            for future in self._begun.values():
                future.cancel()
            self._begun.clear()

    def _fill(self) -> None:
        while self._waiting and len(self._begun) < IMAGES:
            row = self._waiting[0]
            size = self._size(row)
            if self._begun and self._bytes + size > BYTES:
                return
            self._waiting.popleft()
            future = self._begin(row)
            if future is not None:
                self._begun[row] = future
                self._bytes += size
