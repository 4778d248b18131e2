"""Atomic replacement of files."""

import os
import threading
from pathlib import Path


def replace_file(path: Path, data: bytes) -> None:
    """Write a file atomically and create its folder if needed.

    If the process is killed at any moment, either the whole old file or the whole new file remains. Of several
    concurrent writers, the last to finish wins.

    Raises:
        OSError: The file can't be written. An existing file is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
