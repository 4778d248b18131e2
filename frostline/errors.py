"""The root of all errors that Frostline raises on purpose."""


class FrostlineError(Exception):
    """Root of all errors that Frostline raises on purpose.

    Every error also derives from the built-in exception that fits it, such as ValueError or OSError.
    """
