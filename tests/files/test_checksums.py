"""``SHA256SUMS``: written as `sha256sum` reads it, and believed only if it is well-formed."""

import hashlib
import shutil
import subprocess

import pytest

from frostline.errors import FrostlineError
from frostline.files.checksums import (
    SUMS_FILE,
    format_sums,
    list_files,
    parse_sums,
    read_listed,
    read_sums,
    relisted,
)

DIGEST = "0" * 64


def read(folder, name="a"):
    return read_listed(folder, name, raises=FrostlineError, remedy="Restore it.")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "b c").write_bytes(b"2")
    (tmp_path / ".hidden").write_bytes(b"3")
    (tmp_path / "left out").write_bytes(b"4")
    list_files(tmp_path, besides=["left out"])
    return tmp_path


def test_a_list_has_the_files_of_a_folder(folder):
    assert read_sums(folder, FrostlineError) == {
        "a": hashlib.sha256(b"1").hexdigest(),
        "logs/b c": hashlib.sha256(b"2").hexdigest(),
    }


SHA256SUM = shutil.which("sha256sum")


@pytest.mark.skipif(SHA256SUM is None, reason="needs sha256sum")
def test_sha256sum_reads_the_list(folder):
    for name in ("new\nline", "back\\slash", "return\r", "\udcff"):
        (folder / name).write_bytes(name.encode(errors="surrogateescape"))
    list_files(folder)
    done = subprocess.run(
        [SHA256SUM, "--strict", "-c", SUMS_FILE], cwd=folder, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b": OK") == 7
    (folder / "a").write_bytes(b"changed")
    done = subprocess.run([SHA256SUM, "-c", SUMS_FILE], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 1


@pytest.mark.parametrize(
    "name", ["plain", "a/b", "with  two", "new\nline", "back\\slash", "\\n", "re\rturn", "\udcff"]
)
def test_names_survive(name):
    assert parse_sums(format_sums({name: DIGEST})) == {name: DIGEST}


WRONG = {
    "no digest": b"a\n",
    "a short digest": b"00  a\n",
    "no name": DIGEST.encode() + b"  \n",
    "an absolute name": DIGEST.encode() + b"  /etc/passwd\n",
    "a name above": DIGEST.encode() + b"  ../a\n",
    "a name twice": (DIGEST.encode() + b"  a\n") * 2,
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_malformed_list_is_refused(name, folder):
    (folder / SUMS_FILE).write_bytes(WRONG[name])
    with pytest.raises(FrostlineError, match=f"{SUMS_FILE} is not a list of checksums: line [12]"):
        read(folder)


def test_a_changed_file_is_refused_and_a_folder_without_a_list_is_read(folder):
    assert read(folder) == b"1"
    (folder / "a").write_bytes(b"2")
    with pytest.raises(
        FrostlineError, match=r"a was changed: its SHA-256 is d473.*, and SHA256SUMS lists 6b86.*Restore it"
    ):
        read(folder)
    (folder / SUMS_FILE).unlink()
    assert read(folder) == b"2"


def test_a_file_that_is_not_listed_is_refused(folder):
    (folder / "c").write_bytes(b"3")
    with pytest.raises(FrostlineError, match="c is not listed in SHA256SUMS"):
        read(folder, "c")


def test_files_are_off_the_list_while_they_are_written(folder):
    before = read_sums(folder, FrostlineError)
    with relisted(folder, ["a", "gone"], FrostlineError):
        assert "a" not in read_sums(folder, FrostlineError)
        (folder / "a").write_bytes(b"new")
    after = read_sums(folder, FrostlineError)
    assert after == before | {"a": hashlib.sha256(b"new").hexdigest()}
    with pytest.raises(KeyboardInterrupt), relisted(folder, ["a"], FrostlineError):
        raise KeyboardInterrupt
    assert read(folder) == b"new"
    with pytest.raises(FileNotFoundError), relisted(folder, ["a"], FrostlineError):
        (folder / "a").write_bytes(b"half") and (folder / "none").read_bytes()
    with pytest.raises(FrostlineError, match="a is not listed"):
        read(folder)


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(folder, monkeypatch):
    from frostline.files import checksums

    original, replaced = checksums.read_regular, []

    def slow(path, limit=None):
        data = original(path, limit)
        if path.name == SUMS_FILE and not replaced:
            replaced.append(path)
            (folder / "a").write_bytes(b"new")
            list_files(folder)
        return data

    monkeypatch.setattr(checksums, "read_regular", slow)
    assert read(folder) == b"new"
