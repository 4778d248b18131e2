"""Files that earlier versions wrote still open, with the values that they were written with.

`tests/data/archives/vN/*.h5` are caches of format version N as the version of their time wrote them, each of 5 images,
one of which failed, with its features beside it in a `.npz` of float32. They are never written again.
"""

from pathlib import Path

import numpy as np
import pytest

from frostline.features.cache import FeatureCache

ARCHIVES = sorted((Path(__file__).parents[1] / "data" / "archives").glob("v*/*.h5"))


def test_every_version_has_archives():
    assert {path.parent.name for path in ARCHIVES} == {"v1"}


@pytest.mark.parametrize("path", ARCHIVES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_archive_opens_with_its_values(path):
    cache, values = FeatureCache.open(path), np.load(path.with_suffix(".npz"))
    assert cache.verify().ok
    assert cache.ids.tolist() == values["ids"].tolist()
    assert cache.classes == tuple(values["classes"].tolist())
    for name in ("labels", "split", "content", "stat", "ok"):
        np.testing.assert_array_equal(getattr(cache, name), values[name])
    assert cache.groups.tolist() == values["groups"].tolist()
    assert cache.errors == {2: "not an image"}
    assert cache.key == str(values["key"])
    assert [layer.key for layer in cache.layers] == ["embedding", "blocks.4:avg"]
    for layer in cache.layers:
        for view in range(cache.spec.views):
            stored = cache.features(layer.key, view=view)
            np.testing.assert_array_equal(stored.astype(np.float32), values[layer.key][:, view])
