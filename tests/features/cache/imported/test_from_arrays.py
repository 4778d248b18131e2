"""Arrays become a cache that gives them back, exactly, whatever their type, order and form."""

import hashlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frostline import FeatureCache, VectorsError, extract
from frostline.features.cache import merge_parts, open_writer
from frostline.features.cache.imported.facts import declared_facts, describe_imported, imported_name
from frostline.features.errors import CacheMismatchError, ChecksumError, PartError
from frostline.features.spec import FeatureSpec
from frostline.pipeline.studies.verify import verify
from tests.features.cache.synthetic import SPEC, source
from tests.features.cache.synthetic import extract as extract_images
from tests.helpers.network import BACKBONE

RNG = np.random.default_rng(0)


def vectors(rows=600, dim=5, dtype=np.float32):
    return RNG.normal(size=(rows, dim)).astype(dtype)


def made(tmp_path, X, **options):
    return FeatureCache.from_arrays(tmp_path / "c.h5", X, **{"name": "toy", **options})


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int16", "bool", ">f4"])
def test_numbers_come_back_in_every_type(tmp_path, dtype):
    X = (RNG.normal(size=(300, 4)) * 20).astype(dtype)
    cache = made(tmp_path, X)
    assert np.array_equal(cache.features(), X.astype(np.float32))
    assert cache.spec.dtype == ("float16" if dtype == "float16" else "float32")
    assert cache.verify().ok
    assert ("rounded" in " ".join(cache.notes.remarks)) == (dtype == "float64")


def test_bfloat16_tensors_keep_their_bits(tmp_path):
    X = torch.randn(300, 4).bfloat16()
    cache = made(tmp_path, X)
    assert cache.spec.dtype == "bfloat16"
    assert torch.equal(cache.features(as_torch=True), X)
    wide = FeatureCache.from_arrays(tmp_path / "wide.h5", X, name="toy", dtype="float32")
    assert np.array_equal(wide.features(), X.float().numpy())


@settings(max_examples=25)
@given(st.integers(1, 700), st.integers(1, 9), st.integers(0, 2**32 - 1), st.booleans())
def test_rows_keep_what_belongs_to_them_in_any_order(fast_folder, rows, dim, seed, in_blocks):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, dim)).astype(np.float32)
    names = [f"n{number}" for number in rng.permutation(rows)]
    labels = [f"c{number}" if number else "" for number in rng.integers(0, 4, rows)]
    split = [("", "train", "val", "test")[number] for number in rng.integers(0, 4, rows)]
    groups = [f"g{number}" if number else "" for number in rng.integers(0, 3, rows)]
    blocks = (X[start : start + 97] for start in range(0, rows, 97)) if in_blocks else X
    path = fast_folder / f"{rows}-{dim}-{seed}-{in_blocks}.h5"
    cache = FeatureCache.from_arrays(
        path, blocks, name="n", ids=names, labels=labels, split=split, groups=groups
    )
    at = {name: row for row, name in enumerate(names)}
    order = [at[name] for name in cache.ids]
    assert sorted(order) == list(range(rows))
    assert np.array_equal(cache.features(), X[order])
    assert [(*cache.classes, "")[label] for label in cache.labels] == [labels[row] for row in order]
    assert [("", "train", "val", "test")[code] for code in cache.split] == [split[row] for row in order]
    assert cache.groups.tolist() == [groups[row] for row in order]
    path.unlink()


@pytest.fixture(scope="module")
def fast_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("imported")


def test_the_specification_says_what_it_is(tmp_path):
    X = vectors()
    cache = made(tmp_path, X, declared={"model": "ViT-B/32", "torch": "2.11"})
    spec = cache.spec
    assert spec.is_imported
    assert not spec.is_reference
    assert imported_name(spec) == "toy"
    assert declared_facts(spec) == {"model": "ViT-B/32", "torch": "2.11"}
    assert (
        describe_imported(spec)
        == "imported toy, declared model=ViT-B/32, torch=2.11"
        == cache.info().imported
    )
    assert FeatureSpec.from_json(spec.to_json()) == spec
    assert not SPEC.is_imported


def test_the_key_depends_on_ids_numbers_name_and_facts_alone(tmp_path):
    X, keys = vectors(), set()
    ids = [f"n{number}" for number in range(len(X))]
    changed = X.copy()
    changed[-1, -1] += 1
    for number, (array, options) in enumerate(
        [
            (X, {}),
            (changed, {}),
            (X, {"name": "other"}),
            (X, {"declared": {"a": "b"}}),
            (X, {"ids": [*ids[:-1], "x"]}),
            (X, {"dtype": "float16"}),
        ]
    ):
        cache = FeatureCache.from_arrays(
            tmp_path / f"{number}.h5", array, **{"name": "toy", "ids": ids, **options}
        )
        keys.add(cache.key)
    assert len(keys) == 6
    order = RNG.permutation(len(X))
    same = FeatureCache.from_arrays(
        tmp_path / "same.h5",
        X[order].astype(np.float64),
        name="toy",
        ids=[ids[row] for row in order],
        labels=[1] * len(X),
    )
    assert same.key == FeatureCache.open(tmp_path / "0.h5").key


def test_equal_vectors_have_equal_content_that_is_no_digest_of_bytes(tmp_path):
    X = vectors(10)
    X[7] = X[2]
    cache = made(tmp_path, X)
    assert cache.content[7].tobytes() == cache.content[2].tobytes()
    assert len(np.unique(cache.content, axis=0)) == 9
    plain = hashlib.blake2b(X[2].tobytes(), digest_size=16).digest()
    assert cache.content[2].tobytes() != plain


def test_rows_that_are_not_finite_fail_with_a_reason(tmp_path):
    X = vectors(200).astype(np.float64)
    X[3, 1], X[9, 0], X[11] = np.nan, 1e300, np.inf
    with pytest.raises(VectorsError, match=r"3 of 200 rows have no usable vector.*allowed 1\.0%") as raised:
        made(tmp_path, X)
    assert "00000003: embedding: 1 of 5 values are not finite" in str(raised.value)
    assert not list(tmp_path.iterdir())
    cache = made(tmp_path, X, max_bad=0.1)
    assert set(cache.errors) == {3, 9, 11}
    assert "overflow float32" in cache.errors[9]
    assert not cache.content[[3, 9, 11]].any()
    assert np.array_equal(cache.features()[cache.ok], X[cache.ok].astype(np.float32))


@pytest.mark.parametrize(
    ("X", "options", "message"),
    [
        (np.zeros(3), {}, r"shape \(3,\), expected \(n, d\).*Reshape"),
        (np.zeros((3, 2, 2)), {}, "Average or choose along one axis"),
        (np.zeros((3, 2, 2, 2)), {}, "Average over height"),
        (np.zeros((0, 2)), {}, "expected"),
        (np.zeros((3, 2), complex), {}, "complex128"),
        (np.array([["a", "b"]]), {}, "expected float16"),
        (np.full((3, 2), 2**24 + 1), {}, r"16777217.*up to 16,777,216"),
        (np.full((3, 2), -(2**11) - 1), {"dtype": "float16"}, "float16 holds all integers only up to 2,048"),
        (np.zeros((3, 2)), {"ids": ["a", "b"]}, "id: got 2 values, expected one per row, 3"),
        (np.zeros((3, 2)), {"ids": ["a", "b", "a"]}, "the id 'a' is that of the rows 0 and 2"),
        (np.zeros((3, 2)), {"ids": ["a", "", "b"]}, "id, row 1: got nothing"),
        (np.zeros((3, 2)), {"ids": ["a", "b\0", "c"]}, "null character"),
        (np.zeros((3, 2)), {"labels": [1, 2]}, "label: got 2 values"),
        (
            np.zeros((3, 2)),
            {"labels": [0.5, 1, 2]},
            "label, row 0: got 0.5, expected a text or a whole number",
        ),
        (
            np.zeros((3, 2)),
            {"labels": [0, 1, 2], "classes": ["a", "b"]},
            "got 2, expected the number of one of the 2",
        ),
        (np.zeros((3, 2)), {"split": ["train", "eval", ""]}, "split, row 1: got 'eval', expected train"),
        (np.zeros((3, 2)), {"name": ""}, "name: got ''"),
        (np.zeros((3, 2)), {"declared": {"": "x"}}, "declared: got ''"),
        ({"a": np.zeros((3, 2)), "b": np.zeros((4, 2))}, {}, "3 of a, 4 of b"),
        ({"a+b": np.zeros((3, 2))}, {}, "layer 'a\\+b'"),
        ({}, {}, "got no array"),
        ("x.npy", {}, "frostline cache import"),
        (3, {}, "got int"),
        (iter([np.zeros((3, 2)), np.zeros((3, 3))]), {}, r"got a block of shape \(3, 3\)"),
        (iter([]), {}, "got 0 rows"),
    ],
)
def test_what_is_not_valid_is_named_and_nothing_is_written(tmp_path, X, options, message):
    with pytest.raises(VectorsError, match=message):
        made(tmp_path, X, **options)
    assert not list(tmp_path.iterdir())


def test_integer_labels_take_the_names_of_classes(tmp_path):
    cache = made(tmp_path, vectors(4), labels=[1, 0, -1, 1], classes=["zebra", "ape"])
    assert cache.classes == ("ape", "zebra")
    assert [(*cache.classes, "")[label] for label in cache.labels] == ["ape", "zebra", "", "ape"]
    numbers = FeatureCache.from_arrays(
        tmp_path / "n.h5", vectors(4), name="t", labels=np.array([10, 9, 10, 9])
    )
    assert numbers.classes == ("9", "10")


def test_data_frames_give_columns_and_numbers(tmp_path):
    frame = pd.DataFrame({"who": ["b", "a"], "y": ["u", "v"], "f0": [1.0, 2.0], "f1": [3.0, 4.0]})
    cache = made(tmp_path, frame, ids="who", labels="y")
    assert cache.ids.tolist() == ["a", "b"]
    assert np.array_equal(cache.features(), [[2, 4], [1, 3]])
    assert cache.notes.columns == {"id": "who", "label": "y"}
    with pytest.raises(VectorsError, match="'who', 'y' hold no numbers"):
        made(tmp_path, frame)
    with pytest.raises(VectorsError, match="no column 'z'"):
        made(tmp_path, frame, ids="z")


def test_several_layers_and_their_pools(tmp_path):
    X, Y = vectors(dim=3), vectors(dim=7)
    cache = made(tmp_path, {"blocks.4:avg": X, "embedding": Y})
    assert [(x.name, x.pool, x.dim) for x in cache.layers] == [
        ("blocks.4", "avg", 3),
        ("embedding", "none", 7),
    ]
    assert np.array_equal(cache.features("blocks.4:avg"), X)
    assert np.array_equal(cache.features("embedding"), Y)


def test_images_give_digests_stamps_and_what_was_not_told(tmp_path):
    images = source(300)
    X = vectors(300)
    names = [name.decode() for name in images.table.ids]
    cache = made(tmp_path, X[::-1], ids=names[::-1], images=images)
    extract_images(tmp_path / "plain.h5", SPEC, images)
    extracted = FeatureCache.open(tmp_path / "plain.h5")
    assert np.array_equal(cache.content, extracted.content)
    assert np.array_equal(cache.stamps, extracted.stamps)
    assert np.array_equal(cache.labels, extracted.labels)
    assert np.array_equal(cache.features(), X)
    assert cache.source == images.root
    with pytest.raises(
        VectorsError, match=r"1 \('other'\) only among the vectors, 1 .* only among the images"
    ):
        FeatureCache.from_arrays(tmp_path / "d.h5", X, name="t", ids=["other", *names[1:]], images=images)


def test_the_same_call_does_nothing_and_new_labels_replace_the_table(tmp_path):
    X = vectors()
    first = made(tmp_path, X, labels=[0] * len(X))
    before = first.path.stat().st_mtime_ns
    made(tmp_path, X, labels=[0] * len(X))
    assert first.path.stat().st_mtime_ns == before
    again = made(tmp_path, X, labels=[1] * len(X))
    assert again.classes == ("1",)
    assert again.key == first.key


def test_imported_and_extracted_caches_never_replace_each_other(tmp_path, few_digits):
    imported = made(tmp_path, vectors())
    with pytest.raises(CacheMismatchError, match="vectors that were imported toy, nothing declared is there"):
        open_writer(imported.path, SPEC, source(5))
    with pytest.raises(CacheMismatchError, match="imported toy"):
        extract(few_digits, cache=imported.path, engine="eager", device="cpu", **BACKBONE)
    extract_images(tmp_path / "e.h5", SPEC, source(5))
    with pytest.raises(CacheMismatchError, match="features of test:net is there"):
        FeatureCache.from_arrays(tmp_path / "e.h5", vectors(), name="toy")
    with pytest.raises(CacheMismatchError, match=r"versions\.numbers"):
        made(tmp_path, vectors())
    with pytest.raises(PartError, match="is a whole cache"):
        merge_parts([imported.path], tmp_path / "m.h5")
    assert made(tmp_path, vectors(7), overwrite=True).rows == 7


def test_no_row_is_reused_by_its_content(tmp_path):
    images = source(2)
    same = replace(images.table, stamps=images.table.stamps.copy())
    images.files = [b"equal", b"equal"]
    images.table = same
    X = np.array([[1.0], [2.0]], np.float32)
    names = [name.decode() for name in images.table.ids]
    made(tmp_path, X, ids=names, images=images)
    images.table.stamps[1] += 1
    cache = made(tmp_path, X, ids=names, images=images)
    assert np.array_equal(cache.features(), X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_masked_values_are_missing(tmp_path, dtype):
    mask = np.zeros((4, 3), bool)
    mask[1, 2] = True
    masked = np.ma.MaskedArray(np.arange(12).reshape(4, 3).astype(dtype), mask)
    cache = FeatureCache.from_arrays(tmp_path / "m.h5", masked, name="m", max_bad=1)
    assert cache.ok.tolist() == [True, False, True, True]
    whole = np.ma.MaskedArray(masked.data, np.zeros((4, 3), bool))
    cache = FeatureCache.from_arrays(tmp_path / "w.h5", whole, name="m")
    assert np.array_equal(cache.features(), masked.data)


@pytest.mark.parametrize("X", [[[1.0, 2.0], [3.0]], {"a": [[1.0, 2.0], [3.0]]}])
def test_rows_of_different_lengths_are_refused(tmp_path, X):
    with pytest.raises(VectorsError, match="expected rows of the same length"):
        FeatureCache.from_arrays(tmp_path / "r.h5", X, name="r")


def test_a_damaged_cache_is_imported_again_and_not_extracted(tmp_path):
    X = np.random.default_rng(0).normal(size=(50, 40)).astype(np.float32)
    path = FeatureCache.from_arrays(tmp_path / "d.h5", X, name="d").path
    data = path.read_bytes()
    where = data.index(X.tobytes()[:400])
    path.write_bytes(data[:where] + bytes(400) + data[where + 400 :])
    with pytest.raises(ChecksumError, match="import the vectors again with --overwrite"):
        FeatureCache.open(path).features()
    assert "import the vectors again with --overwrite" in verify([path]).files[0].detail
