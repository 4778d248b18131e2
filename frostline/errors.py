"""The root of all errors that Frostline raises on purpose, and the error of options."""


class FrostlineError(Exception):
    """Root of all errors that Frostline raises on purpose.

    Every error also derives from the built-in exception that fits it, such as ValueError or OSError.
    """


class OptionError(FrostlineError, ValueError):
    """An option has a value that is not valid, or two options exclude each other."""
