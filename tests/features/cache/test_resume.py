import errno
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from frostline.features.cache import FeatureCache, open_writer
from frostline.features.cache.file.mapped import MappedFile
from frostline.features.cache.writing import commit
from frostline.features.errors import CacheBusyError, CacheMismatchError, ChecksumError
from tests.features.cache.synthetic import (
    SPEC,
    contents,
    extract,
    fill,
    images,
    interrupted,
    labelled,
    names,
    put,
    source,
    spec,
)

ROWS = 1000  # three blocks and a short one


def flip(path, name, row, byte=0):
    """Change one byte of a dataset."""
    extent = MappedFile.open(path).layout.extents[name]
    with path.open("r+b") as file:
        file.seek(extent.offset + row * extent.stride + byte)
        old = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([old ^ 0x10]))


def test_run_resumes_from_last_committed_block(tmp_path):
    path, images_ = tmp_path / "c.h5", source(ROWS)
    first = interrupted(path, SPEC, images_, batches=20)  # 640 rows: two blocks and a half
    assert (first.resumed, first.copied, len(first.todo)) == (0, 0, ROWS)
    assert names(tmp_path) == ["c.h5.partial"]
    with open_writer(path, SPEC, images_) as second:
        assert (second.resumed, second.copied) == (512, 0)
        np.testing.assert_array_equal(second.todo, np.arange(512, ROWS))
        fill(second, SPEC, images_)
        cache = second.finish()
    assert contents(cache) == contents(extract(tmp_path / "whole.h5", SPEC, images_)[0])
    assert images_.reads == 640 + 488 + ROWS  # resuming read none


def test_a_run_that_committed_nothing_leaves_nothing(tmp_path):
    interrupted(tmp_path / "c.h5", SPEC, source(ROWS), batches=3)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["features/embedding", "features/blocks.4:avg", "content", "stat", "status", "errors"]
)
def test_a_torn_block_is_computed_again(tmp_path, name):
    path, images_ = tmp_path / "c.h5", source(ROWS)
    partial = interrupted(path, SPEC, images_, batches=24).partial_path  # three blocks
    flip(partial, name, row=300)
    with open_writer(path, SPEC, images_) as writer:
        np.testing.assert_array_equal(writer.todo, [*range(256, 512), *range(768, ROWS)])
        fill(writer, SPEC, images_)
        cache = writer.finish()
    assert contents(cache) == contents(extract(tmp_path / "whole.h5", SPEC, images_)[0])


def test_a_torn_checksum_is_a_torn_block(tmp_path):
    path, images_ = tmp_path / "c.h5", source(ROWS)
    flip(interrupted(path, SPEC, images_, batches=24).partial_path, "blocks", row=2, byte=9)
    with open_writer(path, SPEC, images_) as writer:
        np.testing.assert_array_equal(writer.todo, np.arange(512, ROWS))


@pytest.mark.parametrize("name", ["ids", "labels", "split", "groups"])
def test_a_partial_of_damaged_images_is_not_resumed(tmp_path, name, caplog):
    path, images_ = tmp_path / "c.h5", source(ROWS)
    flip(interrupted(path, SPEC, images_, batches=24).partial_path, name, row=5)
    with open_writer(path, SPEC, images_) as writer:
        assert len(writer.todo) == ROWS
    assert "recomputed" in caplog.text


@pytest.mark.parametrize("damage", [b"", b"\0" * 5000, b"garbage" * 5000, "truncated"])
def test_a_partial_that_can_not_be_trusted_is_not_resumed(tmp_path, damage, caplog):
    path, images_ = tmp_path / "c.h5", source(ROWS)
    final, _ = extract(path, SPEC, source(3))
    before = path.read_bytes()
    partial = interrupted(path, SPEC, images_, batches=24).partial_path
    partial.write_bytes(partial.read_bytes()[:-1] if damage == "truncated" else damage)
    with caplog.at_level(logging.WARNING), open_writer(path, SPEC, images_) as writer:
        assert len(writer.todo) == ROWS - 3
        assert ("the file can't be trusted" in caplog.text) == (damage != b"")
        assert path.read_bytes() == before
        fill(writer, SPEC, images_)
        cache = writer.finish()
    assert contents(cache) == contents(extract(tmp_path / "whole.h5", SPEC, images_)[0])
    assert final.verify().ok  # its own file, though replaced


def test_a_partial_of_another_specification_is_kept_unless_overwritten(tmp_path):
    path, images_, other = tmp_path / "c.h5", source(ROWS), spec(seed=1, precision="bf16")
    interrupted(path, SPEC, images_, batches=24)
    before = (tmp_path / "c.h5.partial").read_bytes()
    with pytest.raises(CacheMismatchError) as refusal:
        open_writer(path, other, images_)
    message = str(refusal.value)
    assert "c.h5.partial: found an unfinished cache of another specification" in message
    assert "precision: 'bf16' now, 'fp32' in the file" in message
    assert "seed: 1 now, 0 in the file" in message
    assert "--cache" in message
    assert "--overwrite" in message
    assert (tmp_path / "c.h5.partial").read_bytes() == before
    cache, computed = extract(path, other, images_, overwrite=True)
    assert computed == ROWS
    assert cache.spec == other
    assert names(tmp_path) == ["c.h5"]


def test_cache_of_another_specification_is_replaced_only_with_overwrite(tmp_path):
    path, images_ = tmp_path / "c.h5", source(ROWS)
    extract(path, SPEC, images_)
    before = path.read_bytes()
    with pytest.raises(CacheMismatchError, match="seed: 1 now, 0 in the file"):
        open_writer(path, spec(seed=1), images_)
    assert names(tmp_path) == ["c.h5"]
    interrupted(path, spec(seed=1), images_, batches=24, overwrite=True)
    assert path.read_bytes() == before
    with pytest.raises(CacheMismatchError):
        open_writer(path, spec(seed=1), images_)
    cache, computed = extract(path, spec(seed=1), images_, overwrite=True)
    assert (cache.spec.seed, computed) == (1, ROWS - 768)


def test_damage_is_found_on_reading_and_repaired_by_overwrite(tmp_path):
    path, images_ = tmp_path / "c.h5", source(ROWS)
    extract(path, SPEC, images_)
    flip(path, "features/embedding", row=300)
    flip(path, "features/embedding", row=999)
    cache = FeatureCache.open(path)
    assert not np.isnan(cache.features("blocks.4:avg")).any()
    with pytest.raises(ChecksumError, match=r"embedding of rows 256-511, 768-999 is damaged.*--overwrite"):
        cache.features("embedding")
    assert cache.verify().damaged == (("embedding", 256, 511), ("embedding", 768, 999))
    assert not cache.verify().ok
    assert extract(path, SPEC, images_)[1] == 0  # an unchanged set is not read through
    repaired, computed = extract(path, SPEC, images_, overwrite=True)
    assert computed == 256 + 232
    assert repaired.verify().ok
    assert contents(repaired) == contents(extract(tmp_path / "whole.h5", SPEC, images_)[0])
    assert extract(path, SPEC, images_, overwrite=True)[1] == 0


def test_damaged_metadata_is_found_before_use(tmp_path):
    path, images_ = tmp_path / "c.h5", source(ROWS)
    extract(path, SPEC, images_)
    flip(path, "content", row=600)
    with pytest.raises(ChecksumError, match="metadata of rows 512-767"):
        _ = FeatureCache.open(path).ok
    with pytest.raises(ChecksumError, match="metadata of rows 512-767"):
        open_writer(path, SPEC, images_)
    assert FeatureCache.open(path).verify().damaged == (("metadata", 512, 767),)
    assert extract(path, SPEC, images_, overwrite=True)[1] == 256


def test_a_damaged_table_is_found_on_opening(tmp_path):
    path, images_ = tmp_path / "c.h5", source(ROWS)
    cache, _ = extract(path, SPEC, images_)
    flip(path, "labels", row=1)
    assert cache.verify().damaged == (("table", 0, ROWS - 1),)
    with pytest.raises(ChecksumError, match="ids, labels, splits"):
        FeatureCache.open(path)
    with pytest.raises(ChecksumError) as refusal:
        open_writer(path, SPEC, images_)
    assert "--overwrite" in refusal.value.__notes__[0]
    assert extract(path, SPEC, images_, overwrite=True)[1] == ROWS


def test_invalid_cache_is_replaced_only_with_overwrite(tmp_path):
    path = tmp_path / "c.h5"
    path.write_bytes(b"a thesis")
    with pytest.raises(ValueError, match="not an HDF5 file"):
        open_writer(path, SPEC, source(3))
    assert path.read_bytes() == b"a thesis"
    assert extract(path, SPEC, source(3), overwrite=True)[1] == 3


def test_a_second_writer_is_refused(tmp_path):
    path, images_ = tmp_path / "c.h5", source(ROWS)
    with open_writer(path, SPEC, images_) as writer:
        fill(writer, SPEC, images_, batches=24)
        with pytest.raises(
            CacheBusyError, match=r"c\.h5\.partial: (another )?process.* is writing this cache"
        ):
            open_writer(path, SPEC, images_)
        fill_rest = writer.todo[768:]
        put(writer, SPEC, images_, fill_rest)
        assert writer.finish().verify().ok


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who holds a lock")
def test_lock_error_reports_process_of_first_writer(tmp_path):
    (tmp_path / "c.h5.partial").touch()
    script = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'r+'); fcntl.flock(file, fcntl.LOCK_EX); "
        "print('locked', flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "c.h5.partial"], stdout=subprocess.PIPE
    ) as other:
        try:
            assert other.stdout.readline() == b"locked\n"
            with pytest.raises(CacheBusyError, match=f"process {other.pid} is writing this cache"):
                open_writer(tmp_path / "c.h5", SPEC, source(3))
        finally:
            other.send_signal(signal.SIGKILL)
    assert extract(tmp_path / "c.h5", SPEC, source(3))[1] == 3  # the lock went with the process


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    path, images_ = tmp_path / "c.h5", source(ROWS)
    writer = open_writer(path, SPEC, images_)
    fill(writer, SPEC, images_, batches=24)
    ours, theirs = socket.socketpair()
    child = os.fork()
    if not child:  # a data-loading worker that outlives its parent
        ours.close()
        theirs.send(b"started")
        theirs.recv(1)
        os._exit(0)
    theirs.close()
    assert ours.recv(7) == b"started"
    writer._committer.flush()
    writer._partial._lock._close()  # as if the parent had been killed
    with open_writer(path, SPEC, images_) as second:
        assert second.resumed == 768
    ours.close()
    os.waitpid(child, 0)
    writer.close()


def test_writer_returns_cache_finished_by_another(tmp_path, monkeypatch):
    path, images_ = tmp_path / "c.h5", source(ROWS)
    flock = fcntl.flock

    def flock_after_another_run(fd, operation):
        monkeypatch.setattr(fcntl, "flock", flock)
        extract(path, SPEC, images_)
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock_after_another_run)
    assert isinstance(open_writer(path, SPEC, images_), FeatureCache)
    assert names(tmp_path) == ["c.h5"]


def test_an_error_in_the_background_reaches_the_caller_and_loses_no_block(tmp_path, monkeypatch):
    path, images_ = tmp_path / "c.h5", source(ROWS)
    interrupted(path, SPEC, images_, batches=8)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = open_writer(path, SPEC, images_)
    monkeypatch.setattr(commit, "write_at", full)
    with pytest.raises(OSError, match="No space left"):  # noqa: PT012  # whichever call comes first after the failure
        fill(writer, SPEC, images_)
        writer.finish()
    with pytest.raises(OSError, match="No space left"):
        writer.close()
    monkeypatch.undo()
    with open_writer(path, SPEC, images_) as again:
        assert again.resumed == 256


def test_a_salvage_survives_until_its_rows_are_in_a_finished_cache(tmp_path):
    path = tmp_path / "c.h5"
    extract(path, SPEC, source(300))
    sets = [images(1000, start=start) for start in (200, 600, 900)]
    tables = [labelled(files) for files in sets]
    for table in tables:  # each interrupted after some blocks, with images that the one before lacks
        interrupted(path, SPEC, table, batches=16)
    assert names(tmp_path) == ["c.h5", "c.h5.partial", "c.h5.salvage1", "c.h5.salvage2"]
    everything = source(1900)
    known = set(range(300))
    for path_ in tmp_path.glob("c.h5.*"):
        file = MappedFile.open(path_)
        rows = np.flatnonzero(file.rows_of(file.valid_blocks()))
        known |= {int(name[6:12]) for name in file.array("ids")[rows].tolist()}
    assert len(known) > 300 + 3 * 256
    writer = open_writer(path, SPEC, everything)  # killed right after: the rows are still somewhere
    writer.close()
    with open_writer(path, SPEC, everything) as writer:
        assert writer.copied + writer.resumed == len(known)
        assert set(writer.todo.tolist()) == set(range(1900)) - known
        fill(writer, SPEC, everything)
        cache = writer.finish()
    assert names(tmp_path) == ["c.h5"]
    assert contents(cache) == contents(extract(tmp_path / "whole.h5", SPEC, everything)[0])


def test_a_salvage_of_another_specification_is_kept_unless_overwritten(tmp_path):
    path = tmp_path / "c.h5"
    interrupted(path, SPEC, source(ROWS), batches=24)
    (tmp_path / "c.h5.partial").rename(
        tmp_path / "c.h5.salvage1"
    )  # killed between setting aside and laying out
    with pytest.raises(
        CacheMismatchError, match=r"c\.h5\.salvage1: found an unfinished cache of another specification"
    ):
        open_writer(path, spec(seed=1), source(ROWS))
    assert names(tmp_path) == ["c.h5.salvage1"]
    assert extract(path, spec(seed=1), source(ROWS), overwrite=True)[1] == ROWS
    assert names(tmp_path) == ["c.h5"]


def test_a_name_for_unfinished_caches_is_refused(tmp_path):
    for name in ("c.h5.partial", "c.h5.salvage3"):
        with pytest.raises(ValueError, match="choose another"):
            open_writer(tmp_path / name, SPEC, source(3))
