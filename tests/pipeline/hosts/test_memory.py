"""Amounts of memory, as text and as this machine has them."""

import pytest

from frostline.pipeline.hosts.memory import half_of_memory, parse_memory


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2GB", 2 * 10**9),
        ("1.5 GiB", 3 * 2**29),
        ("500m", 500 * 10**6),
        ("4096", 4096),
        ("7k", 7000),
        ("1TB", 10**12),
    ],
)
def test_amounts_of_memory(text, expected):
    assert parse_memory(text) == expected


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "two GB", "2XB", "1..5GB", "2iB"])
def test_other_amounts_are_refused(text):
    with pytest.raises(ValueError, match="expected an amount of memory such as 2GB"):
        parse_memory(text)


def test_half_of_memory_respects_container_limit(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr("frostline.system.resources._CGROUP", limit)
    whole = half_of_memory()
    limit.write_text("max\n")
    assert half_of_memory() == whole
    limit.write_text("1000000\n")
    assert half_of_memory() == 500_000
