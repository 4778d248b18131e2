"""URLs of data: their schemes, names, and what of them is secret. Nothing here uses the network or needs a package."""

import re
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

from frostline.features.errors import SourceError

WEB: Final = ("http", "https")
"""Schemes of web servers, which list no folders."""

SCHEMES: Final = (*WEB, "s3", "gs", "hf", "memory")
"""Schemes that are read."""

LISTS: Final = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
"""Ends of the names of manifests. A Parquet file may hold images instead."""

FILES: Final = frozenset({
    *(".tar", ".zip", ".arrow", ".feather", ".npy", ".npz", ".h5", ".hdf5", *LISTS),
    *(".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst"),  # of which only CIFAR's are read
})  # fmt: skip
"""Ends of the names of files that list or hold images."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://", re.ASCII)
# What signed URLs of Amazon, Google, Azure, Cloudflare and others hold in their query, and what secrets are called.
_SECRET = re.compile(
    r"x-(amz|goog|oss|cos)-|(^|[-_.])(sig|signature|token|secret|password|passwd|pwd|auth|authorization|credential|"
    r"credentials|key|apikey|accesskey|accesskeyid|session|jwt|hmac|policy|expires|expiry)($|[-_.])",
    re.IGNORECASE,
)
_SECRET_NAMES: Final = frozenset({
    *("awsaccesskeyid", "googleaccessid", "key-pair-id", "ossaccesskeyid", "access_token", "accesstoken", "authtoken"),
    *("se", "sig", "sip", "skoid", "sktid", "ske", "skt", "sks", "skv", "sp", "spr", "sr", "srt", "ss", "st", "sv"),
})  # fmt: skip


def is_url(text: str | Path) -> bool:
    """Return whether a text is a URL: it begins with a scheme of two or more letters and ``://``."""
    return isinstance(text, str) and _URL.match(text) is not None


def scheme(url: str) -> str:
    """Return the scheme of a URL in lower case."""
    return url.partition("://")[0].lower()


def check_scheme(url: str, where: str = "") -> None:
    """Raise `SourceError` for a URL that no store reads.

    Args:
        url: The URL.
        where: Place of the URL, for messages.
    """
    if scheme(url) not in SCHEMES:
        raise SourceError(
            f"{where + ': ' if where else ''}{shown(url)}: the scheme {scheme(url)!r} is not read; expected"
            f" {', '.join(f'{each}://' for each in SCHEMES[:-1])}, or a path of this machine"
        )


def shown(url: str) -> str:
    """Return a URL without user name, password, fragment, and the parts of its query that sign it or name secrets.

    This is the form in caches, runs and messages.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{scheme(url)}://…"
    kept = [
        part for part in parts.query.split("&") if part and not _is_secret(unquote(part.partition("=")[0]))
    ]
    fragment = "" if parts.scheme.lower() in WEB else parts.fragment
    return urlunsplit(
        (parts.scheme.lower(), parts.netloc.rpartition("@")[2], parts.path, "&".join(kept), fragment)
    )


def _is_secret(name: str) -> bool:
    return name.lower() in _SECRET_NAMES or _SECRET.search(name) is not None


def has_secret(url: str) -> bool:
    """Return whether a URL holds a part that `shown` leaves out, without which it may not be readable."""
    parts = urlsplit(url)
    return "@" in parts.netloc or any(
        _is_secret(name) for name, _ in parse_qsl(parts.query, keep_blank_values=True)
    )


def key_of(url: str) -> str:
    """Return the path of a URL within its server or bucket, without query and without a leading slash."""
    rest = url.partition("://")[2]
    if scheme(url) in WEB:
        return unquote(urlsplit(url).path).lstrip("/")
    return rest.partition("/")[2] if scheme(url) != "memory" else rest.lstrip("/")


def host_of(url: str) -> str:
    """Return the server or bucket of a URL, without port."""
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def name_of(url: str) -> str:
    """Return a name for what is made of a URL: that of its last folder or file, else of its bucket or server."""
    key = key_of(url).rstrip("/")
    return PurePosixPath(key).name if key else host_of(url)


def suffix_of(url: str) -> str:
    """Return the end of the name of the file that a URL names, in lower case; empty for a folder."""
    key = key_of(url)
    return "" if key.endswith("/") else PurePosixPath(key).suffix.lower()


def top_of(url: str) -> str:
    """Return the URL of a whole bucket or server, with a slash at its end."""
    top, _, rest = url.partition("://")
    return f"{top}://" + ("" if scheme(url) == "memory" else f"{rest.partition('/')[0]}/")


def is_set(url: str) -> bool:
    """Return whether a URL names a file that lists or holds images, by its name."""
    return suffix_of(url) in FILES


def as_folder(url: str) -> str:
    """Return the URL of a folder with a slash at its end."""
    return url if url.endswith("/") else f"{url}/"


def folder_of(url: str) -> str:
    """Return the URL of the folder of a file, with a slash at its end, without query."""
    if scheme(url) in WEB:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc, parts.path.rpartition("/")[0] + "/", "", ""))
    return url.rpartition("/")[0] + "/"


def below(folder: str, path: str) -> str:
    """Return the URL of a file below a folder, given its path, whose characters stand for themselves."""
    return folder + (quote(path) if scheme(folder) in WEB else path)


def check_relative(path: str, where: str) -> None:
    """Raise `SourceError` for a path in a remote manifest that is not one below the folder of the manifest."""
    parts = path.replace("\\", "/").split("/")
    if path.startswith(("/", "\\")) or ".." in parts or re.match(r"[A-Za-z]:", path):
        raise SourceError(
            f"{where}: got {path!r}; a manifest on another machine may name URLs, and paths below its own folder. Copy the"
            " manifest to this machine to read files of this machine"
        )
