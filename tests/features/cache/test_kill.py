import json
import os
import subprocess
import sys

import pytest

from frostline.features.cache import FeatureCache
from tests.features.cache.synthetic import contents, extract, images, labelled, names, spec
from tests.helpers.paths import ROOT


@pytest.mark.long
def test_a_cache_whose_writers_were_killed_equals_an_uninterrupted_one(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "tests.features.cache.kill_writers", tmp_path / "killed.h5"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    found = json.loads(ran.stdout)
    assert len(found) == 20
    assert max(found) >= 512  # they had something to go on from
    files = images(3200)
    whole, _ = extract(tmp_path / "whole.h5", spec(dtype="float16"), labelled(files))
    killed = FeatureCache.open(tmp_path / "killed.h5")
    assert killed.verify().ok
    assert contents(killed) == contents(whole)
    assert names(tmp_path) == ["killed.h5", "whole.h5"]
