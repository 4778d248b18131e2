"""Features are those of `extract`, each image is computed once, and none is stale."""

import dataclasses
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from frostline import ImageFeatures
from frostline.errors import OptionError
from frostline.features.cache import FeatureCache
from frostline.features.content import file_content
from frostline.features.errors import BackboneError, ConversionError, EngineError, LayerError, SourceError
from frostline.features.fidelity import Check, LayerCheck
from frostline.pipeline import extract
from frostline.pipeline.errors import EstimatorError
from frostline.pipeline.estimators import computing, contents
from frostline.pipeline.estimators.computing import Extractor
from tests.helpers.needs import needs_openvino
from tests.helpers.network import BACKBONE
from tests.pipeline.estimators.conftest import OPTIONS


def expected(data, tmp_path, **options):
    """Features by content, as `extract` computes them."""
    path = tmp_path / "expected.h5"
    extract(data, cache=path, precision="fp32", **{**OPTIONS, **options})
    cache = FeatureCache.open(path)
    return dict(zip(map(bytes, cache.content), np.array(cache.features()), strict=True))


def test_features_are_bit_by_bit_those_of_extract(make, digit_paths, tmp_path):
    paths, _ = digit_paths
    theirs = expected(tmp_path / "images", tmp_path)
    found = make().fit_transform(paths)
    assert found.dtype == np.float32
    assert found.shape == (60, 96)
    for path, row in zip(paths, found, strict=True):
        assert row.tobytes() == theirs[file_content(Path(path).read_bytes())].tobytes()


def test_arrays_and_pictures_are_those_of_extract(make, digit_arrays, tmp_path):
    images, _ = digit_arrays
    theirs = np.stack([*expected(images, tmp_path).values()])
    found = make().fit_transform(images)
    np.testing.assert_array_equal(
        found, theirs[np.argsort(np.argsort([*map(str, range(10**8, 10**8 + 60))]))]
    )
    pictures = [Image.fromarray(image) for image in images]
    np.testing.assert_array_equal(make().fit_transform(pictures), found)


@pytest.mark.parametrize(
    "options", [{"layer": "layer1:max"}, {"image_size": 48}, {"decoder": "fast"}, {"batch_size": 7}]
)
def test_options_are_those_of_extract(make, digit_arrays, tmp_path, options):
    images = digit_arrays[0][:9]
    names = {"layer": "layers"}
    theirs = expected(images, tmp_path, **{names.get(name, name): value for name, value in options.items()})
    found = make(**options).transform(images)
    assert {row.tobytes() for row in found} == {row.tobytes() for row in theirs.values()}


def test_images_are_computed_once_whatever_their_container_and_order(make, digit_paths, forwarded):
    paths, _ = digit_paths
    first = make().fit_transform(paths)
    assert sum(forwarded) == 60
    shuffled = np.random.default_rng(0).permutation(60)
    again = make().fit_transform(np.array(paths)[shuffled])
    np.testing.assert_array_equal(again, first[shuffled])
    data = [Path(path).read_bytes() for path in paths]
    np.testing.assert_array_equal(make().fit_transform(pd.DataFrame({"image": data})), first)
    assert sum(forwarded) == 60


def test_equal_images_are_computed_once(make, digit_paths, forwarded):
    paths, _ = digit_paths
    found = make().fit_transform([paths[0], paths[1], paths[0], Path(paths[1]).read_bytes()])
    assert sum(forwarded) == 2
    np.testing.assert_array_equal(found[[0, 1]], found[[2, 3]])
    assert not np.array_equal(found[0], found[1])


def test_a_changed_file_is_computed_anew(make, digit_paths, forwarded):
    paths, _ = digit_paths
    paths = paths[:3]
    first = make().transform(paths)
    time = Path(paths[1]).stat().st_mtime_ns
    shutil.copyfile(paths[2], paths[1])
    os.utime(paths[1], ns=(time, time))
    second = make().transform(paths)
    np.testing.assert_array_equal(second, first[[0, 2, 2]])
    assert sum(forwarded) == 3


def test_settled_files_are_not_read_again(make, digit_paths, monkeypatch):
    paths, _ = digit_paths
    monkeypatch.setattr(contents, "TICK_NS", -(10**15))  # all files count as settled
    monkeypatch.setattr(contents, "_remembered", {})
    first = make().transform(paths)
    with monkeypatch.context() as patched:
        patched.setattr("frostline.pipeline.estimators.columns.read_with_status", None)
        np.testing.assert_array_equal(make().transform(paths), first)
    shutil.copyfile(paths[1], paths[0])
    np.testing.assert_array_equal(make().transform(paths), first[[1, *range(1, 60)]])
    monkeypatch.setattr(contents, "_remembered", {})
    monkeypatch.setattr(contents, "_MOST", 2)
    make().transform(paths)
    assert len(contents._remembered) <= 2


def test_recently_changed_files_are_not_remembered(make, digit_paths, monkeypatch):
    paths, _ = digit_paths
    monkeypatch.setattr(contents, "_remembered", {})
    make().transform(paths)
    assert not contents._remembered


@pytest.mark.long
def test_another_process_computes_nothing(make, digit_paths, tmp_path):
    paths, _ = digit_paths
    fitted = make().fit(paths)
    first = fitted.transform(paths)
    stored = pickle.dumps(fitted)
    assert len(stored) < 3000  # no network
    (tmp_path / "fitted.pickle").write_bytes(stored)
    np.save(tmp_path / "first.npy", first)
    code = f"""
import pickle, numpy as np
from pathlib import Path
from frostline.features.engines.eager import EagerEngine
EagerEngine.run = None
folder = Path({str(tmp_path)!r})
fitted = pickle.loads((folder / "fitted.pickle").read_bytes())
found = fitted.transform({paths!r})
assert np.array_equal(found, np.load(folder / "first.npy"))
assert fitted.get_feature_names_out()[0] == "test_resnet.r160_in1k_0", fitted.get_feature_names_out()[0]
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_each_specification_has_a_folder(make, digit_arrays, forwarded, tmp_path):
    images = digit_arrays[0][:4]
    for params in ({}, {"weights": "random:2"}, {"layer": "layer1"}, {"image_size": 40}, {}):
        make(**params).transform(images)
    assert sum(forwarded) == 16
    names = [folder.name for folder in (tmp_path / "store").iterdir()]
    assert len(names) == 4
    assert all(name.startswith("test_resnet") for name in names)


def test_the_store_is_in_the_users_cache_folder_by_default(digit_arrays, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    ImageFeatures(**OPTIONS).transform(digit_arrays[0][:2])
    assert len([*(tmp_path / "user" / "frostline" / "features").glob("test_resnet*/*.h5")]) == 1


def test_changed_weights_are_other_features(make, digit_arrays, tmp_path):
    from safetensors.torch import save_file

    from frostline.features.backbones import load_backbone

    weights = tmp_path / "w.safetensors"
    found = []
    for seed in (1, 2):
        net = load_backbone(BACKBONE["backbone"], weights=f"random:{seed}")
        save_file(net.module.state_dict(), weights)
        found.append(make(weights=weights).transform(digit_arrays[0][:3]))
    assert not np.array_equal(*found)


def test_missing_and_unreadable_images_are_named(make, digit_paths):
    paths, _ = digit_paths
    bad = [paths[0], "missing.png", b"no image", Image.new("F", (4, 4)), paths[1], b"no image"]
    with pytest.raises(EstimatorError, match="4 of 6 images could not be read") as caught:
        make().fit_transform(bad)
    message = str(caught.value)
    assert "row 1 (missing.png): No such file or directory" in message
    assert "row 2: " in message
    assert "row 3: got a picture of mode F; convert it to RGB" in message
    assert isinstance(caught.value, ValueError)


def test_unreadable_images_are_nan_on_request_and_tried_once_in_a_process(
    make, digit_paths, forwarded, monkeypatch
):
    paths, _ = digit_paths
    bad = [paths[0], "missing.png", b"nothing", paths[1], b"nothing"]
    features = make(on_error="nan")
    with pytest.warns(
        UserWarning, match=r"3 of 5 images could not be read:\n  row 1 \(missing.png\).*\n  row 2"
    ):
        found = features.fit_transform(bad)
    assert np.isnan(found).all(axis=1).tolist() == [False, True, True, False, True]
    np.testing.assert_array_equal(found[[0, 3]], make().transform([paths[0], paths[1]]))
    monkeypatch.setattr("frostline.pipeline.estimators.computing.compute", None)
    with pytest.warns(UserWarning, match="3 of 5"):
        np.testing.assert_array_equal(features.transform(bad), found)
    assert sum(forwarded) == 2


def test_a_store_of_failures_alone_is_empty(make, tmp_path):
    with pytest.warns(UserWarning, match="1 of 1"):
        found = make(on_error="nan").transform([b"another nothing"])
    assert np.isnan(found).all()
    assert not [*(tmp_path / "store").rglob("*.h5")]


def test_an_image_that_changes_while_it_is_read(make, digit_paths, forwarded, monkeypatch):
    paths, _ = digit_paths
    fill, before, after = Extractor.fill, [paths[2]], []

    def changed(self, path, source):
        if before:
            shutil.copyfile(before.pop(), paths[0])
        done = fill(self, path, source)
        if after:
            shutil.copyfile(after.pop(), paths[0])
        return done

    monkeypatch.setattr(Extractor, "fill", changed)
    found = make().transform(paths[:2])
    np.testing.assert_array_equal(found, make().transform([paths[2], paths[1]]))
    assert sum(forwarded) == 2
    before += paths[10:20]
    after += paths[20:30]
    with pytest.raises(EstimatorError, match=r"row 0 \(.*\): the image changed while it was being read"):
        make(layer="layer1").transform(paths[:2])


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"on_error": "ignore"}, OptionError, "on_error: got 'ignore', expected one of raise, nan"),
        ({"layer": ["a", "b"]}, OptionError, "layer: got .* use a FeatureUnion"),
        ({"cache": False}, OptionError, "cache: got False, expected the path of a folder"),
        ({"precision": "fp8"}, OptionError, "precision: got 'fp8'"),
        ({"batch_size": 0}, OptionError, "batch_size: got 0"),
        ({"workers": -1}, OptionError, "workers: got -1"),
        ({"engine": "no"}, EngineError, "no engine 'no'"),
        ({"device": "tpu"}, OptionError, "device"),
        ({"backbone": "timm:no_such"}, BackboneError, "no_such"),
        ({"layer": "no_such"}, LayerError, "no_such"),
        ({"engine": "openvino", "device": "cuda"}, EngineError, "cuda"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("cpu")
def test_parameters_are_checked_when_they_are_used(make, digit_arrays, params, error, message):
    features = make(**params)  # not here, as scikit-learn demands
    for call in (features.fit, features.transform):
        with pytest.raises(error, match=message):
            call(digit_arrays[0])


def test_cache_that_is_a_file_is_refused(make, digit_arrays, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises((SourceError, NotADirectoryError), match="file"):
        make(cache=tmp_path / "file").fit_transform(digit_arrays[0])


def test_other_parameters_after_fitting_are_refused(make, digit_arrays):
    images = digit_arrays[0][:3]
    features = make().fit(images)
    features.set_params(weights="random:2")
    with pytest.raises(EstimatorError, match=r"weights_sha256 .* Fit it again"):
        features.transform(images)
    features.set_params(weights="random:1", decoder="fast")
    with pytest.warns(UserWarning, match="computed otherwise than when ImageFeatures was fitted: decoder"):
        features.transform(images)


@pytest.mark.usefixtures("native_bf16")
def test_auto_precision_keeps_that_of_stored_features(make, digit_arrays, tmp_path, new_process):
    images = digit_arrays[0]
    first = make(precision="fp32").fit(images[:2])
    first.transform(images[:2])
    auto = make(precision="auto").fit(images)
    assert auto.spec_ == first.spec_
    new_process()
    fresh = make(precision="auto", cache=tmp_path / "fresh").fit(images)
    assert fresh.spec_.precision in {"bf16", "fp32"}
    assert fresh.transform(images).shape == (60, 96)


@needs_openvino
@pytest.mark.usefixtures("cpu")
def test_auto_is_the_fastest_engine_for_any_number_of_images(make, digit_arrays, new_process, monkeypatch):
    images = digit_arrays[0][:5]
    features = make(engine="auto").fit(images)
    assert features.spec_.engine.startswith("openvino")
    found = features.transform(images)
    np.testing.assert_allclose(found, make().transform(images), rtol=1e-3, atol=1e-4)
    new_process()
    monkeypatch.setattr(computing, "plan_computation", None)  # what is stored needs no engine
    np.testing.assert_array_equal(make(engine="auto").fit_transform(images), found)


@needs_openvino
@pytest.mark.usefixtures("cpu", "new_process")
def test_auto_takes_the_next_engine_for_a_network_that_can_not_be_converted(make, digit_arrays, monkeypatch):
    plan = computing.plan_computation

    def unconvertible(net, layers, source, path, options):
        if options.engine == "openvino":
            raise ConversionError("unknown operation")
        return plan(net, layers, source, path, options)

    monkeypatch.setattr(computing, "plan_computation", unconvertible)
    images = digit_arrays[0][:5]
    assert make(engine="auto").fit(images).spec_.engine == "eager"
    with pytest.raises(ConversionError, match="unknown operation"):
        make(engine="openvino").fit(images)


@pytest.mark.usefixtures("native_bf16", "new_process")
def test_engine_that_does_not_agree_is_not_chosen_by_auto(make, digit_arrays, monkeypatch):
    plan = computing.plan_computation

    def inaccurate(net, layers, source, path, options):
        planned = plan(net, layers, source, path, options)
        poor = Check(5, {"embedding": LayerCheck(0.9, 0.9, 0.1)})
        return dataclasses.replace(planned, check=poor) if options.precision == "bf16" else planned

    monkeypatch.setattr(computing, "plan_computation", inaccurate)
    assert make(precision="auto").fit(digit_arrays[0][:5]).spec_.precision == "fp32"
