"""Repetition of what failed for a moment: dropped connections, timeouts, and servers that are busy."""

import asyncio
import errno
import zlib
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

T = TypeVar("T")

ATTEMPTS: Final = 5
FIRST_DELAY: Final = 0.5  # seconds, doubled with each attempt
LONGEST_DELAY: Final = 60.0

PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of HTTP after which the same request may succeed."""


class PassingError(OSError):
    """Failure after which the same request may succeed.

    Attributes:
        delay: Seconds that the server asks to wait; 0 if it doesn't.
    """

    def __init__(self, reason: str, delay: float = 0.0) -> None:
        super().__init__(errno.EIO, reason)
        self.delay = delay


async def persistently(call: Callable[[], Awaitable[T]], place: str, tell: Callable[[str], None]) -> T:
    """Return the result of a call, which is repeated after longer and longer delays while it fails for a moment.

    Args:
        call: The call.
        place: Server and file, for messages; its part before the first slash is that of the server.
        tell: Receiver of a message on each kind of failure of a server.

    Raises:
        OSError: The call failed for good, or `ATTEMPTS` times.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await call()
        except PassingError as error:
            reason = error.strerror or "it failed"
            if attempt == ATTEMPTS:
                raise OSError(errno.EIO, f"{reason} ({ATTEMPTS} attempts)") from None
            tell(
                f"{place.partition('/')[0]}: {reason}; such requests are repeated, up to {ATTEMPTS} attempts each"
            )
            await asyncio.sleep(delay_before(attempt, place, error.delay))
    raise AssertionError  # the loop returns or raises


def delay_before(attempt: int, place: str, asked: float = 0.0) -> float:
    """Return the seconds to wait after an attempt: doubled each time, and spread so that requests don't come at once.

    Args:
        attempt: Number of the failed attempt, from 1.
        place: Name of the request.
        asked: Seconds that the server asked to wait.
    """
    spread = 0.75 + zlib.crc32(f"{place} {attempt}".encode("utf-8", "replace")) / 2**33  # 0.75 to 1.25
    return float(min(LONGEST_DELAY, max(asked, FIRST_DELAY * 2 ** (attempt - 1) * spread)))
