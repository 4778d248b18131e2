"""Silence about what Pillow and libtiff print: it concerns metadata, or their errors say it."""

import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from frostline.features.images.files.libtiff import keep_messages, messages

_FILTER = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_lock = threading.Lock()
_inside = 0

logging.getLogger("PIL").addHandler(
    logging.NullHandler()
)  # else Python prints errors of loggers without a handler


@contextmanager
def silence() -> Iterator[list[str]]:
    """Ignore the warnings of Pillow's modules while an image is decoded, in any number of threads at once.

    `warnings.catch_warnings` is not thread-safe: of two that overlap, one would undo the other for good.

    Yields:
        What libtiff has said of the image.
    """
    global _inside  # noqa: PLW0603
    keep_messages()
    with _lock:
        _inside += 1
        _drop()
        _filters().insert(0, _FILTER)
    outer, messages.heard = messages.heard, []
    try:
        yield messages.heard
    finally:
        messages.heard = outer
        with _lock:
            _inside -= 1
            if not _inside:
                _drop()


def _filters() -> list[Any]:
    return cast("list[Any]", warnings.filters)


def _drop() -> None:
    filters = _filters()
    if _FILTER in filters:
        filters.remove(_FILTER)
