"""Pipes, sockets and devices under the name of a file: refused by name, and never waited for."""

import os
import socket
import sys

import pytest

from frostline.features.backbones.weights import read_weights
from frostline.features.cache import FeatureCache
from frostline.features.errors import SourceError, WeightsError
from frostline.features.sources import PathSource, open_source
from frostline.system.files import open_binary, open_regular, read_regular
from tests.helpers.images import write_folder
from tests.helpers.network import BACKBONE_OPTIONS
from tests.helpers.runner import run
from tests.helpers.tables import write_manifest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has none of them in folders")


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    return tmp_path / "pipe.png"


def test_a_regular_file_is_read_also_through_a_link(tmp_path):
    (tmp_path / "file").write_bytes(b"bytes")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link") == b"bytes"
    descriptor = open_regular(str(tmp_path / "file"))
    assert os.read(descriptor, 9) == b"bytes"
    os.close(descriptor)


def test_each_kind_of_special_file_is_named(tmp_path, pipe, monkeypatch):
    with pytest.raises(OSError, match="not a regular file but a pipe"):
        read_regular(pipe)
    with pytest.raises(OSError, match="not a regular file but a device"):
        read_regular("/dev/zero")
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
        with pytest.raises(OSError, match="not a regular file but a socket"):
            read_regular("socket.png")


def test_a_pipe_is_not_written_to(pipe):
    with pytest.raises(OSError, match="a pipe"):
        open_binary(pipe)


def test_a_pipe_is_no_image(pipe):
    with pytest.raises(OSError, match="a pipe"):
        PathSource([pipe]).read(0)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_pipe_is_no_manifest(tmp_path, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow", reason="needs the extra parquet")
    os.mkfifo(tmp_path / f"set.{suffix}")
    with pytest.raises(SourceError, match="the manifest can't be read: not a regular file but a pipe"):
        open_source(tmp_path / f"set.{suffix}")


def test_a_pipe_holds_no_weights(pipe):
    with pytest.raises(WeightsError, match="expected a safetensors or torch file, got a named pipe"):
        read_weights(pipe)


def test_a_pipe_is_no_cache(pipe):
    with pytest.raises(OSError, match="a pipe"):
        FeatureCache.open(pipe)


@pytest.mark.parametrize("option", ["--overwrite", "--quiet"])
def test_no_cache_replaces_a_pipe(tmp_path, pipe, option):
    write_folder(tmp_path / "set", ["a/1.png"])
    refused = run("extract", tmp_path / "set", *BACKBONE_OPTIONS, "--cache", pipe, option, code=1)
    assert "not a regular file but a pipe" in refused.stderr
    assert pipe.is_fifo()


def test_a_row_of_a_manifest_that_is_a_pipe_is_an_unreadable_image(tmp_path, pipe):
    write_folder(tmp_path, ["1.png"])
    path = write_manifest(tmp_path / "set.csv", ["path"], ["1.png"], [pipe.name], ["/dev/zero"])
    done = run("extract", path, *BACKBONE_OPTIONS, "--cache", tmp_path / "c.h5", "--max-bad", 1)
    assert "pipe.png: not a regular file but a pipe" in done.stdout
    assert "/dev/zero: not a regular file but a device" in done.stdout
