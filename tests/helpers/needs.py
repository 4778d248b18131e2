"""Marks of tests that need an extra."""

import pytest

from frostline.features.engines import ENGINES

needs_openvino = pytest.mark.skipif(bool(ENGINES.missing("openvino")), reason="needs the extra openvino")
