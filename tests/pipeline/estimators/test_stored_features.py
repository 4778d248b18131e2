"""Stored features survive killed processes and damage, and many small files become few."""

import dataclasses
import os
import threading

import h5py
import numpy as np
import pytest

from frostline.features.cache import CacheWriter, FeatureCache
from frostline.features.cache.store import store as store_module
from frostline.pipeline.estimators import computing
from frostline.system.locks import FileLock


@pytest.fixture
def images(digit_arrays):
    return digit_arrays[0]


def files(tmp_path):
    return sorted((tmp_path / "store").rglob("*.h5"))


def overwrite(path, offset, data=b"\xff\xff\xff\xff"):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def offset_of(path, name):
    cache = FeatureCache.open(path)
    offset = cache.file.layout.extents[name].offset
    cache.close()
    return offset


@pytest.mark.parametrize("name", ["features/embedding", "content", "ids", "cut", "empty"])
def test_damaged_file_is_told_computed_anew_and_replaced(
    make, images, tmp_path, *, forwarded, new_process, name
):
    first = make().transform(images)
    (path,) = files(tmp_path)
    if name in {"cut", "empty"}:
        os.truncate(path, path.stat().st_size // 2 if name == "cut" else 0)
    else:
        overwrite(path, offset_of(path, name))
    new_process()
    with pytest.warns(UserWarning, match=rf"{path.name}: this file of the store of features is damaged"):
        found = make().transform(images)
    np.testing.assert_array_equal(found, first)
    assert sum(forwarded) == 120
    assert path not in files(tmp_path)
    new_process()
    np.testing.assert_array_equal(make().transform(images), first)
    assert sum(forwarded) == 120


def test_only_damaged_blocks_are_computed_anew(make, tmp_path, forwarded, new_process):
    pixels = np.random.default_rng(0).integers(0, 256, (300, 6, 6), np.uint8)
    first = make().transform(pixels)
    (path,) = files(tmp_path)
    overwrite(path, offset_of(path, "features/embedding"))
    new_process()
    with pytest.warns(UserWarning, match="damaged"):
        np.testing.assert_array_equal(make().transform(pixels), first)
    assert sum(forwarded) == 300 + 256
    rows = [FeatureCache.open(each).rows for each in files(tmp_path)]
    assert sum(rows) == 300


def test_damage_that_is_not_asked_for_is_repaired_as_well(make, images, tmp_path, forwarded, new_process):
    make().transform(images[:10])
    (path,) = files(tmp_path)
    make().transform(images[10:])
    overwrite(path, offset_of(path, "ids"))
    new_process()
    with pytest.warns(UserWarning, match="damaged"):
        make().transform(images[10:])
    assert path not in files(tmp_path)
    make().transform(images[10:])  # tells nothing
    assert sum(forwarded) == 60


def test_file_that_is_truncated_while_it_is_open(make, images, tmp_path, forwarded):
    first = make().transform(images)
    (path,) = files(tmp_path)
    os.truncate(path, 4096)
    with pytest.warns(UserWarning, match="damaged"):
        np.testing.assert_array_equal(make().transform(images), first)
    assert sum(forwarded) == 120
    np.testing.assert_array_equal(make().transform(images), first)


def test_file_of_a_later_version_is_left_alone(make, images, tmp_path, new_process):
    make().transform(images[:4])
    (path,) = files(tmp_path)
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = np.int64(99)
    new_process()
    with pytest.warns(UserWarning, match=r"format version 99.*computed again"):
        make().transform(images[:4])
    make().transform(images[:4])  # tells it once
    assert path in files(tmp_path)


def test_file_of_another_specification_is_not_read(make, images, tmp_path, forwarded):
    make().transform(images[:4])
    (path,) = files(tmp_path)
    other = make(weights="random:2").fit(images)
    other.transform(images[4:5])
    (theirs,) = {*files(tmp_path)} - {path}
    path.rename(theirs.with_name("strange.h5"))
    found = other.transform(images[:4])
    assert sum(forwarded) == 4 + 1 + 4
    assert (theirs.with_name("strange.h5")).exists()
    assert not np.array_equal(found, make().transform(images[:4]))


def test_killed_computation_is_continued(make, tmp_path, forwarded, monkeypatch, new_process):
    pixels = np.random.default_rng(1).integers(0, 256, (300, 6, 6), np.uint8)
    put = CacheWriter.put

    def interrupted(writer, rows, *args, **options):
        put(writer, rows, *args, **options)
        if rows[-1] >= 280:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(CacheWriter, "put", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make(batch_size=8).transform(pixels)
    assert not files(tmp_path)
    (left,) = (tmp_path / "store").rglob("*.partial")
    done = sum(forwarded)
    new_process()
    found = make(batch_size=8).transform(pixels)
    assert sum(forwarded) - done == 300 - 256  # the committed block is kept
    assert not left.exists()
    np.testing.assert_array_equal(found, make(batch_size=8, cache=tmp_path / "other").transform(pixels))


def test_leftover_without_a_committed_row_is_deleted(make, images, tmp_path):
    features = make().fit(images)
    features.transform(images[:1])
    (path,) = files(tmp_path)
    left = path.with_name("0123456789abcdef.h5.partial")
    left.write_bytes(b"")
    features.transform(images[1:2])
    assert not left.exists()


def test_many_small_files_are_joined(make, images, fast_path, forwarded, new_process):
    features = make(cache=fast_path / "store")
    found = []
    for row in range(40):
        found.append(features.transform(images[row : row + 1])[0])
        assert len(files(fast_path)) <= 8 + np.log2(row + 1)
    assert sum(forwarded) == 40
    caches = [FeatureCache.open(path) for path in files(fast_path)]
    assert sum(cache.rows for cache in caches) == 40
    assert all(cache.verify().ok for cache in caches)
    new_process()
    np.testing.assert_array_equal(features.transform(images[:40]), np.stack(found))
    assert sum(forwarded) == 40


def test_full_disk_while_files_are_joined_loses_nothing(make, images, tmp_path, forwarded, monkeypatch):
    features = make()
    features.transform(images[:1])

    def full(*_args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(store_module, "join_files", full)
        for row in range(1, 12):
            features.transform(images[row : row + 1])
    assert len(files(tmp_path)) == 12
    features.transform(images[:13])
    assert sum(forwarded) == 13
    assert len(files(tmp_path)) == 1


def test_files_that_vanish_while_the_folder_is_listed(make, images, monkeypatch, new_process, forwarded):
    features = make().fit(images)
    first = features.transform(images)
    names_in, lists = store_module.names_in, []

    def with_a_ghost(folder):
        lists.append(folder)
        return [*names_in(folder), *(["ghost.h5"] if len(lists) == 1 else [])]

    monkeypatch.setattr(store_module, "names_in", with_a_ghost)
    new_process()
    np.testing.assert_array_equal(features.transform(images), first)
    assert len(lists) >= 2
    assert sum(forwarded) == 60


def test_deleted_store_is_made_anew(make, images, tmp_path, forwarded):
    features = make()
    first = features.transform(images[:5])
    for path in (tmp_path / "store").rglob("*"):
        if path.is_file():
            path.unlink()
    np.testing.assert_array_equal(features.transform(images[:5]), first)
    assert sum(forwarded) == 10


def test_stored_features_need_no_lock_and_no_permission_to_write(make, images, tmp_path):
    first = make().transform(images[:5])
    (path,) = files(tmp_path)
    with_lock = FileLock.acquire(path.with_name("lock"))
    try:
        np.testing.assert_array_equal(make().transform(images[:5]), first)
    finally:
        with_lock.release()


def test_a_process_waits_for_one_that_computes(make, images, tmp_path, forwarded):
    features = make()
    features.transform(images[:1])
    lock = FileLock.acquire(files(tmp_path)[0].with_name("lock"))
    found = []
    waiting = threading.Thread(target=lambda: found.append(features.transform(images[:3])))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    assert sum(forwarded) == 1
    lock.release()
    waiting.join()
    assert found[0].shape == (3, 96)


def test_folder_that_can_not_be_written_is_explained(make, images, monkeypatch):
    def refused(_path):
        raise PermissionError(13, "Permission denied", "store")

    monkeypatch.setattr(store_module, "create_folders", refused)
    with pytest.raises(PermissionError) as caught:
        make().transform(images[:2])
    assert "choose another folder with cache=FOLDER" in caught.value.__notes__[0]


def test_remarks_on_pixels_name_the_image(make, digit_paths, monkeypatch):
    compute = computing.compute

    def with_remark(source, *args):
        return dataclasses.replace(
            compute(source, *args), remarks={source.table.ids[0].decode(): "it is odd"}
        )

    monkeypatch.setattr(computing, "compute", with_remark)
    with pytest.warns(UserWarning, match=r"1 image was read with a doubt row 0 \(.*0.png\): it is odd"):
        make().transform(digit_paths[0][:1])
