"""Features that were computed in different ways: within one cache never mixed, between caches under a contract."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from frostline.features.cache import FeatureCache
from frostline.features.errors import CacheMismatchError
from frostline.features.fidelity import Check, LayerCheck
from frostline.pipeline import extract
from tests.helpers.network import BACKBONE, as_options
from tests.helpers.runner import run

pytestmark = pytest.mark.usefixtures("cpu")


def check(cosine):
    return Check(32, {"embedding": LayerCheck(cosine, cosine, 1 - cosine)})


def test_complete_cache_from_another_kind_of_machine_is_reused(ten_digits, tmp_path, other_machine):
    made = extract(ten_digits, cache=tmp_path / "c.h5", engine="eager", precision="fp32", **BACKBONE)
    old = moved_to_older_torch(made.cache)
    other_machine()
    again = extract(ten_digits, cache=made.cache, **BACKBONE)
    assert again.unchanged
    assert FeatureCache.open(made.cache).spec.versions["torch"] == old


def moved_to_older_torch(path):
    """Rewrite a cache as another torch of the same length of name would have; returns the version."""
    import h5py

    spec = FeatureCache.open(path).spec
    version = spec.versions["torch"]
    old = f"1{version[1:]}"
    changed = dataclasses.replace(spec, versions={**spec.versions, "torch": old})
    with h5py.File(path, "r+") as file:
        file["spec"][0] = changed.to_json().encode()
        file["spec"].attrs["digest"] = np.bytes_(changed.digest)
    return old


def test_incomplete_cache_of_another_computation_is_refused(ten_digits, tmp_path):
    folder = tmp_path / "digits"
    shutil.copytree(ten_digits, folder)
    made = extract(folder, cache=tmp_path / "c.h5", engine="eager", precision="fp32", **BACKBONE)
    moved_to_older_torch(made.cache)
    before = made.cache.read_bytes()
    first = next(folder.glob("*/*"))
    first.with_name("new.png").write_bytes(first.read_bytes()[:-1] + b"\0")
    with pytest.raises(
        CacheMismatchError, match=r"1 images are still missing, .* versions.torch is \d"
    ) as caught:
        extract(folder, cache=made.cache, **BACKBONE)
    assert "--overwrite" in str(caught.value)
    assert made.cache.read_bytes() == before
    replaced = extract(folder, cache=made.cache, overwrite=True, **BACKBONE)
    assert replaced.computed == replaced.rows


def test_named_options_are_compared_with_the_cache(ten_digits, tmp_path):
    made = extract(ten_digits, cache=tmp_path / "c.h5", engine="eager", precision="bf16", **BACKBONE)
    with pytest.raises(CacheMismatchError, match="precision: 'fp32' now, 'bf16' in the file"):
        extract(ten_digits, cache=made.cache, precision="fp32", **BACKBONE)
    assert extract(ten_digits, cache=made.cache, **BACKBONE).unchanged


@pytest.mark.usefixtures("native_bf16")
def test_engines_that_were_not_chosen_are_in_cache_info_and_json_alone(ten_digits, tmp_path):
    command = ["extract", ten_digits, "--cache", tmp_path / "c.h5", "--engine", "eager", "--min-cosine", "1"]
    command += as_options(BACKBONE)
    assert "bf16" not in run(*command).output
    assert "eager bf16: cosine to eager fp32" in run("cache", "info", tmp_path / "c.h5").output
    document = json.loads(run(*command, "--json", "--quiet").output)
    assert document["precision"] == "fp32"
    (rejected,) = document["check"]["rejected"]
    assert rejected.startswith("eager bf16: cosine")
