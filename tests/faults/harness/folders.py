"""Comparison of folders by content, without the times and random names that differ between runs."""

import csv
import hashlib
import io
import json
import re
import stat
import zipfile
from pathlib import Path

from frostline.errors import FrostlineError
from frostline.features.cache import FeatureCache

TIMES = frozenset(
    (
        "seconds",
        "time",
        "created",
        "joules",
        "training_seconds",
        "images_per_second",
        "machine",
        "bytes",
        "sha256",
    )
)
"""Keys of JSON documents and columns of tables that tell when something happened, how long it took, or depend on that."""

LEFTOVER = re.compile(r"\.partial|\.salvage\d+|\.tuning|\.jsonl$|.\.lock$")
"""Pattern of the names of unfinished files and journals. It does not match `ledger.jsonl`, and not ``.lock``, the lock of a
byte cache, which lasts."""

_PAGE = re.compile(r"\d+(\.\d+)? (s|ms|min|h)\b|\d{4}-\d\d-\d\d[T ][\d:.]+\S*|\"(seconds|rate)\": [\d.e-]+")


def state_of(folder):
    """Content of every file and folder below a folder, by relative path."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        mode = path.lstat().st_mode
        name = path.relative_to(folder).as_posix()
        if ".lance/" in name:
            continue  # in a table, whose files have random names
        if stat.S_ISLNK(mode):
            found[name] = f"link to {path.readlink()}"
        elif stat.S_ISDIR(mode):
            found[name] = _rows(path) if path.suffix == ".lance" else "folder"
        else:
            found[name] = f"{stat.S_IMODE(mode):o} {content_of(path)}"
    return found


def content_of(path):
    """Digest of what a file says, without times; of a file that its reader refuses, the reason."""
    data = path.read_bytes()
    read = next((read for name, read in _READERS.items() if re.search(name, path.name)), None)
    if read is None:
        return digest_of(data)
    try:
        return digest_of(read(path, data))
    except (ValueError, KeyError, EOFError, OSError, FrostlineError, csv.Error, zipfile.BadZipFile) as error:
        return f"not readable ({type(error).__name__}): {digest_of(data)}"


def is_leftover(name):
    """Return whether a path relative to the folder names an unfinished file or folder, or lies in one."""
    last = name.rpartition("/")[2]
    return last != "ledger.jsonl" and bool(LEFTOVER.search(name))


def differences(ours, theirs):
    """Readable differences of two states."""
    names = sorted(ours.keys() | theirs.keys())
    return [
        f"{name}: {ours.get(name, 'missing')} and {theirs.get(name, 'missing')}"
        for name in names
        if ours.get(name) != theirs.get(name)
    ]


def digest_of(data):
    return hashlib.sha256(data).hexdigest()[:16]


def _cache(path, _data):
    cache = FeatureCache.open(path)
    if not cache.verify().ok:
        raise ValueError(path)
    arrays = {
        name: digest_of(cache.file.array(name).tobytes())
        for name in sorted(cache.file.layout.extents)
        if name not in {"seconds", "joules", "stat", "blocks"}  # the checksums cover the stamps
    }
    origin = cache.file.layout.origin
    return repr((arrays, cache.key, origin.source, origin.weights, str(cache.part))).encode()


def _document(path, data):
    if path.name == "ledger.jsonl":
        return repr([json.loads(line)["evaluation_number"] for line in data.splitlines()]).encode()
    if path.name.endswith(".jsonl"):
        return json.dumps([_timeless(json.loads(line)) for line in data.splitlines()]).encode()
    return json.dumps(_timeless(json.loads(data))).encode()


def _timeless(value):
    if isinstance(value, dict):
        return {key: _timeless(each) for key, each in value.items() if key not in TIMES}
    return [_timeless(each) for each in value] if isinstance(value, list) else value


def _table(_path, data):
    lines = list(csv.DictReader(io.StringIO(data.decode(), newline=""), strict=True))
    return repr([{key: cell for key, cell in line.items() if key not in TIMES} for line in lines]).encode()


def _page(_path, data):
    return _PAGE.sub("", data.decode()).encode()


def _sums(path, data):
    """Names in a list of digests, all of which must be right: the files may hold times."""
    names = []
    for line in data.decode().splitlines():
        digest, _, name = line.partition("  ")
        if hashlib.sha256((path.parent / name).read_bytes()).hexdigest() != digest:
            raise ValueError(f"wrong digest of {name}")
        names.append(name)
    return repr(sorted(names)).encode()


def _rows(table):
    """Digest of the rows of a table of LanceDB."""
    import lancedb

    try:
        return digest_of(
            repr(lancedb.connect(table.parent).open_table(table.stem).to_arrow().to_pylist()).encode()
        )
    except (ValueError, RuntimeError, OSError) as error:
        return f"not readable ({type(error).__name__})"


def _arrays(_path, data):
    import numpy as np

    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        kept = [name for name in arrays.files if name not in {"stamps", "begun"}]
        return repr({name: digest_of(arrays[name].tobytes()) for name in kept}).encode()


def _archive(_path, data):
    """Members of an archive of skops: its schema names objects by their addresses, and the archive has dates."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    order = {}
    schema = re.sub(
        rb'"__id__": (\d+)|"(\d+)\.npy"',
        lambda found: b"%d" % order.setdefault(found[1] or found[2], len(order)),
        members.pop("schema.json"),
    )
    return repr((schema, sorted(digest_of(each) for each in members.values()))).encode()


_READERS = {
    r"^SHA256SUMS$": _sums,
    r"\.h5(\.part-\d+-of-\d+)?$": _cache,
    r"\.jsonl?$": _document,
    r"\.csv$": _table,
    r"\.html$": _page,
    r"\.npz$": _arrays,
    r"\.skops$": _archive,
}
