"""The root of all errors that Frostline raises on purpose, and the error of options."""


class FrostlineError(Exception):
    """Root of all errors that Frostline raises on purpose.

    Every error also derives from the built-in exception that fits it, such as ValueError or OSError.
    """


class OptionError(FrostlineError, ValueError):
    """An option has a value that is not valid, or two options exclude each other."""


def one_line(error: BaseException) -> str:
    """Return the message of an error on one line, without a full stop; the name of its class if it has none."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
