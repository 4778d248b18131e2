"""``python -m frostline``, and the command ``frostline``: the process around the commands."""

import atexit
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from frostline.interrupts import INTERRUPTS, end_children, silence


class Program:
    """The command line as a program. Calling it runs it with the words of this process."""

    def __call__(self) -> None:
        """Run a command, and exit with its code; 130 after Ctrl-C and 143 after SIGTERM, whenever they arrive."""
        try:
            INTERRUPTS.handle()
            from frostline.cli import main as command

            command()
        except SystemExit:
            if not INTERRUPTS.received:
                _default_signals()
                raise
        except BaseException:
            if not INTERRUPTS.received:
                raise
        _end_interrupted()

    @property
    def main(self) -> Callable[..., Any]:
        """`click.Command.main` of the command line, for tools that run a command within their own process."""
        from frostline.cli import main as command

        return command.main


def _default_signals() -> None:
    """Let a signal end the process silently while Python shuts down: the work is done."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)


def _end_interrupted() -> None:
    """End the process after the exception of a signal was handled.

    Python's own way out would wait for threads at work, and destroy what they use.
    """
    try:
        INTERRUPTS.tell()
        silence()
        end_children()
        atexit._run_exitfuncs()  # noqa: SLF001  # there is no other way to run them
        sys.stdout.flush()
    finally:
        os._exit(INTERRUPTS.exit_code)


main = Program()

if __name__ == "__main__":
    main()
