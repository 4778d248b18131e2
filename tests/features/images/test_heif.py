"""Photos in HEIF, as phones write them."""

import io

import numpy as np
import pytest
from PIL import Image

from frostline.features.images import decoding
from frostline.features.images.decoding import DecodeError, extensions, upright_rgb
from frostline.features.images.heif import is_heif
from frostline.testing.images import encode, photo

HEADER = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)


def test_without_the_package_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(decoding, "reads_heif", lambda: False)
    monkeypatch.setattr(decoding, "_formats", lambda: decoding.FORMATS)
    assert ".heic" not in extensions()
    with pytest.raises(DecodeError, match=r"^a HEIF photo; to read it: pip install 'frostline\[heif\]'$"):
        upright_rgb(HEADER)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "AVIF"])
def test_other_formats_are_not_taken_for_heif(kind):
    assert is_heif(HEADER)
    assert not is_heif(encode(photo(12, 10), kind))


def test_with_the_package_photos_are_read_upright():
    heif = pytest.importorskip("pillow_heif", reason="needs the extra heif")
    heif.register_heif_opener()
    assert {".heic", ".heif", ".hif"} <= extensions()
    turned = Image.Exif()
    turned[0x0112] = 6
    picture, buffer = photo(64, 32), io.BytesIO()
    picture.save(buffer, "HEIF", quality=95, exif=turned.tobytes())
    assert is_heif(buffer.getvalue())
    found = upright_rgb(buffer.getvalue())
    expected = picture.transpose(Image.Transpose.ROTATE_270)
    assert found.size == expected.size == (32, 64)
    assert np.abs(np.asarray(found, int) - np.asarray(expected, int)).mean() < 12


def test_a_photo_that_was_cut_is_damaged():
    heif = pytest.importorskip("pillow_heif", reason="needs the extra heif")
    heif.register_heif_opener()
    buffer = io.BytesIO()
    photo(64, 64).save(buffer, "HEIF")
    with pytest.raises(DecodeError):
        upright_rgb(buffer.getvalue()[: len(buffer.getvalue()) // 2])
