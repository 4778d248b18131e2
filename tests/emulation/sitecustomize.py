# ruff: noqa: PTH100, PTH110, PTH112, PTH115, PTH119, PTH120, PTH123, PTH208
"""Make this Python lack what Python on Windows lacks; imported by every interpreter that finds it on PYTHONPATH.

It does so where the variable EMULATED_SYSTEM is windows. That isn't Windows: it only shows that nothing needs what is not
there, and that files are closed before they are replaced. Libraries that ask for `sys.platform` still see Linux; what those need of
it is left in place or imported first. Not by pathlib, which calls what is replaced here.
"""

import asyncio  # noqa: F401  # needs fcntl on Linux
import mmap
import multiprocessing
import os
import re
import shutil
import stat
import sys
import tempfile
import threading
import warnings

import filelock  # its own fcntl stands in for LockFileEx

_LACKING = (
    *("fork", "forkpty", "sysconf", "posix_fallocate", "fdatasync", "sched_getaffinity", "fchmod"),
    *("pread", "pwrite", "preadv", "pwritev", "O_DIRECTORY", "O_CLOEXEC", "O_NONBLOCK", "O_NOFOLLOW"),
)
_ILLEGAL = re.compile(r'[<>:"|?*\\\x00-\x1f]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.IGNORECASE)
_LIBRARY = os.path.dirname(os.__file__)
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_BINARY = 1 << 30  # no flag of Linux

_here = threading.local()  # whether this module looks into /proc
_real = {name: getattr(os, name) for name in ("open", "write", "rename")}


def _is_used(path):
    """Whether this process has a file open or mapped, or one in a folder."""
    path = os.path.realpath(os.fsdecode(path))
    _here.looks = True
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            used = {line.rstrip("\n").split(maxsplit=5)[5] for line in maps if line.count("/") > 0}
        for number in os.listdir("/proc/self/fd"):
            try:
                used.add(os.readlink(f"/proc/self/fd/{number}"))
            except OSError:  # the listing's own
                continue
    finally:
        _here.looks = False
    return any(each == path or each.startswith(f"{path}/") for each in used)


def _hide_proc(event, arguments):
    if event in {"open", "os.scandir", "os.listdir"} and not getattr(_here, "looks", False):
        path = arguments[0]
        if (
            isinstance(path, str | bytes | os.PathLike)
            and os.fsdecode(path).startswith("/proc/")
            and _is_ours()
        ):
            raise FileNotFoundError(2, "No such file or directory", path)


def _is_ours():
    """Whether Frostline's code asks, through the standard library or not: threadpoolctl can't do without /proc on Linux."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith(_LIBRARY):
        frame = frame.f_back
    asks = "" if frame is None else frame.f_code.co_filename
    return asks.startswith(_ROOT) and "site-packages" not in asks  # of a virtual environment in the checkout


def _refuse(event, arguments):
    """What Windows refuses."""
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        path, mode, flags = arguments
        if mode is None and os.path.isdir(path):
            raise PermissionError(13, "Permission denied", path)
        if flags & os.O_CREAT:
            _check_name(path)
    elif event == "os.mkdir":
        _check_name(arguments[0])
    elif event == "os.rename":
        _check_name(arguments[1])
        for path in arguments[:2]:
            _check_unused(path)
    elif event == "os.remove":
        _check_unused(arguments[0])
    elif event == "os.truncate" and isinstance(arguments[0], int):
        _check_unmapped(arguments[0])
    elif event == "os.fork":
        raise OSError(38, "Windows has no fork")


def _check_name(path):
    name = os.path.basename(os.fsdecode(path))
    if _ILLEGAL.search(name):
        raise OSError(22, "Invalid argument: Windows has no such names", path)


def _check_unused(path):
    if _is_used(path):
        raise PermissionError(13, "Access is denied", path)


def _check_unmapped(fd):
    _here.looks = True
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            mapped = os.readlink(f"/proc/self/fd/{fd}") in maps.read()
    finally:
        _here.looks = False
    if mapped:
        raise OSError(22, "a mapped file can't be shortened")


def _open(path, flags, *arguments, **options):
    fd = _real["open"](path, flags & ~_BINARY, *arguments, **options)
    (_text.discard if flags & _BINARY else _text.add)(fd)
    return fd


_text = set()  # descriptors whose line feeds get company


def _write(fd, data):
    if fd in _text and stat.S_ISREG(os.fstat(fd).st_mode):
        _real["write"](fd, bytes(data).replace(b"\n", b"\r\n"))
        return len(data)
    return _real["write"](fd, data)


def _rename(old, new, **options):
    if os.path.exists(new):
        raise FileExistsError(17, "File exists", new)
    _real["rename"](old, new, **options)


class _Mmap(mmap.mmap):
    def __new__(cls, fileno, length, tagname=None, access=mmap.ACCESS_DEFAULT, offset=0):  # noqa: ARG004
        return super().__new__(cls, fileno, length, access=access, offset=offset)


def _become_windows():
    import fcntl  # noqa: F401

    with tempfile.TemporaryFile() as file:  # loads it
        filelock.lock_descriptor(file.fileno(), blocking=False)
        filelock.unlock_descriptor(file.fileno())
    sys.modules["fcntl"] = sys.modules["resource"] = None
    shutil._use_fd_functions = False
    tempfile.TemporaryFile = tempfile.NamedTemporaryFile
    os.O_BINARY = _BINARY
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on; on Linux it asks for the affinity
        os.process_cpu_count = os.cpu_count
    os.open, os.write, os.rename = _open, _write, _rename
    for name in dir(mmap):
        if name.startswith(("PROT_", "MADV_")):
            delattr(mmap, name)
    mmap.mmap = _Mmap
    multiprocessing.set_start_method("spawn")
    warnings.filterwarnings("error", category=EncodingWarning, module=r"frostline\b")
    sys.addaudithook(_refuse)
    sys.addaudithook(_hide_proc)


if os.environ.get("EMULATED_SYSTEM") == "windows":
    for _name in _LACKING:
        if hasattr(os, _name):
            delattr(os, _name)
    _become_windows()
