"""Engines, which execute the forward pass from batches of pixels to batches of feature vectors.

`__init__.pyi` lists the names of this package. Each is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
