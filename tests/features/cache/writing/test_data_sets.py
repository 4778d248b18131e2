"""A cache of another data set is never replaced without `overwrite`."""

import pytest

from frostline.features.cache import FeatureCache, merge_parts, open_writer
from frostline.features.cache.file.part import Part
from frostline.features.errors import CacheMismatchError
from tests.features.cache.synthetic import SPEC, extract, images, interrupted, labelled, names

ROWS = 700


@pytest.fixture
def places(tmp_path):
    """Two places that exist."""
    for name in ("one", "other"):
        (tmp_path / name / "photos").mkdir(parents=True)
    return [str(tmp_path / name / "photos") for name in ("one", "other")]


@pytest.fixture
def path(tmp_path, places):
    return extract(tmp_path / "caches" / "c.h5", SPEC, labelled(images(ROWS), root=places[0]))[0].path


def refused(path, images_, **options):
    """Message of the refusal; the cache stays as it was."""
    before = path.read_bytes()
    with pytest.raises(CacheMismatchError, match="holds features of another data set") as caught:
        open_writer(path, SPEC, images_, **options)
    assert path.read_bytes() == before
    assert names(path.parent) == [path.name]
    return str(caught.value)


def test_other_images_from_another_place_are_refused_and_both_places_named(path, places):
    message = refused(path, labelled(images(ROWS, start=5000), root=places[1]))
    assert f"700 images from {places[0]}, of which {places[1]} has 0" in message
    assert "--cache" in message
    assert "--overwrite" in message


def test_other_images_replace_a_cache_with_overwrite(path, places):
    cache, computed = extract(path, SPEC, labelled(images(ROWS, start=5000), root=places[1]), overwrite=True)
    assert (cache.source, computed) == (places[1], ROWS)


def test_other_images_in_the_same_place_replace_the_cache(path, places):
    assert extract(path, SPEC, labelled(images(ROWS, start=5000), root=places[0]))[1] == ROWS


def test_the_same_place_under_a_link_is_the_same(path, places, tmp_path):
    (tmp_path / "link").symlink_to(places[0], target_is_directory=True)
    assert extract(path, SPEC, labelled(images(ROWS, start=5000), root=str(tmp_path / "link")))[1] == ROWS


def test_a_copy_with_more_images_replaces_the_cache_and_keeps_its_rows(path, places):
    _, computed = extract(path, SPEC, labelled(images(ROWS + 50), root=places[1]))
    assert computed == 50


def test_a_copy_with_fewer_images_is_refused_while_the_original_is_there(path, places):
    assert "has 699" in refused(path, labelled(images(ROWS - 1), root=places[1]))


@pytest.mark.parametrize("column", ["labels", "split", "groups"])
def test_a_copy_with_another_column_is_refused_while_the_original_is_there(path, places, column):
    copy = labelled(images(ROWS), root=places[1])
    getattr(copy.table, column)[3] = {"labels": -1, "split": 2, "groups": b"gr"}[column]
    assert "with other labels, splits or groups" in refused(path, copy)


def test_a_moved_data_set_may_have_lost_images(tmp_path, places):
    path, gone = tmp_path / "caches" / "c.h5", str(tmp_path / "gone")
    extract(path, SPEC, labelled(images(ROWS), root=gone))
    refused(path, labelled(images(ROWS, start=ROWS // 2 + 1), root=places[1]))
    assert extract(path, SPEC, labelled(images(ROWS, start=ROWS // 2), root=places[1]))[1] == ROWS // 2


def test_an_interrupted_extraction_of_another_place_is_refused(tmp_path, places):
    path = tmp_path / "c.h5"
    interrupted(path, SPEC, labelled(images(ROWS), root=places[0]), batches=17)
    other = labelled(images(ROWS, start=5000), root=places[1])
    with pytest.raises(
        CacheMismatchError, match=r"c\.h5\.partial: holds features of another data set; 512 images"
    ):
        open_writer(path, SPEC, other)
    assert extract(path, SPEC, labelled(images(ROWS), root=places[0]))[1] == ROWS - 512
    assert isinstance(FeatureCache.open(path), FeatureCache)


def test_parts_of_another_place_are_not_merged_over_a_cache(path, places):
    other = labelled(images(ROWS, start=5000), root=places[1])
    parts = [extract(path, SPEC, other, part=Part(number, 2))[0].path for number in (1, 2)]
    with pytest.raises(CacheMismatchError, match="another data set"):
        merge_parts(parts)
    assert FeatureCache.open(path).source == places[0]
    assert merge_parts(parts, overwrite=True).source == places[1]
