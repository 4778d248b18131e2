"""Files too large for an image, and images too large for the memory: failures of their rows."""

import os

import numpy as np
import pytest
from PIL import Image

from frostline.features.images import batches
from frostline.features.images.batches import load_batches
from frostline.features.images.decoding import MAX_FILE_BYTES, MAX_PIXELS, upright_rgb
from frostline.features.images.files.damage import decoded
from frostline.features.images.thumbnails import load_thumbnail
from frostline.features.sources import open_source
from frostline.features.spec import Transform
from frostline.features.table import FAILED, OK
from tests.helpers.images import write_folder, write_image
from tests.helpers.network import BACKBONE_OPTIONS
from tests.helpers.runner import run

TRANSFORM = Transform(8, "shortest", (8, 8), "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture
def folder(tmp_path):
    """Three images, and a file of 20 GB that takes no space."""
    write_folder(tmp_path / "set", ["a/1.png", "a/2.png", "b/1.png"])
    with (tmp_path / "set" / "b" / "huge.jpg").open("wb") as file:
        os.truncate(file.fileno(), 20_000_000_000)
    return tmp_path / "set"


def loaded(folder):
    source = open_source(folder)
    rows = np.arange(len(source.table))
    (batch,) = load_batches(source, rows, TRANSFORM, batch_size=8, block_rows=64)
    return dict(
        zip(
            [id_.decode() for id_ in source.table.ids],
            zip(batch.status, batch.errors, strict=True),
            strict=True,
        )
    )


def test_the_largest_file_could_hold_the_most_pixels_without_compression():
    assert MAX_FILE_BYTES >= MAX_PIXELS * 4 * 2  # four channels of 16 bits


def test_a_file_beyond_the_limit_is_not_read_and_fails_its_row_alone(folder, monkeypatch):
    read = []
    monkeypatch.setattr(batches, "file_content", lambda data: read.append(len(data)) or bytes(16))
    found = loaded(folder)
    assert max(read) < 10_000
    status, error = found.pop("b/huge.jpg")
    assert status == FAILED
    assert error == "the file has 20,000,000,000 bytes; expected at most 2,147,483,640"
    assert found == dict.fromkeys(("a/1.png", "a/2.png", "b/1.png"), (OK, ""))


def test_extraction_goes_on_without_the_large_file(folder, tmp_path):
    done = run("extract", folder, *BACKBONE_OPTIONS, "--cache", tmp_path / "c.h5", "--max-bad", 1)
    assert "4 images" in done.stdout
    assert "huge.jpg: the file has 20,000,000,000 bytes" in done.stdout


def test_no_thumbnail_is_made_of_a_large_file(folder):
    with pytest.raises(OSError, match="20,000,000,000 bytes"):
        load_thumbnail(folder / "b" / "huge.jpg", 16)


def test_memory_that_runs_out_for_an_image_fails_its_row_alone(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "set", ["1.png", "2.png", "3.png"])
    large = write_image(folder / "2.png", seed=7, size=(33, 30)).read_bytes()
    decode = batches.decode_views

    def limited(data, *arguments, **options):
        if data == large:
            raise MemoryError
        return decode(data, *arguments, **options)

    monkeypatch.setattr(batches, "decode_views", limited)
    found = loaded(folder)
    assert found["1.png"] == found["3.png"] == (OK, "")
    assert found["2.png"] == (FAILED, "the image doesn't fit into the free memory of this machine")


def test_memory_that_runs_out_is_not_taken_for_damage(tmp_path, monkeypatch):
    data = write_image(tmp_path / "1.png").read_bytes()

    def load(_image):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "load", load)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(MemoryError):
        upright_rgb(data)
    with pytest.raises(MemoryError):
        decoded(data, ("PNG",))
