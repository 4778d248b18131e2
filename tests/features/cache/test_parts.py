import re

import h5py
import numpy as np
import pytest

from frostline.features.cache import FeatureCache, Part, merge_parts, open_writer
from frostline.features.errors import CacheFormatError, CacheMismatchError, ChecksumError, PartError
from tests.features.cache.synthetic import (
    SPEC,
    MemorySource,
    contents,
    extract,
    fill,
    images,
    interrupted,
    labelled,
    labels_of,
    names,
    source,
    spec,
)

ROWS, COUNT = 1500, 4  # six blocks, the last one short


def write_part(path, images_, number, count=COUNT, specification=SPEC, **options):
    """Computes one part; returns its cache and how many rows were computed."""
    writer = open_writer(path, specification, images_, part=Part(number, count), **options)
    if isinstance(writer, FeatureCache):
        return writer, 0
    with writer:
        fill(writer, specification, writer.source)
        return writer.finish(), len(writer.todo)


def write_parts(path, images_, count=COUNT, **options):
    return [write_part(path, images_, number, count, **options)[0].path for number in range(1, count + 1)]


@pytest.fixture
def parts(tmp_path):
    return write_parts(tmp_path / "c.h5", source(ROWS))


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_merged_parts_equal_the_file_of_a_single_process(fast_path, count):
    files = images(ROWS) | {"class/a-much-longer-name.jpg": b"bad", "class/000700.jpg": OSError(5, "gone")}
    parts = write_parts(fast_path / "c.h5", labelled(files), count)
    merged = merge_parts(parts[::-1])
    single, _ = extract(fast_path / "single.h5", SPEC, labelled(files))
    assert contents(merged) == contents(single)
    assert merged.errors == single.errors
    assert (merged.source, merged.weights, merged.part) == (single.source, single.weights, None)
    assert merged.path.stat().st_size == single.path.stat().st_size
    assert merged.verify().ok
    assert set(parts) <= set(fast_path.iterdir())
    assert not list(fast_path.glob("*.partial"))


@pytest.mark.parametrize(("rows", "count"), [(1, 1), (257, 2), (60_000, 7), (1_000_000, 64)])
def test_parts_are_balanced_and_cut_between_blocks(rows, count):
    slices = [Part(number, count).rows(rows, 256) for number in range(1, count + 1)]
    assert [piece.start for piece in slices] == [0, *(piece.stop for piece in slices[:-1])]
    assert slices[-1].stop == rows
    assert all(piece.start % 256 == 0 for piece in slices)
    blocks = [-(-(piece.stop - piece.start) // 256) for piece in slices]
    assert max(blocks) - min(blocks) <= 1


def test_part_records_its_number_and_whole(parts, tmp_path):
    part = FeatureCache.open(parts[1])
    assert parts[1] == tmp_path / "c.h5.part-2-of-4"
    assert part.part == Part(2, 4)
    assert part.info().part == "2/4"
    assert part.ids[0] == "class/000256.jpg"
    assert part.rows == 512


def test_parts_are_deleted_only_on_request(parts, tmp_path):
    merge_parts(parts, tmp_path / "sub" / "other.h5", delete_parts=True)
    assert names(tmp_path) == ["sub"]
    assert names(tmp_path / "sub") == ["other.h5"]


@pytest.mark.parametrize("left", [3, 1, 0])
@pytest.mark.parametrize("out", [None, "other.h5"])
def test_interrupted_deletion_of_parts_is_continued(parts, tmp_path, left, out):
    out = None if out is None else tmp_path / out
    merge_parts(parts, out)
    for part in parts[: COUNT - left]:  # as a kill leaves them
        part.unlink()
    before = (out or tmp_path / "c.h5").read_bytes()
    again = (
        parts if left != 1 else parts[-1:]
    )  # all that were named, or those that a pattern of the shell finds
    merged = merge_parts(again, out, delete_parts=True)
    assert merged.rows == ROWS
    assert [each.name for each in tmp_path.iterdir()] == [merged.path.name]
    assert merged.path.read_bytes() == before


def test_parts_that_the_cache_does_not_hold_are_not_deleted(parts, tmp_path):
    merge_parts(parts, delete_parts=True)
    changed = images(ROWS) | {"class/000300.jpg": b"changed"}
    again = write_parts(tmp_path / "other.h5", labelled(changed))
    for part in again[:1] + again[2:]:
        part.unlink()
    other = again[1].rename(parts[1])
    with pytest.raises(FileNotFoundError):
        merge_parts(parts, delete_parts=True)
    with pytest.raises(PartError, match="3 of 4 parts are missing"):
        merge_parts([other], delete_parts=True)
    assert other.exists()


def test_an_unchanged_part_is_recognised_and_an_interrupted_one_resumed(tmp_path):
    path, images_ = tmp_path / "c.h5", source(ROWS)
    with open_writer(path, SPEC, images_, part=Part(2, 2)) as writer:
        fill(writer, SPEC, writer.source, batches=17)
    assert write_part(path, images_, 2, 2)[1] == ROWS - 3 * 256 - 2 * 256
    images_.reads = 0
    assert write_part(path, images_, 2, 2)[1] == 0
    assert images_.reads == 0


def test_finished_cache_is_returned_for_any_part(tmp_path):
    whole, _ = extract(tmp_path / "c.h5", SPEC, source(ROWS))
    assert write_part(whole.path, source(ROWS), 3)[0].path == whole.path
    assert names(tmp_path) == ["c.h5"]


@pytest.mark.usefixtures("parts")
def test_rows_are_copied_between_a_cache_and_parts_of_any_division(tmp_path):
    path = tmp_path / "c.h5"
    added = images(3, start=5000)
    grown = labelled(images(ROWS) | added)
    assert sum(write_part(path, grown, number, 2)[1] for number in (1, 2)) == 3
    _, computed = extract(path, SPEC, grown)
    assert computed == 0
    more = labelled(images(ROWS) | added | images(2, start=6000))
    assert sum(write_part(path, more, number, 3)[1] for number in (1, 2, 3)) == 2


def test_parts_of_different_states_of_the_images_are_refused(parts, tmp_path):
    labels = labels_of(images(ROWS)) | {"class/001400.jpg": "another"}
    changed = MemorySource(images(ROWS), labels=labels)
    write_part(tmp_path / "c.h5", changed, 4)
    with pytest.raises(PartError, match=r"different states of the image set.*every part"):
        merge_parts(parts)
    assert not (tmp_path / "c.h5").exists()
    assert [write_part(tmp_path / "c.h5", changed, number)[1] for number in (1, 2, 3, 4)] == [0] * 4
    assert contents(merge_parts(parts)) == contents(extract(tmp_path / "single.h5", SPEC, changed)[0])


def test_incomplete_and_foreign_parts_are_refused(parts, tmp_path):
    whole, _ = extract(tmp_path / "whole.h5", SPEC, source(ROWS))
    with pytest.raises(PartError, match=r"2 of 4 parts are missing: 2/4, 4/4.*--part 2/4"):
        merge_parts([parts[0], parts[2]])
    with pytest.raises(PartError, match="part 3/4 is given twice"):
        merge_parts([*parts, parts[2]])
    with pytest.raises(PartError, match=r"whole\.h5: is a whole cache"):
        merge_parts([*parts, whole.path])
    with pytest.raises(PartError, match="no parts"):
        merge_parts([])
    halves = write_parts(tmp_path / "c.h5", source(ROWS), 2)
    with pytest.raises(PartError, match="expected parts of the same division"):
        merge_parts([*parts, *halves])
    other = write_parts(tmp_path / "d.h5", source(ROWS), specification=spec(precision="bf16"))
    with pytest.raises(CacheMismatchError, match="precision: 'fp32' and 'bf16'"):
        merge_parts([*parts[:3], other[3]])
    same = write_parts(tmp_path / "e.h5", source(ROWS))
    with pytest.raises(PartError, match="--out"):
        merge_parts([*parts[:3], same[3]])
    assert merge_parts([*parts[:3], same[3]], tmp_path / "c.h5").rows == ROWS


def test_only_damaged_rows_of_a_part_are_recomputed(parts, tmp_path):
    data = bytearray(parts[2].read_bytes())
    features = FeatureCache.open(parts[2]).features("embedding")[100].tobytes()
    data[data.index(features)] ^= 1
    parts[2].write_bytes(data)
    with pytest.raises(ChecksumError, match=r"part-3-of-4: row 0 is damaged.*--part 3/4 --overwrite"):
        merge_parts(parts)
    assert not (tmp_path / "c.h5").exists()
    assert write_part(tmp_path / "c.h5", source(ROWS), 3, overwrite=True)[1] == 256
    assert contents(merge_parts(parts)) == contents(extract(tmp_path / "single.h5", SPEC, source(ROWS))[0])


def test_merge_replaces_only_cache_of_same_specification(parts, tmp_path):
    path = tmp_path / "c.h5"
    small, _ = extract(path, SPEC, source(300))
    assert merge_parts(parts).rows == ROWS
    other, _ = extract(path, spec(precision="bf16"), source(300), overwrite=True)
    before = path.read_bytes()
    with pytest.raises(CacheMismatchError, match="precision"):
        merge_parts(parts)
    assert path.read_bytes() == before
    assert merge_parts(parts, overwrite=True).rows == ROWS
    assert small.rows == other.rows == 300


def test_merge_refuses_unfinished_extraction_of_other_images(parts, tmp_path):
    path = tmp_path / "c.h5"
    interrupted(path, SPEC, labelled(images(600, start=9000)), batches=9)
    with pytest.raises(PartError, match="unfinished extraction of other images"):
        merge_parts(parts)
    assert "c.h5.partial" in names(tmp_path)
    assert merge_parts(parts, overwrite=True).rows == ROWS
    assert "c.h5.partial" not in names(tmp_path)


def test_interrupted_merge_starts_over(parts, tmp_path):
    path = tmp_path / "merged.h5"
    interrupted(path, SPEC, source(ROWS), batches=9)  # what a killed merge leaves: some blocks committed
    assert contents(merge_parts(parts, path)) == contents(
        extract(tmp_path / "single.h5", SPEC, source(ROWS))[0]
    )


def test_more_parts_than_blocks_are_refused(tmp_path):
    with pytest.raises(PartError, match=r"300 images are 2 blocks of 256.*at most 2"):
        open_writer(tmp_path / "c.h5", SPEC, source(300), part=Part(1, 3))
    assert not names(tmp_path)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "-1/4", "a/b", "1/4/2", "", "1/2 "])
def test_invalid_part_is_refused(text):
    with pytest.raises(PartError, match=re.escape(repr(text)) + "|part " + re.escape(text)):
        Part.parse(text)


def test_the_part_of_a_launched_process():
    assert Part.from_environment({}) is None
    assert Part.from_environment({"RANK": "0", "WORLD_SIZE": "1"}) is None
    assert Part.from_environment({"RANK": "3", "WORLD_SIZE": "8"}) == Part(4, 8)
    with pytest.raises(PartError, match="RANK is 'x'"):
        Part.from_environment({"RANK": "x", "WORLD_SIZE": "8"})


@pytest.mark.parametrize("value", [b"9/4", b"nonsense", np.bytes_(b"\xff"), 3])
def test_invalid_part_attribute_is_refused(parts, value):
    with h5py.File(parts[0], "r+") as file:
        del file.attrs["part"]
        file.attrs["part"] = value if isinstance(value, int) else np.bytes_(value)
    with pytest.raises(CacheFormatError, match="part"):
        FeatureCache.open(parts[0])
