"""Exceptions of the classifiers package."""

from frostline.errors import FrostlineError


class ClassifiersError(FrostlineError):
    """Base class of the errors that this package raises."""


class HeadError(ClassifiersError, ValueError):
    """An unknown head, an invalid parameter, or rows that a head cannot be fitted to."""


class HeadFormatError(ClassifiersError, ValueError):
    """A saved head that cannot be read or must not be trusted."""


class ProcessError(ClassifiersError, RuntimeError):
    """A process that computes pieces of a search or of an experiment was killed."""


class MetricsError(ClassifiersError, ValueError):
    """Labels and probabilities that cannot be scored against each other."""


class SplitError(ClassifiersError, ValueError):
    """Rows that cannot be divided into training, validation and test as requested."""
