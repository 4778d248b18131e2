"""A cache of two layers."""

import pytest

from frostline.features.cache import FeatureCache
from frostline.pipeline import extract


@pytest.fixture(scope="session")
def cache(few_digits, tmp_path_factory):
    options = {"backbone": "timm:test_resnet", "weights": "random", "batch_size": 8, "device": "cpu"}
    file = tmp_path_factory.mktemp("cache") / "digits.h5"
    return FeatureCache.open(
        extract(few_digits, layers=("embedding", "layer1:avg"), cache=file, **options).cache
    )
