"""What can go wrong in a stage, beyond what features and classifiers report themselves."""

from frostline.errors import FrostlineError


class PipelineError(FrostlineError):
    """Root of every error this package raises on purpose."""


class RunError(PipelineError, ValueError):
    """A run directory that can't be read, or doesn't fit what it is used with."""


class ReportError(PipelineError, ImportError):
    """A report that can't be made without what isn't installed."""


class LeakError(PipelineError, ValueError):
    """Splits that share images or groups, so that scores on them would mislead."""


class RecipeError(PipelineError, ValueError):
    """A training recipe with a number out of range, or parts that exclude each other."""


class FinetuneError(PipelineError, ValueError):
    """A fine-tuning that can't be done so: the data, the backbone and the options don't fit each other."""


class StudyError(PipelineError, ValueError):
    """A study file that can't be read, or asks for what there isn't."""


class ClusterError(PipelineError, ConnectionError):
    """A Dask cluster that can't be reached, or without workers."""


class LimitError(PipelineError, ValueError):
    """A limited extraction that would replace a larger cache."""


class TooManyBadImagesError(PipelineError, ValueError):
    """More images could not be read than the user allows."""
