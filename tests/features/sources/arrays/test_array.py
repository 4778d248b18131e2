"""Arrays of images as image sources."""

import gzip
import io
import os
import pickle
import struct
import tarfile
import tracemalloc

import h5py
import numpy as np
import pytest
from PIL import Image

from frostline.features.errors import SourceError
from frostline.features.images.decoding import upright_rgb
from frostline.features.sources import open_source, summarise
from frostline.features.sources.arrays.encoding import image_file
from frostline.splits import Split
from frostline.testing import ImageSourceKindContract

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 10, 12, 3), np.uint8)
GREY = IMAGES[..., 0]


def pixels_of(source, row):
    return np.asarray(upright_rgb(source.read(row)[0]))


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wb") as file:
        file.write(header + array.tobytes())
    return path


class ArrayContract(ImageSourceKindContract):
    """Tests of the source of one array. Subclasses define `name` and `rewritten`, which writes the file."""

    kind = "array"
    alone = False
    other = image_file(255 - IMAGES[0])
    prefix = ""

    @pytest.fixture
    def files(self):
        return {f"{self.prefix}{row:08}": image_file(image) for row, image in enumerate(IMAGES)}

    @pytest.fixture
    def source(self, tmp_path):
        self.rewritten(tmp_path / self.name, IMAGES)
        return open_source(tmp_path / self.name)

    def images(self, source):
        return np.stack([pixels_of(source, row) for row in range(len(source.table))])

    def write(self, source, row, data):
        images = self.images(source)
        images[row] = upright_rgb(data)
        self.rewritten(source.root, images)

    def remove(self, source, row):
        self.rewritten(source.root, self.images(source)[:row])

    def test_pixels_are_those_of_the_array(self, source):
        np.testing.assert_array_equal(self.images(source), IMAGES)


class TestNpy(ArrayContract):
    name = "x.npy"

    def rewritten(self, path, images):
        np.save(path, images)


class TestNpz(ArrayContract):
    name = "x.npz"

    def rewritten(self, path, images):
        np.savez_compressed(path, images=images, labels=np.arange(len(images)) % 2)

    def test_labels(self, source):
        assert source.table.classes == ("0", "1")
        assert source.table.labels.tolist() == [0, 1, 0, 1, 0, 1]


class TestHdf5(ArrayContract):
    name = "x.hdf5"

    def rewritten(self, path, images):
        with h5py.File(path, "w") as file:
            file["images"] = images
            file["label"] = np.strings.encode(["a", "é"] * 3, "utf-8")[: len(images)]

    def test_labels(self, source):
        assert source.table.classes == ("a", "é")

    def test_texts_of_variable_length_are_refused(self, source):
        with h5py.File(source.root, "r+") as file:
            del file["label"]
            file["label"] = ["a", "b"] * 3
        with pytest.raises(
            SourceError, match="its array 'label': holds texts of variable length; expected integers"
        ):
            open_source(source.root)


class TestChunkedHdf5(ArrayContract):
    name = "x.h5"

    def rewritten(self, path, images):
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=images, chunks=(2, 5, 6, 3), compression="gzip")


class TestIdx(ArrayContract):
    name = "train-images-idx3-ubyte"
    prefix = "train/"
    other = image_file(255 - GREY[0])

    @pytest.fixture
    def files(self):
        return {f"train/{row:08}": image_file(image) for row, image in enumerate(GREY)}

    def rewritten(self, path, images):
        path = type(self).path_of(path)
        write_idx(path, images[..., 0])
        write_idx(
            path.with_name(path.name.replace("images-idx3", "labels-idx1")),
            np.arange(len(images), dtype=np.uint8),
        )

    @staticmethod
    def path_of(path):
        from pathlib import Path

        return Path(path)

    def test_pixels_are_those_of_the_array(self, source):
        np.testing.assert_array_equal(self.images(source), np.repeat(GREY[..., None], 3, axis=3))


def test_a_folder_of_the_mnist_family(tmp_path):
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", GREY)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.array([5, 0, 4, 1, 9, 2], np.uint8))
    write_idx(tmp_path / "t10k-images-idx3-ubyte", GREY[:2])
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", GREY[:2])
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", np.array([7, 2], np.uint8))
    source = open_source(tmp_path)
    table = source.table
    assert [id_.decode() for id_ in table.ids] == [
        *(f"t10k/{n:08}" for n in range(2)),
        *(f"train/{n:08}" for n in range(6)),
    ]
    assert table.split.tolist() == [Split.TEST] * 2 + [Split.TRAIN] * 6
    assert [table.classes[label] for label in table.labels] == ["7", "2", "5", "0", "4", "1", "9", "2"]
    np.testing.assert_array_equal(pixels_of(source, 7)[..., 0], GREY[5])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1,) * 255, "not a file of images or labels"),
        ((0, 1 << 31, 1 << 31, 1 << 31), "its header tells of an impossible shape"),
    ],
    ids=["255 axes", "no element"],
)
@pytest.mark.parametrize("name", ["train-labels-idx1-ubyte", "train-images-idx3-ubyte.gz"])
def test_an_idx_header_of_an_impossible_shape_is_refused(name, shape, message, tmp_path):
    write_idx(tmp_path / "train-images-idx3-ubyte", GREY)
    data = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes() + b"x"
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    read = "train-images-idx3-ubyte" if "labels" in name else name
    with pytest.raises(SourceError, match=f"{name}: {message}"):
        open_source(tmp_path / read)


def cifar_files(variant):
    """Files of a data set of four images in the form of a published archive."""
    rows = IMAGES[:4].repeat(4, axis=1).repeat(3, axis=2)[:, :32, :32].transpose(0, 3, 1, 2).reshape(4, 3072)
    classes = ["cat", "dog"]
    if variant == "cifar-10-python":
        batch = {b"data": rows, b"labels": [0, 1, 1, 0], b"batch_label": b"x", b"filenames": [b"a"] * 4}
        files = dict.fromkeys(
            [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"], pickle.dumps(batch, 2)
        )
        return files | {
            "batches.meta": pickle.dumps({b"label_names": [name.encode() for name in classes]}, 2)
        }
    if variant == "cifar-100-python":
        batch = {b"data": rows, b"fine_labels": [0, 1, 1, 0], b"coarse_labels": [3] * 4}
        files = dict.fromkeys(["train", "test"], pickle.dumps(batch, 2))
        return files | {"meta": pickle.dumps({b"fine_label_names": [name.encode() for name in classes]}, 2)}
    ten = variant == "cifar-10-binary"
    batch = b"".join(
        bytes([*([9] * (not ten)), label]) + row.tobytes()
        for label, row in zip([0, 1, 1, 0], rows, strict=True)
    )
    names = (
        [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]
        if ten
        else ["train.bin", "test.bin"]
    )
    return dict.fromkeys(names, batch) | {
        ("batches.meta.txt" if ten else "fine_label_names.txt"): b"cat\ndog\n\n"
    }


@pytest.mark.parametrize(
    "variant", ["cifar-10-python", "cifar-100-python", "cifar-10-binary", "cifar-100-binary"]
)
@pytest.mark.parametrize("packed", [False, True])
def test_cifar(variant, packed, tmp_path):
    files = cifar_files(variant)
    path = tmp_path / (f"{variant}.tar.gz" if packed else variant)
    if packed:
        with tarfile.open(path, "w:gz") as archive:
            for name, data in files.items():
                member = tarfile.TarInfo(f"{variant}/{name}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    else:
        path.mkdir()
        for name, data in files.items():
            (path / name).write_bytes(data)
    source = open_source(path)
    table = source.table
    batches = 6 if "-10-" in variant else 2
    assert len(table) == 4 * batches
    assert table.classes == ("cat", "dog")
    assert table.labels.tolist() == [0, 1, 1, 0] * batches
    assert table.split.tolist().count(Split.TEST) == 4
    expected = IMAGES[1].repeat(4, axis=0).repeat(3, axis=1)[:32, :32]
    np.testing.assert_array_equal(pixels_of(source, 1), expected)
    assert source.table.ids[0].decode().endswith("/00000000")


def _bomb_of_files():
    """Members of the largest size that one may have, which are zeros."""
    for number in range(8):
        member = tarfile.TarInfo(f"cifar-10-batches-py/{number}")
        member.size = 1 << 20
        yield member.tobuf() + bytes(1 << 20)


def _bomb_of_a_name():
    """A header that says that the name of the next member has 8 MB."""
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 8 << 20
    yield member.tobuf() + bytes(8 << 20)


@pytest.mark.parametrize("make", [_bomb_of_files, _bomb_of_a_name])
def test_an_archive_of_cifar_that_expands_is_refused(make, tmp_path, monkeypatch):
    monkeypatch.setattr("frostline.features.sources.arrays.cifar._MOST", 1 << 20)
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(gzip.compress(b"".join(make())))
    with pytest.raises(SourceError, match=r"cifar-10-python\.tar\.gz: holds more than 2,097,152 bytes"):
        open_source(path)


def test_a_pickle_that_calls_something_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("called",)

    for name, data in (cifar_files("cifar-10-python") | {"test_batch": pickle.dumps(Evil())}).items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(
        SourceError, match=r"test_batch: not a readable file of CIFAR: it asks for builtins\.print"
    ):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("x_train", "y_train", "x_test", "y_test"), {"train": Split.TRAIN, "test": Split.TEST}),
        (
            ("train_images", "train_labels", "val_images", "val_labels"),
            {"train": Split.TRAIN, "val": Split.VAL},
        ),
        (("left_x", "left_y", "right_x", "right_y"), {"left": Split.NONE, "right": Split.NONE}),
    ],
)
def test_arrays_are_paired_by_their_names(names, splits, tmp_path):
    first, second = np.array([[0], [1], [1]]), np.array([[1], [0], [1]])
    np.savez(tmp_path / "a.npz", **dict(zip(names, (IMAGES[:3], first, IMAGES[3:], second), strict=True)))
    table = open_source(tmp_path / "a.npz").table
    found = {
        id_.decode(): (int(label), split)
        for id_, label, split in zip(table.ids, table.labels, table.split, strict=True)
    }
    one, other = splits
    assert found == {
        **{f"{one}/{n:08}": (int(first[n, 0]), splits[one]) for n in range(3)},
        **{f"{other}/{n:08}": (int(second[n, 0]), splits[other]) for n in range(3)},
    }


def test_the_array_with_the_labels_is_chosen(tmp_path):
    np.savez(tmp_path / "a.npz", images=IMAGES, kind=np.arange(6) % 3, labels=np.arange(6))
    assert len(open_source(tmp_path / "a.npz").table.classes) == 6
    assert len(open_source(tmp_path / "a.npz", label_column="kind").table.classes) == 3
    assert open_source(tmp_path / "a.npz", label_column="none").table.classes == ()
    with pytest.raises(SourceError, match="--label-column: got 'sort', expected the name of the array"):
        open_source(tmp_path / "a.npz", label_column="sort")


def test_masks_are_no_images(tmp_path):
    np.savez(tmp_path / "a.npz", images=IMAGES, masks=GREY, labels=np.arange(6))
    source = open_source(tmp_path / "a.npz")
    assert len(source.table) == len(source.table.classes) == 6
    assert summarise(source).remarks == ("not used: 'masks'",)


def test_unlabelled_arrays_are_told(tmp_path):
    np.savez(tmp_path / "a.npz", images=IMAGES, other=np.arange(6))
    assert (
        "no array holds one label per image of 'images'"
        in summarise(open_source(tmp_path / "a.npz")).remarks[0]
    )


@pytest.mark.parametrize(
    ("array", "mode"),
    [
        (GREY, "L"),
        (GREY[..., None], "L"),
        (IMAGES.transpose(0, 3, 1, 2), "RGB"),
        (np.concatenate([IMAGES, GREY[..., None]], axis=3), "RGBA"),
    ],
)
def test_shapes(array, mode, tmp_path):
    np.save(tmp_path / "a.npy", array)
    source = open_source(tmp_path / "a.npy")
    with Image.open(io.BytesIO(source.read(2)[0])) as image:
        assert image.mode == mode
        expected = IMAGES[2] if mode == "RGB" else array[2].squeeze()
        np.testing.assert_array_equal(np.asarray(image), expected)
    assert source.table.stamps.view("<i8")[2, 0] == len(source.read(2)[0])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (IMAGES.astype(np.float32), "got numbers of type float32, expected uint8 from 0 to 255"),
        (IMAGES[..., :2], r"got an array of shape \(6, 10, 12, 2\), expected \(n, height, width\)"),
        (GREY[0], r"got an array of shape \(10, 12\)"),
        (GREY[:0], r"got an array of shape \(0, 10, 12\)"),
        (np.asfortranarray(IMAGES), "the array is in Fortran order"),
    ],
)
def test_other_arrays_are_refused(array, message, tmp_path):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(SourceError, match=rf"a\.npy: .*{message}"):
        open_source(tmp_path / "a.npy")


def test_objects_are_not_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([print] * 3), allow_pickle=True)
    with pytest.raises(SourceError, match="got numbers of type object"):
        open_source(tmp_path / "a.npy")


@pytest.mark.parametrize(
    "name", ["x.npy", "x.npz", "x.h5", "train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"]
)
@pytest.mark.parametrize("keep", [0, 3, 60, 0.5, 0.97])
def test_truncated_files_are_named(name, keep, tmp_path):
    path = tmp_path / name
    if "idx" in name:
        write_idx(path, GREY)
    elif name == "x.h5":
        with h5py.File(path, "w") as file:
            file["x"] = IMAGES
    else:
        (np.save if name == "x.npy" else np.savez)(path, IMAGES)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(SourceError, match=name.replace(".", r"\.")):
        open_source(path)


def test_labels_of_another_number_are_refused(tmp_path):
    write_idx(tmp_path / "train-images-idx3-ubyte", GREY)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(5, np.uint8))
    with pytest.raises(
        SourceError, match=r"labels-idx1-ubyte: got uint8 of shape \(5,\), expected one .* per image, \(6,\)"
    ):
        open_source(tmp_path)


def test_a_cache_is_no_array(ten_cache):
    with pytest.raises(SourceError, match="is a cache of features; expected images"):
        open_source(ten_cache)


def test_options_for_named_arrays_are_refused_elsewhere(tmp_path):
    np.save(tmp_path / "a.npy", IMAGES)
    with pytest.raises(SourceError, match=r"--label-column: .* has no named arrays"):
        open_source(tmp_path / "a.npy", label_column="y")


def test_a_header_of_any_length_is_not_read(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", 50_000_000))
    os.truncate(tmp_path / "a.npy", 60_000_000)
    tracemalloc.start()
    with pytest.raises(
        SourceError, match=r"a\.npy: .*header claims 50,000,000 bytes; expected at most 10,000"
    ):
        open_source(tmp_path / "a.npy")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
def test_an_idx_file_of_many_dimensions_is_refused(name, tmp_path):
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", GREY)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.zeros(6, np.uint8))
    header = bytes([0, 0, 8, 200]) + struct.pack(">I", 1) * 200
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(header + b"x"))
    with pytest.raises(SourceError, match=rf"{name}\.gz: not a file of images or labels in the IDX format"):
        open_source(tmp_path)


def test_labels_that_are_a_pickle_are_named_as_such(tmp_path):
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=np.array(["a", None] * 3, object))
    with pytest.raises(
        SourceError, match=r"a\.npz: its array 'labels' holds Python objects.* array\.astype\(str\)"
    ):
        open_source(tmp_path / "a.npz")


def test_two_arrays_that_may_be_the_labels_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", images=IMAGES, y=np.arange(6), labels=np.arange(6) % 2)
    with pytest.raises(
        SourceError, match="several arrays may hold the labels, 'labels', 'y'; name one with --label-col"
    ):
        open_source(tmp_path / "a.npz")
    assert len(open_source(tmp_path / "a.npz", label_column="y").table.classes) == 6


def test_arrays_of_hdf5_in_other_files_are_told(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["images"] = IMAGES
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["g/images"] = h5py.ExternalLink("other.h5", "images")
        file.create_dataset("more", (6, 10, 12), "u1", external=[("raw.bin", 0, 720)])
    with pytest.raises(
        SourceError, match=r"a\.h5: not read, because the numbers lie in other files: 'g/images', 'more'"
    ):
        open_source(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["images"] = IMAGES[:5]
    source = open_source(tmp_path / "a.h5")
    assert len(source.table) == 5
    assert any("lie in other files: 'g/images', 'more'" in each for each in summarise(source).remarks)
