"""Options of a fit on the processor, and features that remember which rows were read."""

import numpy as np

from frostline.classifiers import FitOptions


def take_options(keywords):
    """Take ``params``, ``seed`` and ``memory`` out of a dictionary of keywords, for a fit on the processor."""
    return FitOptions(
        device="cpu",
        **{name: keywords.pop(name) for name in ("params", "seed", "memory") if name in keywords},
    )


class Spy:
    """Features that may be read only by explicit rows, and remember which."""

    def __init__(self, X):
        self._X, self.read = X, set()
        self.shape, self.dtype = X.shape, X.dtype

    def __getitem__(self, rows):
        assert isinstance(rows, np.ndarray)
        assert rows.dtype == np.int64
        self.read |= set(rows.tolist())
        return self._X[rows]

    def __array__(self, *_args, **_kwargs):
        raise AssertionError("the whole array was read")
