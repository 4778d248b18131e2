"""Contract tests for implementations that other packages add to Frostline.

They need pytest: ``pip install 'frostline[testing]'``. Each contract is a class of tests. A package subclasses it in
a test module, under a name that begins with ``Test``, and sets the attributes and fixtures that the class describes.
pytest then runs all tests of the contract:

    from frostline.testing import DecoderContract

    class TestTurbo(DecoderContract):
        name = "turbo"  # the entry point in the group frostline.decoders
        tolerance = 2  # of 255

The package must be installed, e.g. with ``pip install -e .``, because the tests look up the implementation by its
entry point. ``docs/design.md`` has a complete example.

`__init__.pyi` lists the public names. Each is imported when it is first used.
"""

import pkgutil

import lazy_loader

try:
    import pytest
except ImportError as error:
    raise ImportError(
        "frostline.testing needs pytest, which is not installed: pip install 'frostline[testing]'"
    ) from error

# A failed assertion then shows its values, as in a test module. pytest has to know before a module is imported.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
