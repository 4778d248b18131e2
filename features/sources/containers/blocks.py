"""Blocks of a file that are decoded as a whole, the last few of which are kept."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Final

_KEPT: Final = 4  # blocks: threads that read ascending rows need one or two at a time


class Blocks:
    """Decoded blocks by key, of which the least recently used is dropped. Objects are picklable, without the blocks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._loading: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, load: Callable[[], Any]) -> Any:
        """Return a block, loaded by a function unless it is kept. Several threads that want it load it once."""
        with self._lock:
            loading = self._loading.setdefault(key, threading.Lock())
        with loading:
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return self._kept[key]
            block = load()
            with self._lock:
                self._kept[key] = block
                while len(self._kept) > _KEPT:
                    dropped, _ = self._kept.popitem(last=False)
                    self._loading.pop(dropped, None)
            return block

    def __reduce__(self) -> tuple[type["Blocks"], tuple[()]]:
        """Return a way to make an empty object, because locks and blocks stay in their process."""
        return Blocks, ()
