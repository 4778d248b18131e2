import errno
import os
import subprocess
import sys

import numpy as np
import pytest

from frostline.features.cache import open_writer
from frostline.features.spec import Layer
from frostline.system import files
from tests.features.cache.synthetic import SPEC, contents, extract, interrupted, names, source, spec
from tests.helpers.paths import ROOT

WIDE = spec(layers=(Layer("embedding", "none", 4096),))
NEEDED = r"not enough disk space for the cache: it needs 4,9\d\d,\d\d\d bytes and [\d,]+ are free"


def test_a_full_disk_is_an_error_before_anything_is_computed(tmp_path, monkeypatch):
    old, _ = extract(tmp_path / "c.h5", WIDE, source(3))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match=NEEDED) as refusal:
        open_writer(tmp_path / "c.h5", WIDE, source(300))
    assert refusal.value.errno == errno.ENOSPC
    assert names(tmp_path) == ["c.h5"]
    assert old.verify().ok


def test_file_size_limit_is_reported(tmp_path):
    """A limit on the size of files, in a process of its own: the kernel refuses, not a stand-in."""
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))\n"
        "import sys; from pathlib import Path\n"
        "from tests.features.cache.synthetic import source; from tests.features.cache.test_disk import WIDE\n"
        "from frostline.features.cache import open_writer\n"
        "open_writer(Path(sys.argv[1]), WIDE, source(300))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "c.h5"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert ran.returncode == 1
    assert "not enough disk space for the cache: it needs 4,9" in ran.stderr
    assert not names(tmp_path)


def test_a_resumed_cache_needs_no_more_space(tmp_path, monkeypatch):
    interrupted(tmp_path / "c.h5", WIDE, source(600), batches=9)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    assert extract(tmp_path / "c.h5", WIDE, source(600))[1] == 600 - 256


@pytest.mark.parametrize("kind", ["missing", "unsupported"])
def test_space_is_reserved_by_writing_as_fallback(tmp_path, monkeypatch, kind):
    def unsupported(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    images_ = source(300)
    whole, _ = extract(tmp_path / "whole.h5", SPEC, images_)
    if kind == "missing":
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    else:
        monkeypatch.setattr(os, "posix_fallocate", unsupported, raising=False)
    monkeypatch.setattr(files, "_CHUNK", 1000)
    with open_writer(tmp_path / "c.h5", SPEC, images_) as writer:
        size = writer._layout.size
        assert writer.partial_path.stat().st_size == size
        assert writer.partial_path.stat().st_blocks * 512 >= size
    cache, _ = extract(tmp_path / "c.h5", SPEC, images_)
    assert contents(cache) == contents(whole)


def test_space_is_reserved_for_all_rows(tmp_path):
    with open_writer(tmp_path / "c.h5", WIDE, source(3000)) as writer:
        stat = writer.partial_path.stat()
        assert stat.st_blocks * 512 >= stat.st_size > 3000 * 4096 * 4


def test_a_short_write_is_continued(tmp_path, monkeypatch):
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, bytes(data)[:777], offset))
    cache, _ = extract(tmp_path / "c.h5", SPEC, source(300))
    monkeypatch.undo()
    assert cache.verify().ok
    np.testing.assert_array_equal(
        cache.features("embedding"),
        extract(tmp_path / "whole.h5", SPEC, source(300))[0].features("embedding"),
    )


def test_folder_is_created(tmp_path):
    assert extract(tmp_path / "new" / "folder" / "c.h5", SPEC, source(3))[1] == 3


def test_a_link_to_a_cache_stays_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "c.h5"
    link.symlink_to(tmp_path / "elsewhere" / "real.h5")
    extract(link, SPEC, source(3))
    extract(link, SPEC, source(5))
    assert link.is_symlink()
    assert names(tmp_path / "elsewhere") == ["real.h5"]


@pytest.mark.parametrize("name", ["c.h5.partial", "new/c.h5.partial"])
def test_partial_file_that_is_a_link_is_not_followed(tmp_path, name):
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    partial = tmp_path / name
    partial.parent.mkdir(exist_ok=True)
    for target in (precious, tmp_path / "missing"):
        partial.unlink(missing_ok=True)
        partial.symlink_to(target)
        with pytest.raises(OSError, match="is a symbolic link, and Frostline does not write through it"):
            extract(partial.with_suffix(""), SPEC, source(3))
        assert partial.is_symlink()
    assert precious.read_bytes() == b"precious"
    assert not (tmp_path / "missing").exists()
