"""Output files and folders: complete under their own name, or not there; leftovers go, files in use stay."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from frostline.system import atomic, files, locks
from frostline.system.atomic import (
    AppendedFile,
    copy_folder,
    replace_file,
    replace_files,
    sweep,
    write_file,
    write_files,
    write_folder,
    write_text_file,
)

PATTERNS = ["{}.0123abcd.partial", "{}.a_z09bcd.partial", "{}.4711-140234.partial"]


def names(folder):
    return sorted(each.name for each in folder.iterdir())


def run_python(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def test_file_appears_as_a_whole_and_its_folder_is_created(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    with write_file(path) as file:
        file.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"
    with write_text_file(path) as text:
        text.write("zwei\n\u732b")
    assert path.read_bytes() == "zwei\n\u732b".encode()
    assert names(path.parent) == ["file"]


def test_error_in_the_block_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    replace_file(path, b"old")
    with pytest.raises(TypeError), write_file(path) as file:
        file.write("text")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    replace_file(path, b"old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic, "sync", full)
    with pytest.raises(OSError, match=r"No space left.*/file'"):
        replace_file(path, b"new")
    with pytest.raises(OSError, match=r"No space left.*/other'"):
        replace_files({tmp_path / "other": b"new", path: b"new"})
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_file_and_folder_are_synced_before_and_after_the_renaming(tmp_path, monkeypatch):
    done = []
    real = files.rename
    monkeypatch.setattr(atomic, "sync", lambda _: done.append("file"))
    monkeypatch.setattr(files, "sync_folder", lambda _: done.append("folder"))
    monkeypatch.setattr(atomic, "rename", lambda *paths: (done.append("rename"), real(*paths)))
    replace_file(tmp_path / "file", b"")
    assert done == ["file", "rename", "folder"]


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX's")
@pytest.mark.parametrize("umask", [0o022, 0o007, 0o077])
def test_modes_follow_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        with write_folder(tmp_path / "folder") as folder:
            replace_file(folder / "file", b"")
        with AppendedFile.open(tmp_path / "lines") as file:
            file.append(b"")
    finally:
        os.umask(before)
    modes = {each.name: each.stat().st_mode & 0o777 for each in tmp_path.rglob("*")}
    assert modes == {"folder": 0o777 & ~umask, "file": 0o666 & ~umask, "lines": 0o666 & ~umask}


def test_link_at_the_path_is_replaced_and_its_target_kept(tmp_path):
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "nowhere").symlink_to("missing")
    for name in ("link", "nowhere"):
        replace_file(tmp_path / name, b"new")
        assert not (tmp_path / name).is_symlink()
    assert (tmp_path / "target").read_bytes() == b"precious"
    assert names(tmp_path) == ["link", "nowhere", "target"]


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_other_things_are_not_replaced(tmp_path, kind):
    path = tmp_path / "path"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(OSError, match="directory" if kind == "folder" else "a pipe"):
        replace_file(path, b"")
    assert names(tmp_path) == ["path"]


def test_link_is_not_opened_for_writing(tmp_path):
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / "link").symlink_to("target")
    for opened in (files.open_binary, locks.FileLock.acquire):
        with pytest.raises(OSError, match="is a symbolic link"):
            opened(tmp_path / "link")
    with pytest.raises(OSError, match="is a symbolic link"), AppendedFile.open(tmp_path / "link"):
        pass
    with pytest.raises(FileExistsError):
        files.create_new(tmp_path / "link")
    assert (tmp_path / "target").read_bytes() == b"precious"


def test_link_that_appears_after_the_check_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / "link").symlink_to("target")
    monkeypatch.setattr(files, "_check_unlinked", lambda _: None)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        files.open_binary(tmp_path / "link")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_leftover_is_swept_by_the_next_writer(tmp_path, pattern):
    (tmp_path / pattern.format(".file")).write_bytes(b"half")
    left = tmp_path / pattern.format(".folder")
    left.mkdir()
    (left / "half").write_bytes(b"")
    replace_file(tmp_path / "file", b"")
    with write_folder(tmp_path / "folder"):
        pass
    assert names(tmp_path) == ["file", "folder"]


def test_files_of_others_are_not_swept(tmp_path):
    kept = [
        *("file.partial", ".file.partial", ".file.b.0123abcd.partial", ".other.0123abcd.partial"),
        *(".file.0123abc.partial", ".file.0123abcd.partial2", "file.0123abcd.partial"),
    ]
    for name in kept:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".file.0123abcd.partial").symlink_to(kept[0])
    replace_file(tmp_path / "file", b"")
    assert names(tmp_path) == sorted([*kept, ".file.0123abcd.partial", "file"])


WRITER = """
import sys, pathlib
from frostline.system.atomic import replace_file, write_file, write_folder
path = pathlib.Path(sys.argv[2])
with (write_file if sys.argv[1] == "file" else write_folder)(path) as found:
    if sys.argv[1] == "file":
        found.write(b"theirs")
    else:
        replace_file(found / "file", b"theirs")
    print(flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_another_process_is_writing_is_not_swept(tmp_path, kind):
    path = tmp_path / "path"
    writer = run_python(WRITER, kind, path)
    writer.stdout.readline()
    (used,) = names(tmp_path)
    sweep(path)
    if kind == "file":
        replace_file(path, b"ours")
        assert names(tmp_path) == [used, "path"]
    assert used in names(tmp_path)
    writer.communicate(b"\n")
    assert writer.returncode == 0
    assert names(tmp_path) == ["path"]
    assert (path if kind == "file" else path / "file").read_bytes() == b"theirs"


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_wrote_is_swept(tmp_path, kind):
    path = tmp_path / "path"
    writer = run_python(WRITER, kind, path)
    writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    assert len(names(tmp_path)) == 1
    sweep(path)
    assert names(tmp_path) == []


def test_partial_file_that_is_swept_before_it_is_locked_is_created_again(tmp_path, monkeypatch):
    real, calls = files.create_new, []

    def create(path):
        real(path)
        calls.append(path)
        if len(calls) == 1:
            path.unlink()
            path.symlink_to("elsewhere")  # worse than deleted
            path.unlink()

    monkeypatch.setattr(atomic, "create_new", create)
    replace_file(tmp_path / "file", b"whole")
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_partial_file_that_another_process_has_locked_is_given_up(tmp_path, monkeypatch):
    real, held = files.create_new, []

    def create(path):
        real(path)
        if not held:
            held.append(locks.FileLock.acquire(path))

    monkeypatch.setattr(atomic, "create_new", create)
    replace_file(tmp_path / "file", b"whole")
    held[0].release()
    sweep(tmp_path / "file")
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    "write",
    [lambda path: replace_file(path, b"new"), lambda path: write_folder(path).__enter__()],
    ids=["file", "folder"],
)
def test_partial_file_that_cannot_be_locked_is_deleted(tmp_path, monkeypatch, write):
    def fail(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(locks.FileLock, "acquire", fail)
    with pytest.raises(OSError, match="Input/output"):
        write(tmp_path / "file")
    assert names(tmp_path) == []


def test_file_system_without_locks_is_written_and_not_swept(tmp_path, monkeypatch):
    def unsupported(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks, "lock_descriptor", unsupported)
    (tmp_path / ".file.0123abcd.partial").write_bytes(b"perhaps in use")
    replace_file(tmp_path / "file", b"whole")
    with write_folder(tmp_path / "folder"):
        pass
    with AppendedFile.open(tmp_path / "lines") as file:
        file.append(b"line")
    assert names(tmp_path) == [".file.0123abcd.partial", "file", "folder", "lines"]
    with pytest.raises(locks.LocksUnsupportedError) as caught:
        locks.FileLock.acquire(tmp_path / "file")
    assert "choose a folder on a file system with locks" in caught.value.__notes__[0]


def test_last_file_of_a_set_says_that_all_are_there(tmp_path, monkeypatch):
    """At each moment the last one is absent, or all belong to it."""
    seen = []
    first, last, picture = (tmp_path / name for name in ("first", "last", "picture"))

    def look(*_):
        parts = [path.read_bytes().decode() if path.exists() else "-" for path in (first, last, picture)]
        seen.append("".join(parts))

    for name in ("rename", "sync", "sync_folder"):
        real = getattr(atomic, name)
        monkeypatch.setattr(atomic, name, lambda *args, real=real: (look(), real(*args), look()))
    for content in (b"1", b"2"):
        replace_files({first: content, last: content}, outdated=[picture])
        picture.write_bytes(content)
    assert {parts for parts in seen if parts[1] != "-"} == {"11-", "111", "22-"}
    assert names(tmp_path) == ["first", "last", "picture"]


def test_folder_appears_as_a_whole(tmp_path):
    path = tmp_path / "a" / "folder"
    with write_folder(path) as folder:
        replace_file(folder / "b" / "file", b"one")
        assert not path.exists()
    assert (path / "b" / "file").read_bytes() == b"one"
    with pytest.raises(FileExistsError), write_folder(path):
        pass
    with pytest.raises(ValueError, match="no"), write_folder(tmp_path / "other"):
        raise ValueError("no")
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["folder"]


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_folder_does_not_replace_what_came_in_between(tmp_path, kind):
    path = tmp_path / "path"
    with pytest.raises(FileExistsError), write_folder(path):
        path.mkdir() if kind == "folder" else path.symlink_to("missing")
    assert names(tmp_path) == ["path"]


def test_folder_is_copied(tmp_path):
    replace_file(tmp_path / "a" / "b" / "file", b"one")
    replace_file(tmp_path / "a" / "file", b"two")
    copy_folder(tmp_path / "a", tmp_path / "c")
    assert (tmp_path / "c" / "b" / "file").read_bytes() == b"one"
    assert (tmp_path / "c" / "file").read_bytes() == b"two"


def test_line_is_appended_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "lines"

    def half(fd, view, offset):
        files.write_all(fd, view[: len(view) // 2], offset)
        raise OSError(errno.ENOSPC, "No space left on device")

    with AppendedFile.open(path) as file:
        file.append(b"first")
        with monkeypatch.context() as patched:
            patched.setattr(atomic, "write_all", half)
            with pytest.raises(OSError, match="No space left"):
                file.append(b"second, and a long one")
        assert file.read() == b"first\n"
        file.append(b"third")
    assert path.read_bytes() == b"first\nthird\n"


def test_appended_file_is_locked_while_it_is_open(tmp_path):
    with (
        AppendedFile.open(tmp_path / "lines"),
        pytest.raises(locks.LockHeldError),
        AppendedFile.open(tmp_path / "lines"),
    ):
        pass
    with AppendedFile.open(tmp_path / "lines"):
        pass


def test_lock_file_is_deleted_while_it_is_held(tmp_path):
    path = tmp_path / "lock"
    first = locks.FileLock.acquire(path)
    first.release(delete=True)
    assert names(tmp_path) == []
    first.release(delete=True)
    locks.FileLock.acquire(path).release(delete=True)
    assert names(tmp_path) == []


def test_folder_is_replaced_as_a_whole_if_that_is_wanted(tmp_path):
    path = tmp_path / "folder"
    for content in ("old", "new"):
        with write_folder(path, replace=True) as folder:
            replace_file(folder / content, b"x")
            assert names(path) == ["old"] if content == "new" else not path.exists()
    assert names(path) == ["new"]
    assert names(tmp_path) == ["folder"]


def test_folder_that_fails_keeps_the_earlier_one(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(ValueError, match="no"), write_folder(path, replace=True):
        raise ValueError("no")
    assert names(path) == ["old"]
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_only_a_folder_is_replaced_by_a_folder(tmp_path, kind):
    path, other = tmp_path / "there", tmp_path / "other"
    other.mkdir()
    path.write_text("mine") if kind == "file" else path.symlink_to(other)
    with pytest.raises(FileExistsError), write_folder(path, replace=True):
        pass
    assert path.is_symlink() if kind == "link" else path.read_text() == "mine"
    assert names(tmp_path) == ["other", "there"]


def test_folder_that_is_not_renamed_keeps_the_earlier_one(tmp_path, monkeypatch):
    path = tmp_path / "folder"
    with write_folder(path) as folder:
        replace_file(folder / "file", b"old")
    rename, failed = files.rename, []

    def fail_once(old, new):
        if new == path and not failed:
            failed.append(old)
            raise OSError(errno.EIO, "Input/output error", str(new))
        rename(old, new)

    monkeypatch.setattr(atomic, "rename", fail_once)
    with pytest.raises(OSError, match="Input/output"), write_folder(path, replace=True) as folder:
        replace_file(folder / "file", b"new")
    assert names(tmp_path) == ["folder"]
    assert (path / "file").read_bytes() == b"old"


def test_error_of_the_disk_while_files_are_written_names_one(tmp_path):
    first, last = tmp_path / "a", tmp_path / "b"
    with pytest.raises(OSError, match=r"No space.*b'$"), write_files(first, last):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


def test_files_that_belong_together_appear_together(tmp_path):
    first, last = tmp_path / "first", tmp_path / "last"
    with write_files(first, last) as (one, two):
        one.write(b"1")
        two.write(b"2")
        assert not first.exists()
    assert (first.read_bytes(), last.read_bytes()) == (b"1", b"2")
    with pytest.raises(TypeError), write_files(first, last) as (one, _):
        one.write("text")
    assert (first.read_bytes(), last.read_bytes()) == (b"1", b"2")
    assert names(tmp_path) == ["first", "last"]
