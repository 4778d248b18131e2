"""``python -m frostline``, and the command ``frostline``: the process around the commands."""

import atexit
import os
import signal
import sys

from frostline.interrupts import INTERRUPTS, end_children, silence


def main() -> None:
    """Run the command line, and exit with its code; 130 after Ctrl-C and 143 after SIGTERM, whenever they arrive."""
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


if __name__ == "__main__":
    main()
