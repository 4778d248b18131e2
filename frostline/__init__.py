"""Extract image features once, cache them safely, and train heads on them in seconds.

`__init__.pyi` lists the public names. Each is imported when it is first used, so that ``import frostline`` takes
milliseconds and doesn't import PyTorch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
