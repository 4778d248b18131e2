"""Interface through which stages report notes, warnings and progress."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Advance(Protocol):
    """Callable that advances the progress of a task."""

    def __call__(self, done: int, status: str = "", /) -> None:
        """Advance by `done` steps; `status` is a short text that is shown until the next one replaces it."""


class Reporter(Protocol):
    """Receiver of the notes, warnings and progress of a stage."""

    def note(self, message: str) -> None:
        """Report information."""

    def warn(self, message: str) -> None:
        """Report a problem that the user should act on."""

    def task(self, description: str, total: int | None) -> AbstractContextManager[Advance]:
        """Report progress over `total` steps, None if unknown; the context manager yields an `Advance`."""


class _Silent:
    def note(self, message: str) -> None:
        """Ignore the note."""

    def warn(self, message: str) -> None:
        """Ignore the warning."""

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Advance]:  # noqa: ARG002
        """Ignore the progress."""
        yield lambda _done, _status="": None


SILENT: Reporter = _Silent()
