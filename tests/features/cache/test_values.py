import dataclasses
import multiprocessing
import os
import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from frostline.features.cache import CacheInfo, FeatureCache, made_with, open_writer
from frostline.features.cache.file.encoding import decode, encode
from frostline.features.errors import CacheFormatError, CacheMismatchError, LayerError
from frostline.features.fidelity import Check, LayerCheck
from frostline.features.notes import NO_NOTES
from frostline.features.spec import Layer
from tests.features.cache.synthetic import (
    FAILED,
    SPEC,
    MemorySource,
    computed,
    extract,
    interrupted,
    labelled,
    source,
    spec,
    vector,
)

ROWS = 600  # two blocks and a short one


@pytest.fixture
def cache(tmp_path):
    return extract(tmp_path / "c.h5", SPEC, source(ROWS))[0]


def expected(images_, layer, views=1):
    return np.stack([vector(data, layer, views) for data in images_.files])


def test_cache_holds_written_values(cache):
    images_ = source(ROWS)
    assert cache.rows == len(cache) == ROWS
    assert cache.ids.tolist() == [name.decode() for name in images_.table.ids]
    assert cache.classes == ("class",)
    np.testing.assert_array_equal(cache.labels, images_.table.labels)
    np.testing.assert_array_equal(cache.split, images_.table.split)
    np.testing.assert_array_equal(cache.stamps, images_.table.stamps)
    assert cache.groups.tolist() == [group.decode() for group in images_.table.groups]
    assert cache.ok.all()
    assert cache.errors == {}
    assert cache.spec == SPEC
    assert cache.key == SPEC.digest
    assert cache.source == "/images"
    assert abs(datetime.now(UTC) - cache.created) < timedelta(hours=1)
    for layer in SPEC.layers:
        np.testing.assert_array_equal(cache.features(layer.key), expected(images_, layer)[:, 0])


def test_rows_may_come_in_any_order_and_number(tmp_path, cache):
    images_ = source(ROWS)
    order = np.random.default_rng(0).permutation(ROWS)
    with open_writer(tmp_path / "shuffled.h5", SPEC, images_) as writer:
        for rows in np.split(order, [0, 1, 3, 300, 301, 580]):
            features, outcome = computed(SPEC, images_, rows)
            writer.put(rows, features, **outcome)
            for array in [*features.values(), outcome["content"], outcome["stamps"], outcome["status"]]:
                array[...] = 7  # the caller may use its arrays again
        shuffled = writer.finish()
    for name in cache.file.layout.extents:
        assert shuffled.file.array(name).tobytes() == cache.file.array(name).tobytes(), name


def test_any_hdf5_tool_reads_the_same(cache):
    with h5py.File(cache.path) as file:
        assert sorted(file) == [
            "blocks", "classes", "content", "errors", "features", "groups", "ids", "joules", "labels", "seconds", "spec", "split", "stat",
            "status",
        ]  # fmt: skip
        for layer in SPEC.layers:
            np.testing.assert_array_equal(file[f"features/{layer.key}"][:, 0], cache.features(layer.key))
        assert file["ids"].asstr()[:].tolist() == cache.ids.tolist()
        assert file["spec"].asstr()[0] == SPEC.to_json()
        assert file["spec"].attrs["digest"].decode() == SPEC.digest


def test_features_are_in_place_and_read_only(cache):
    first, second = cache.features("embedding"), cache.features("embedding")
    assert np.shares_memory(first, second)
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0
    tensor = cache.features("embedding", as_torch=True)
    assert tensor.dtype == torch.float32
    assert tensor.data_ptr() == cache.features("embedding", as_torch=True).data_ptr()
    before = cache.path.read_bytes()
    tensor += 1  # a page of this process
    assert cache.path.read_bytes() == before
    np.testing.assert_array_equal(cache.features("embedding"), tensor.numpy() - 1)
    assert cache.verify().ok


def test_features_outlive_their_cache_and_its_file(cache):
    kept, tensor = cache.features("embedding"), cache.features("embedding", as_torch=True)
    wanted = kept.copy()
    cache.path.unlink()
    del cache
    np.testing.assert_array_equal(kept, wanted)
    np.testing.assert_array_equal(tensor.numpy(), wanted)


def test_float16_rounds_as_numpy_and_stays_float16(tmp_path):
    images_ = source(300)
    cache, _ = extract(tmp_path / "c.h5", spec(dtype="float16"), images_)
    wanted = expected(images_, SPEC.layers[0])[:, 0].astype(np.float16)
    np.testing.assert_array_equal(cache.features("embedding"), wanted)
    assert cache.features("embedding").dtype == np.float16
    assert cache.features("embedding", as_torch=True).dtype == torch.float16


def test_bfloat16_is_a_tensor_in_place_or_a_float32_copy(tmp_path):
    images_ = source(300)
    cache, _ = extract(tmp_path / "c.h5", spec(dtype="bfloat16"), images_)
    wanted = torch.from_numpy(expected(images_, SPEC.layers[0])[:, 0]).bfloat16()
    tensor = cache.features("embedding", as_torch=True)
    assert torch.equal(tensor, wanted)
    assert tensor.data_ptr() == cache.features("embedding", as_torch=True).data_ptr()
    assert cache.features("embedding").dtype == np.float32
    np.testing.assert_array_equal(cache.features("embedding"), wanted.float().numpy())
    with h5py.File(cache.path) as file:
        dataset = file["features/embedding"]
        assert (dataset.dtype, dataset.attrs["dtype"]) == (np.uint16, b"bfloat16")


@given(arrays(np.uint32, 50, elements=st.integers(0, 2**32 - 1)))
def test_bfloat16_rounds_as_torch(bits):
    values = bits.view(np.float32)
    ours = decode(encode(values, "bfloat16"), "bfloat16")
    theirs = torch.from_numpy(values.copy()).bfloat16().float().numpy()
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(np.signbit(ours[~np.isnan(ours)]), np.signbit(theirs[~np.isnan(theirs)]))


def test_views_are_stored_separately(tmp_path):
    images_, several = source(300), spec(views=3, layers=SPEC.layers[:1])
    cache, _ = extract(tmp_path / "c.h5", several, images_)
    for view in range(3):
        np.testing.assert_array_equal(
            cache.features(view=view), expected(images_, SPEC.layers[0], 3)[:, view]
        )
    assert torch.equal(
        cache.features(view=2, as_torch=True), torch.from_numpy(expected(images_, SPEC.layers[0], 3)[:, 2])
    )
    with pytest.raises(IndexError, match="3 views"):
        cache.features(view=3)


def test_a_layer_must_be_named_among_several(cache):
    with pytest.raises(LayerError, match=r"several layers; choose one of embedding, blocks\.4:avg"):
        cache.features()
    with pytest.raises(LayerError, match=r"no layer 'blocks\.4'.*embedding, blocks\.4:avg"):
        cache.features("blocks.4")


def test_failed_rows_keep_their_place(tmp_path):
    files = {f"{index:03d}.png": b"image %d" % index for index in range(500)}
    files["100.png"] = b"bad bytes"
    files["499.png"] = PermissionError(13, "Permission denied")
    images_ = MemorySource(files)
    cache, _ = extract(tmp_path / "c.h5", SPEC, images_)
    assert cache.errors == {100: "not an image", 499: "can't be read: [Errno 13] Permission denied"}
    assert np.flatnonzero(~cache.ok).tolist() == [100, 499]
    features = cache.features("embedding")
    assert np.isnan(features[[100, 499]]).all()
    assert not np.isnan(features[cache.ok]).any()
    for row in (99, 101, 498):
        np.testing.assert_array_equal(features[row], vector(images_.files[row], SPEC.layers[0])[0])
    assert cache.content[100].any()
    assert not cache.content[499].any()
    assert (cache.info().ok, cache.info().failed) == (498, 2)


@pytest.mark.parametrize(
    ("dtype", "value", "reason"),
    [
        ("float16", 65520, "embedding: 3 of 20 values overflow float16 (max 65504); store float32"),
        ("float16", -1e9, "embedding: 3 of 20 values overflow float16 (max 65504); store float32"),
        ("bfloat16", 3.4e38, "embedding: 3 of 20 values overflow bfloat16 (max 3.38953e+38); store float32"),
        ("float32", np.nan, "embedding: 3 of 20 values are not finite"),
        ("float32", -np.inf, "embedding: 3 of 20 values are not finite"),
        ("bfloat16", np.inf, "embedding: 3 of 20 values are not finite"),
        ("float16", np.nan, "embedding: 3 of 20 values are not finite"),
    ],
)
def test_values_that_do_not_fit_are_named_and_never_stored(tmp_path, dtype, value, reason):
    images_, narrow = source(300), spec(dtype=dtype)
    with open_writer(tmp_path / "c.h5", narrow, images_) as writer:
        features, outcome = computed(narrow, images_, writer.todo)
        features["embedding"][258, 0, [1, 5, 19]] = value
        writer.put(writer.todo, features, **outcome)
        cache = writer.finish()
    assert cache.errors == {258: reason}
    for layer in SPEC.layers:
        row = cache.features(layer.key)[258]
        assert np.isnan(row).all()
        assert not np.isnan(cache.features(layer.key)[cache.ok]).any()


@pytest.mark.parametrize(
    ("dtype", "value"), [("float16", 65519.9), ("bfloat16", 3.39e38), ("float32", 3.4e38)]
)
def test_the_largest_values_that_fit_are_stored(tmp_path, dtype, value):
    images_, narrow = source(3), spec(dtype=dtype)
    with open_writer(tmp_path / "c.h5", narrow, images_) as writer:
        features, outcome = computed(narrow, images_, writer.todo)
        features["embedding"][1] = value
        features["embedding"][2] = -value
        writer.put(writer.todo, features, **outcome)
        cache = writer.finish()
    assert cache.ok.all()
    np.testing.assert_allclose(
        cache.features("embedding")[1:].astype(np.float64), [[value], [-value]] @ np.ones((1, 20)), rtol=0.01
    )


def test_long_reasons_are_cut_at_a_character(tmp_path):
    images_ = source(1)
    with open_writer(tmp_path / "c.h5", SPEC, images_) as writer:
        features, outcome = computed(SPEC, images_, writer.todo)
        outcome["status"][0], outcome["errors"][0] = FAILED, "ü" * 200
        writer.put(writer.todo, features, **outcome)
        reason = writer.finish().errors[0]
    assert reason == "ü" * 62 + "…"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": np.arange(5)}, "embedding has shape"),
        ({"rows": np.array([0, 1, 2, 600])}, r"rows \[600\] are not in the cache"),
        ({"rows": np.array([0, 1, 2, -1])}, r"rows \[-1\] are not in the cache"),
        ({"rows": np.array([0, 1, 2, 2])}, "contain duplicates"),
        ({"content": np.zeros((4, 8), np.uint8)}, "content has shape"),
        ({"status": np.zeros(4, np.uint8)}, "expected 1"),
        ({"errors": [""]}, "errors has shape"),
        ({"features": {}}, "got features of .*; expected embedding, blocks"),
    ],
)
def test_put_refuses_wrong_shapes(tmp_path, change, message):
    images_ = source(ROWS)
    with open_writer(tmp_path / "c.h5", SPEC, images_) as writer:
        features, outcome = computed(SPEC, images_, np.arange(4))
        arguments = {"rows": np.arange(4), "features": features, **outcome} | change
        with pytest.raises(ValueError, match=message):
            writer.put(arguments.pop("rows"), arguments.pop("features"), **arguments)


def test_put_refuses_written_row(tmp_path):
    images_ = source(ROWS)
    with open_writer(tmp_path / "c.h5", SPEC, images_) as writer:
        features, outcome = computed(SPEC, images_, np.arange(4))
        writer.put(np.arange(4), features, **outcome)
        with pytest.raises(
            ValueError, match=r"rows \[0, 1, 2, 3\] are not in the cache, or were already written"
        ):
            writer.put(np.arange(4), features, **outcome)


def test_finish_needs_every_row(tmp_path):
    images_ = source(ROWS)
    writer = open_writer(tmp_path / "c.h5", SPEC, images_)
    features, outcome = computed(SPEC, images_, np.arange(1, 600))
    writer.put(np.arange(1, 600), features, **outcome)
    with pytest.raises(RuntimeError, match="1 of 600 rows are missing, the first is 0"):
        writer.finish()
    assert not (tmp_path / "c.h5").exists()
    features, outcome = computed(SPEC, images_, np.arange(1))
    writer.put(np.arange(1), features, **outcome)
    assert writer.finish().verify().ok
    with pytest.raises(RuntimeError, match="closed"):
        writer.put(np.arange(0), {layer.key: np.zeros((0, 1, layer.dim)) for layer in SPEC.layers},
                   content=np.zeros((0, 16)), stamps=np.zeros((0, 16)), status=np.zeros(0), errors=[])  # fmt: skip


def test_info(cache):
    info = cache.info()
    assert isinstance(info, CacheInfo)
    assert info == CacheInfo(
        path=cache.path,
        bytes=cache.path.stat().st_size,
        rows=600,
        ok=600,
        failed=0,
        classes=("class",),
        splits={"train": 600},
        layers=SPEC.layers,
        dtype="float32",
        key=SPEC.digest,
        spec=SPEC,
        check=None,
        timing=cache.timing,
        created=cache.created,
        source="/images",
        columns={},
        notes=NO_NOTES,
        weights=None,
        weights_note=None,
        part=None,
    )
    assert "600 rows; embedding, blocks.4:avg; float32" in repr(cache)
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.rows = 1


CHECK = Check(32, {"embedding": LayerCheck(0.9991, 0.9998, 2e-2), "blocks.4:avg": LayerCheck(1.0, 1.0, 1e-7)})


@pytest.mark.parametrize("check", [None, CHECK])
def test_check_is_stored(tmp_path, check):
    path = tmp_path / "c.h5"
    assert made_with(path) is None
    interrupted(path, SPEC, source(600), 9, check=check)
    assert made_with(path).origin.check == check  # so that no later run compares them again
    assert made_with(path).spec == SPEC
    extract(path, SPEC, source(600))
    cache = FeatureCache.open(path)
    assert cache.check == cache.info().check == made_with(path).origin.check == check


def test_malformed_check_attribute_is_refused(tmp_path):
    path = extract(tmp_path / "c.h5", SPEC, source(3), check=CHECK)[0].path
    with h5py.File(path, "r+") as file:
        file.attrs["check"] = np.bytes_('{"images":"all"}')
    with pytest.raises(CacheFormatError, match="'check' is not a comparison"):
        FeatureCache.open(path)


@pytest.mark.parametrize("weights", ["", "/models/ü.safetensors", "random:3"])
def test_weights_of_backbone_are_stored(tmp_path, weights):
    cache, _ = extract(tmp_path / "c.h5", SPEC, source(3), weights=weights)
    assert FeatureCache.open(cache.path).weights == weights
    assert extract(tmp_path / "c.h5", SPEC, source(5), weights=weights)[0].weights == weights


def test_unlabelled_images_have_no_classes(tmp_path):
    cache, _ = extract(tmp_path / "c.h5", SPEC, MemorySource({"a.png": b"a"}))
    assert cache.classes == ()
    assert cache.labels.tolist() == [-1]
    assert extract(tmp_path / "c.h5", SPEC, MemorySource({"a.png": b"a"}))[1] == 0


def test_names_may_be_any_text(tmp_path):
    files = {"日本/猫.jpg": b"1", "ä b.jpg": b"2", "x" * 300: b"3"}
    cache, _ = extract(
        tmp_path / "Ünïcode [1].h5", SPEC, MemorySource(files, labels=dict.fromkeys(files, "Klaße"))
    )
    assert cache.ids.tolist() == sorted(files)
    assert cache.classes == ("Klaße",)
    assert FeatureCache.open(tmp_path / "Ünïcode [1].h5").ids.tolist() == sorted(files)


@pytest.mark.parametrize("keys", [("a/b",), (".",), ("a", "a"), ()])
def test_layers_that_can_not_be_datasets_are_refused(tmp_path, keys):
    with pytest.raises(LayerError):
        open_writer(tmp_path / "c.h5", spec(layers=tuple(Layer(key, "none", 3) for key in keys)), source(3))
    assert not list(tmp_path.iterdir())


class Rows(torch.utils.data.Dataset):
    def __init__(self, cache):
        self.cache = cache

    def __len__(self):
        return self.cache.rows

    def __getitem__(self, row):
        return self.cache.features("embedding", as_torch=True)[row], int(self.cache.labels[row])


@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on one core
def test_workers_read_it_in_place(cache, start):
    cache.features("embedding")  # verified before the fork
    loader = torch.utils.data.DataLoader(
        Rows(cache), batch_size=100, num_workers=2, multiprocessing_context=multiprocessing.get_context(start)
    )
    got = torch.cat([batch for batch, _ in loader])
    np.testing.assert_array_equal(got.numpy(), cache.features("embedding"))


def test_pickle_reopens_path_and_refuses_another_file(cache, tmp_path):
    pickled = pickle.dumps(cache)
    assert len(pickled) < 1000
    np.testing.assert_array_equal(pickle.loads(pickled).features("embedding"), cache.features("embedding"))  # noqa: S301
    files = {"other.jpg": b"other"}
    extract(cache.path, SPEC, labelled(files))
    with pytest.raises(CacheMismatchError, match="replaced by another cache"):
        pickle.loads(pickled)  # noqa: S301
    assert tmp_path / "c.h5" == cache.path


def test_unfinished_caches_say_what_to_do(tmp_path):
    images_ = source(ROWS)
    with open_writer(tmp_path / "c.h5", SPEC, images_) as writer:
        features, outcome = computed(SPEC, images_, np.arange(300))
        writer.put(np.arange(300), features, **outcome)
    with pytest.raises(
        CacheFormatError, match=r"c\.h5\.partial: is an unfinished cache; run the same extract again"
    ):
        FeatureCache.open(tmp_path / "c.h5.partial")
    with pytest.raises(FileNotFoundError) as missing:
        FeatureCache.open(tmp_path / "c.h5")
    assert "c.h5.partial; run the same extract again" in missing.value.__notes__[0]
    writer.partial_path.rename(tmp_path / "renamed.h5")
    with pytest.raises(CacheFormatError, match="with the name of a finished one"):
        FeatureCache.open(tmp_path / "renamed.h5")


def test_reading_a_cache_needs_no_torch(cache):
    script = (
        "import sys; from frostline.features.cache import FeatureCache; "
        f"FeatureCache.open({str(cache.path)!r}).features('embedding').sum(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, cwd=os.getcwd()).returncode == 0  # noqa: PTH109


def test_float16_is_rounded_as_numpy_rounds():
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32).view(np.uint32)
    around = (halves[:, None] + np.array([0, 1, 4095, 4096, 4097, 8191], np.uint32)).ravel()
    values = np.concatenate([around, np.random.default_rng(0).integers(0, 2**32, 10**5, np.uint32)])
    values = values.view(np.float32)
    values = values[~np.isnan(values)]
    with np.errstate(over="ignore"):
        assert encode(values, "float16").tobytes() == values.astype("<f2").tobytes()
    values.flags.writeable = False
    assert encode(values[:, None, None], "float16").shape == (len(values), 1, 1)
    assert np.isnan(encode(np.full(3, np.nan, np.float32), "float16")).all()
