"""Event loop of this process, in a thread of its own, in which all connections live."""

import asyncio
import os
import threading
from typing import Final

THREAD: Final = "remote"
"""Name of the thread."""

_starting = threading.Lock()
_loops: list[asyncio.AbstractEventLoop] = []  # at most one


def event_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop, which is started when it is first asked for."""
    with _starting:
        if not _loops:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name=THREAD, daemon=True).start()
            _loops.append(loop)
        return _loops[0]


def _forget() -> None:
    """Forget the loop of the parent, whose thread a forked process does not have."""
    global _starting  # noqa: PLW0603  # which another thread of the parent may hold
    _starting = threading.Lock()
    _loops.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
