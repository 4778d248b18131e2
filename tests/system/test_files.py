"""Reading of whole files."""

import errno
import io
import os

import pytest

from frostline.system import files


class Reluctant(io.FileIO):
    """File of which one call of the system reads three bytes, as at most 2 GiB otherwise."""

    def read(self, size=-1):
        return super().read(min(size, 3) if size >= 0 else size)


@pytest.mark.parametrize("limit", [None, 100])
def test_a_file_is_read_whole_however_many_calls_it_takes(tmp_path, monkeypatch, limit):
    (tmp_path / "a").write_bytes(b"0123456789")
    monkeypatch.setattr(files, "open", lambda fd, *_, **__: Reluctant(fd), raising=False)
    assert files.read_regular(tmp_path / "a", limit) == b"0123456789"


def test_a_file_that_has_nothing_to_read_yet_is_an_error(tmp_path, monkeypatch):
    """As /proc/kmsg, which is a regular file to the system."""
    (tmp_path / "a").write_bytes(b"0")
    monkeypatch.setattr(Reluctant, "readall", lambda _: None, raising=False)
    monkeypatch.setattr(files, "open", lambda fd, *_, **__: Reluctant(fd), raising=False)
    with pytest.raises(OSError, match="nothing to read yet"):
        files.read_regular(tmp_path / "a")


def test_an_error_while_a_folder_is_synced_names_it(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    if hasattr(os, "O_DIRECTORY"):
        with pytest.raises(OSError, match="Input/output") as caught:
            files.sync_folder(tmp_path)
        assert caught.value.filename == str(tmp_path)
