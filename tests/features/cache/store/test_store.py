"""A store finds features by content in any number of files, and joins files without changing a value."""

import numpy as np
import pytest

from frostline.features.cache.file.mapped import MappedFile
from frostline.features.cache.store import FeatureStore, content_table
from frostline.features.cache.store.joining import join_files
from frostline.features.content import file_content
from frostline.features.errors import SourceError
from tests.features.cache.synthetic import SPEC, extract, images, labelled, spec, vector

LAYER = SPEC.layers[0]


def silent(message):
    raise AssertionError(message)


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "store", SPEC.digest, silent)


def add(store, files, specification=SPEC):
    path = store.new_path()
    extract(path, specification, labelled(files))
    return path


def content_of(files):
    return np.frombuffer(b"".join(map(file_content, files.values())), np.uint8).reshape(-1, 16)


def read(store, files, layer=LAYER):
    out = np.full((len(files), layer.dim), np.nan, np.float32)
    found = store.read(content_of(files), layer.key, out)
    return found, out


def vectors(files, layer=LAYER):
    return np.stack([vector(data, layer)[0] for data in files.values()])


def test_features_are_found_in_several_files_by_content(store):
    add(store, images(300))
    add(store, images(10, start=400))
    wanted = {**images(3, start=402), **images(2, start=600), **images(5, start=250)}
    for layer in SPEC.layers:
        found, out = read(store, wanted, layer)
        here = np.array([int(name[-10:-4]) < 600 for name in wanted])
        np.testing.assert_array_equal(found, here)
        np.testing.assert_array_equal(out[here], vectors(wanted, layer)[here])
        assert np.isnan(out[~here]).all()


def test_store_that_does_not_exist_is_empty(store):
    assert not read(store, images(3))[0].any()
    assert not store.folder.exists()
    assert store.any_path() is None


def test_images_without_features_and_zero_digests_are_not_found(store):
    files = {**images(3), "class/bad.jpg": b"bad", "class/gone.jpg": FileNotFoundError()}
    add(store, files)
    del files["class/gone.jpg"]
    assert read(store, files)[0].tolist() == [True] * 3 + [False]
    out = np.zeros((1, LAYER.dim), np.float32)
    assert not store.read(np.zeros((1, 16), np.uint8), LAYER.key, out).any()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_other_number_formats_are_decoded(tmp_path, dtype):
    specification = spec(dtype=dtype)
    store = FeatureStore(tmp_path / "store", specification.digest, silent)
    files = images(20)
    add(store, files, specification)
    np.testing.assert_allclose(read(store, files)[1], vectors(files), rtol=1e-2)


def test_files_of_another_specification_are_not_read(store):
    add(store, images(5), spec(precision="bf16"))
    assert not read(store, images(5))[0].any()
    assert store.any_path() is None


def test_joined_files_hold_each_image_once_with_the_same_values(store, tmp_path):
    paths = [add(store, images(300)), add(store, {**images(5, start=298), "class/bad.jpg": b"bad"})]
    joined = join_files(tmp_path / "joined.h5", [MappedFile.open(path) for path in paths])
    assert joined.rows == 303
    assert joined.ok.all()
    assert joined.verify().ok
    assert joined.ids.tolist() == sorted(bytes(row).hex() for row in content_of(images(303)))
    by_content = dict(zip(map(bytes, joined.content), np.array(joined.features(LAYER.key)), strict=True))
    for data in images(303).values():
        np.testing.assert_array_equal(by_content[file_content(data)], vector(data, LAYER)[0])


def test_joining_nothing_makes_no_file(store, tmp_path):
    path = add(store, {"class/bad.jpg": b"bad"})
    assert join_files(tmp_path / "joined.h5", [MappedFile.open(path)]) is None
    assert [item.name for item in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize(
    ("sizes", "left"),
    [
        ([1] * 7, [1] * 7),
        ([1] * 8, [8]),
        ([1] * 8 + [16], [24]),
        ([1] * 8 + [17], [8, 17]),
        ([1, 2, 4, 8, 16, 32, 64], [1, 2, 4, 8, 16, 32, 64]),
        ([1, 2, 4, 8, 16, 32, 64, 128], [255]),
        ([1, 3, 20] * 2, [1, 1, 3, 3, 20, 20]),
    ],
)
def test_files_of_similar_size_are_joined(tmp_path, sizes, left):
    store, start = FeatureStore(tmp_path / "store", SPEC.digest, silent), 0
    for size in sizes:
        add(store, images(size, start=start))
        start += size
    with store.writing():
        store.compact()
    sizes = [MappedFile.open(path).layout.rows for path in store.folder.glob("*.h5")]
    assert sorted(sizes) == left
    found, out = read(store, images(start))
    assert found.all()
    np.testing.assert_array_equal(out, vectors(images(start)))


def test_rows_of_a_table_are_named_by_content():
    content = np.sort(content_of(images(3)).view("S16")[:, 0]).view(np.uint8).reshape(-1, 16)
    table = content_table(content)
    assert table.ids.tolist() == [bytes(row).hex().encode() for row in content]
    assert (table.labels == -1).all()
    np.testing.assert_array_equal(table.stamps[:, 8:], content[:, :8])


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "store").write_bytes(b"")
    with pytest.raises(SourceError, match="store is a file; expected a folder"):
        FeatureStore(tmp_path / "store", SPEC.digest, silent)
