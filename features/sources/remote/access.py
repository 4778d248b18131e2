"""How remote data are read: where bytes are kept, and who is told of trouble."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

CACHE_BYTES: Final = 10 * 10**9
"""Default size of a byte cache."""

_MOST_TOLD: Final = 20  # messages of one source


def _nobody(_message: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Access:
    """How remote data are read. A copy in another process tells nobody.

    Attributes:
        byte_cache: Folder in which bytes are kept; None for none.
        byte_cache_size: Largest size of the folder in bytes.
        tell: Receiver of what the user should know while data are read. It may be called from any thread.
    """

    byte_cache: Path | None = None
    byte_cache_size: int = CACHE_BYTES
    tell: Callable[[str], None] = field(default=_nobody, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return a way to make a copy in another process."""
        return Access, (self.byte_cache, self.byte_cache_size)


class Teller:
    """Receiver of messages of which each is told once, and not more than 20 of one source."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell, self._told, self._lock = tell, set[str](), threading.Lock()

    def __call__(self, message: str) -> None:
        """Tell a message, unless it was told before."""
        with self._lock:
            if message in self._told or len(self._told) >= _MOST_TOLD:
                return
            self._told.add(message)
        self._tell(message)
