"""Errors raised by the stages, in addition to those of features and classifiers."""

from frostline.errors import FrostlineError, OptionError


class PipelineError(FrostlineError):
    """Base class of the errors raised by this package."""


class RunError(PipelineError, ValueError):
    """A run directory can't be read, or does not match the data it is used with."""


class ReportError(PipelineError, ImportError):
    """A package required for the report is not installed."""


class LeakError(PipelineError, ValueError):
    """The splits share images or groups, so scores on them would be misleading."""


class RecipeError(PipelineError, OptionError):
    """A value of a training recipe is out of range, or two of its values exclude each other."""


class FinetuneError(PipelineError, ValueError):
    """The data, backbone and options of a fine-tuning are incompatible, or training failed."""


class StudyError(PipelineError, ValueError):
    """A study file can't be read, or names something that does not exist."""


class ClusterError(PipelineError, ConnectionError):
    """A Dask cluster can't be reached, or has no workers."""


class ExportError(PipelineError, ValueError):
    """A format that is not available, or a place that an export may not be written to."""


class LimitError(PipelineError, ValueError):
    """A limited extraction would replace a larger cache."""


class TooManyBadImagesError(PipelineError, ValueError):
    """The fraction of unreadable images exceeds the limit."""


class EstimatorError(PipelineError, ValueError):
    """An estimator computes other features than when it was fitted, or can't read an image."""
