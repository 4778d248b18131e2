"""How a stage tells a person what it is doing, without knowing whether anyone looks."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Advance(Protocol):
    """Moves a task's progress on."""

    def __call__(self, done: int, status: str = "", /) -> None:
        """Count `done` more steps; `status` says in a few words how it goes, and stays until the next one."""


class Reporter(Protocol):
    """Where a stage sends its notes, warnings and progress."""

    def note(self, message: str) -> None:
        """Say something worth knowing."""

    def warn(self, message: str) -> None:
        """Say something that the user should act on."""

    def task(self, description: str, total: int | None) -> AbstractContextManager[Advance]:
        """Show progress over `total` steps; the context's value is called with the number of steps just done."""


class _Silent:
    def note(self, message: str) -> None:
        """Drop the note."""

    def warn(self, message: str) -> None:
        """Drop the warning."""

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Advance]:  # noqa: ARG002
        """Count nothing."""
        yield lambda _done, _status="": None


SILENT: Reporter = _Silent()
