"""Images that a script holds."""

import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from frostline import pipeline
from frostline.errors import OptionError
from frostline.features.cache import FeatureCache
from frostline.features.errors import SourceError
from frostline.features.images.decoding import upright_rgb
from frostline.features.sources import images_source
from frostline.splits import Split
from frostline.testing import ImageSourceContract
from frostline.testing.images import encode, photo
from tests.helpers.network import BACKBONE

PICTURES = [photo(12, 10, seed=n) for n in range(6)]
PIXELS = np.stack([np.asarray(picture) for picture in PICTURES])


class Photos(Dataset):
    """Data set as torchvision has them: pairs of a picture and the number of its class."""

    classes = ("cat", "dog")

    def __len__(self):
        return len(PICTURES)

    def __getitem__(self, index):
        return PICTURES[index], index % 2


class Listed(Photos):
    """The same with the labels beside the images, none of which need be read for them."""

    targets = torch.tensor([0, 1, 0, 1, 0, 1])

    def __getitem__(self, index):
        return torch.from_numpy(PIXELS[index]).permute(2, 0, 1), 7


def pixels(source, row):
    return np.asarray(upright_rgb(source.read(row)[0]))


class TestMemorySource(ImageSourceContract):
    """Bytes of files by id."""

    @pytest.fixture
    def files(self):
        return {f"{kind}/{n}.png": encode(photo(12, 10, seed=n)) for n, kind in enumerate("baabba")}

    @pytest.fixture
    def source(self, files):
        source = images_source(list(files.values()), ids=list(files), labels=[name[0] for name in files])
        source.given = list(files)
        return source

    def reopened(self, source):
        copy = images_source(source._images, ids=source.given, labels=[name[0] for name in source.given])
        copy.given = source.given
        return copy

    def write(self, source, row, data):
        source._images[source._order[row]] = data

    def remove(self, source, row):
        source._images[source._order[row]] = None

    def test_stamp_of_a_changed_image_is_another(self, source):
        """Nothing but its bytes tells whether an image has changed, so all of them are in doubt."""
        self.write(source, 1, self.other)
        assert source.read(1)[0] == self.other
        assert source.unsettled(2**62).all()

    def test_stamps_are_conclusive_for_images_that_were_not_changed_lately(self, source):
        assert source.unsettled(0).all()

    def test_stamps_begin_with_the_sizes_of_the_images(self, source):
        assert not source.table.stamps.view("<i8")[:, 0].any()


@pytest.mark.parametrize(
    "images",
    [
        PIXELS,
        PIXELS.transpose(0, 3, 1, 2),
        list(PIXELS),
        PICTURES,
        iter(PICTURES),
        [encode(picture) for picture in PICTURES],
        torch.from_numpy(PIXELS),
        [torch.from_numpy(image) for image in PIXELS],
        Photos(),
        Listed(),
        [(picture, "x") for picture in PICTURES],
    ],
    ids=[
        "array",
        "channels first",
        "arrays",
        "pictures",
        "iterator",
        "bytes",
        "tensor",
        "tensors",
        "data set",
        "listed",
        "pairs",
    ],
)
def test_pixels_are_those_given(images):
    source = images_source(images)
    assert source.table.ids.tolist() == [f"{n:08}".encode() for n in range(6)]
    np.testing.assert_array_equal([pixels(source, row) for row in range(6)], PIXELS)


def test_labels():
    for images in (Photos(), Listed()):
        table = images_source(images).table
        assert table.classes == ("cat", "dog")
        assert table.labels.tolist() == [0, 1, 0, 1, 0, 1]
    table = images_source(PIXELS, labels=np.array([3, 10, 3, 2, 3, 3])).table
    assert table.classes == ("2", "3", "10")
    table = images_source(
        PIXELS, labels=["a", None, "b", "", "a", "a"], split=["train"] * 5 + [""], groups=list("xxyyzz")
    ).table
    assert table.labels.tolist() == [0, -1, 1, -1, 0, 0]
    assert table.split.tolist() == [Split.TRAIN] * 5 + [Split.NONE]
    assert table.groups.tolist() == [b"x", b"x", b"y", b"y", b"z", b"z"]
    assert not (images_source(PICTURES).table.labels >= 0).any()


def test_rows_are_sorted_by_id():
    source = images_source(PIXELS, ids=list("fbacde"), labels=list("fbacde"))
    assert source.table.ids.tolist() == [b"a", b"b", b"c", b"d", b"e", b"f"]
    assert source.table.labels.tolist() == list(range(6))
    np.testing.assert_array_equal([pixels(source, row) for row in range(6)], PIXELS[[2, 1, 3, 4, 5, 0]])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16", "CMYK"])
def test_modes_of_pictures_are_kept(mode):
    picture = PICTURES[0].convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    data, _ = images_source([picture]).read(0)
    with Image.open(io.BytesIO(data)) as found:
        assert found.mode == mode
        assert found.tobytes() == picture.tobytes()


def test_pictures_are_turned_upright():
    turned = Image.open(
        io.BytesIO(encode(PICTURES[0], "JPEG", exif=b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"))
    )
    exif = turned.getexif()
    exif[0x0112] = 6
    turned = Image.open(io.BytesIO(encode(PICTURES[0], "PNG", exif=exif)))
    np.testing.assert_array_equal(pixels(images_source([turned]), 0), np.rot90(PIXELS[0], -1))


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (PIXELS.astype(np.float32), {}, "got numbers of type float32, expected uint8"),
        ([torch.rand(3, 10, 12)], {}, "got numbers of type float32, expected uint8"),
        ([object()], {}, "got object, expected a picture of Pillow"),
        (["a.png"], {}, "got str, expected a picture of Pillow"),
        ([Image.new("F", (3, 3))], {}, "got a picture of mode F; convert it to RGB"),
        ([], {}, "holds no image"),
        (3, {}, "got int, expected images"),
        (PIXELS, {"labels": [1]}, "labels: got 1, expected one per image, 6"),
        (PIXELS, {"labels": [1.5] * 6}, "labels: got 1.5, expected texts or integers"),
        (PIXELS, {"ids": list("aabcde")}, "ids: got 1 of them twice"),
        (PIXELS, {"split": ["eval"] * 6}, "split: got 'eval', expected train"),
    ],
)
def test_other_images_are_refused(images, options, message):
    with pytest.raises(SourceError, match=message):
        images_source(images, **options)


def test_an_item_that_is_no_image_is_a_failed_row(tmp_path):
    pipeline.extract([*PICTURES, None], cache=tmp_path / "c.h5", max_bad=1, **BACKBONE)
    cache = FeatureCache.open(tmp_path / "c.h5")
    assert cache.ok.tolist() == [True] * 6 + [False]
    assert "image 6: got NoneType" in cache.errors[6]


def test_copies_in_worker_processes_read_the_same():
    source = pickle.loads(pickle.dumps(images_source(Photos())))  # noqa: S301  # made here
    np.testing.assert_array_equal(pixels(source, 3), PIXELS[3])


def test_stages_take_images(tmp_path):
    cache, images = tmp_path / "c.h5", Photos()
    assert pipeline.extract(images, cache=cache, **BACKBONE).computed == 6
    assert pipeline.extract(images, cache=cache, **BACKBONE).computed == 0
    again = images_source([255 - PIXELS[0], *PIXELS[1:]], labels=Photos.classes * 3)
    assert pipeline.extract(again, cache=cache, **BACKBONE).computed == 1
    with pytest.raises(OptionError, match="split_column: images were passed, not their path"):
        pipeline.extract(images, cache=cache, split_column="x", **BACKBONE)
    with pytest.raises(OptionError, match=r"data: got int, expected images\. Pass a path"):
        pipeline.extract(3, cache=cache, **BACKBONE)
