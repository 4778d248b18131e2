"""Caches in notebooks: what they hold, escaped, with thumbnails where images can be read at once."""

import re
from pathlib import Path

import numpy as np
import pytest

from frostline.features.cache import FeatureCache
from frostline.features.cache.html import class_counts, page
from frostline.pipeline import extract
from frostline.testing import encode, photo
from tests.features.cache.frames.test_frames import write
from tests.helpers.network import BACKBONE

EVIL = "<script>alert('1')</script>"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    for label in (EVIL.replace("/", "-"), "b&b"):
        (folder / "data" / label).mkdir(parents=True)
        for number in range(3):
            (folder / "data" / label / f"\x1b[31m'{number}.png").write_bytes(
                encode(photo(40, 30, seed=number))
            )
    return FeatureCache.open(extract(folder / "data", cache=folder / "<i>c.h5", **BACKBONE).cache)


def test_cache_shows_its_counts_and_classes_and_thumbnails(cache):
    text = cache._repr_html_()
    assert "<td style='text-align:left'>6</td>" in text
    assert "&lt;script&gt;alert(&#x27;1&#x27;)&lt;-script&gt; (3), b&amp;b (3)" in text
    assert text.count("<img src='data:image/webp;base64,") == 6
    assert "test_resnet" in text
    assert cache.key[:16] in text


def test_no_name_becomes_markup_or_a_control_character(cache):
    text = cache._repr_html_()
    assert "\x1b" not in text
    tags = {tag.partition(" ")[0] for tag in re.findall(r"<([^>]*)>", text)}
    assert tags <= {
        "div",
        "/div",
        "strong",
        "/strong",
        "table",
        "/table",
        "tr",
        "/tr",
        "th",
        "/th",
        "td",
        "/td",
        "img",
    }
    assert "title='" in text
    assert not re.search(r"title='[^']*'[^>]", text)  # no name ends its attribute


def test_image_that_cannot_be_read_is_an_empty_tile(cache):
    path = Path(cache.source, min(cache.ids))
    before = path.read_bytes()
    path.write_bytes(b"no image")
    try:
        text = cache._repr_html_()
    finally:
        path.write_bytes(before)
    assert text.count("<img") == 5
    assert text.count("title='") == 6


def test_source_that_is_not_there_is_named(tmp_path, digits):
    path = extract(digits, cache=tmp_path / "c.h5", limit=6, **BACKBONE).cache
    cache = FeatureCache.open(path)
    assert cache._repr_html_().count("<img") == 6
    memory = write(tmp_path / "m.h5", count=30)
    text = memory._repr_html_()
    assert "<img" not in text
    assert "of which 1 have no features" in text
    assert "Images are not shown" in text


def test_closed_and_damaged_caches_are_shown_without_an_error(tmp_path):
    cache = write(tmp_path / "c.h5")
    layout = cache.file.layout
    cache.close()
    assert "closed" in cache._repr_html_()
    data = bytearray((tmp_path / "c.h5").read_bytes())
    data[layout.extents["content"].offset] ^= 1
    (tmp_path / "c.h5").write_bytes(data)
    assert "the metadata of rows 0-255 is damaged" in FeatureCache.open(tmp_path / "c.h5")._repr_html_()


def test_many_classes_are_counted():
    text = class_counts(np.array([0, 0, 24, -1]), [f"c{number}" for number in range(25)])
    assert text.startswith("c0 (2), c1 (0)")
    assert text.endswith("c19 (0), and 5 more, 1 without label")


def test_texts_of_a_page_are_escaped_and_empty_facts_left_out():
    text = page("<t>", {"<n>": "<v>", "none": ""}, [], "<r>")
    assert "<t>" not in text
    assert "<n>" not in text
    assert "<v>" not in text
    assert "<r>" not in text
    assert "none" not in text
