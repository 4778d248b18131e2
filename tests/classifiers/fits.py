"""Options of a fit on the processor, out of the keywords of a test's own helper."""

from frostline.classifiers import FitOptions


def take_options(keywords):
    """Take ``params``, ``seed`` and ``memory`` out of a dictionary of keywords."""
    return FitOptions(
        device="cpu",
        **{name: keywords.pop(name) for name in ("params", "seed", "memory") if name in keywords},
    )
