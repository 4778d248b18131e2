"""A file of tensors is read if it is as long as its header says, and no further than the header if not."""

import json
import struct

import numpy as np
import pytest
from safetensors.numpy import load, save

from frostline.files.archives import read_archive
from frostline.files.tensors import read_tensors


def test_written_files_are_read(tmp_path):
    path = tmp_path / "a.safetensors"
    for arrays in ({"a": np.arange(6.0), "b": np.zeros((0, 3))}, {}):
        path.write_bytes(save(arrays, metadata={"note": "x"}))
        assert read_tensors(path) == path.read_bytes()
        assert load(read_tensors(path)).keys() == arrays.keys()


def header(value):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "0 bytes"),
        (b"\0" * 64, "0 bytes in a file of 64"),
        (struct.pack("<Q", 1 << 60) + b"{}", "bytes in a file of 10"),
        (header(b"[" * 5000), "not that of safetensors"),
        (header([]), "not that of safetensors"),
        (header({"a": {"data_offsets": []}}), "not that of safetensors"),
        (header({"a": {"data_offsets": [0, 8]}}) + bytes(7), "its header describes"),
        (header({"a": {"data_offsets": [0, 8]}}) + bytes(9), "its header describes"),
    ],
)
def test_other_files_are_refused(tmp_path, data, problem):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(ValueError, match=problem):
        read_tensors(tmp_path / "a")


@pytest.mark.parametrize("read", [read_tensors, read_archive])
def test_a_huge_file_of_another_kind_is_not_read_whole(tmp_path, read):
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match=r"header|archive"):
        read(tmp_path / "huge")


@pytest.mark.parametrize("read", [read_tensors, read_archive])
def test_a_folder_is_refused(tmp_path, read):
    with pytest.raises(IsADirectoryError):
        read(tmp_path)
