"""What can go wrong between a feature vector and its label."""

from frostline.errors import FrostlineError


class ClassifiersError(FrostlineError):
    """Root of every error this package raises on purpose."""


class HeadError(ClassifiersError, ValueError):
    """A head, or a parameter of one, that doesn't exist or can't be fitted to these rows."""


class HeadFormatError(ClassifiersError, ValueError):
    """A saved head that can't be read, or must not be trusted."""


class MetricsError(ClassifiersError, ValueError):
    """Labels and probabilities that can't be scored against each other."""


class SplitError(ClassifiersError, ValueError):
    """Rows that can't be divided into training, validation and test as asked."""
