"""Messages of libtiff: kept for the error in place of being printed.

libtiff prints to the terminal what is wrong with a file, and Pillow offers no way to change that. Where Pillow loads it
as a shared library, as on Linux and macOS, its own function sets a handler. Where it is a part of Pillow, as on Windows,
the messages are printed as before.
"""

import atexit
import contextlib
import ctypes
import threading
from collections.abc import Iterator
from typing import Any

from PIL import _imaging

_Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
_LONGEST = 500  # characters of a message
_UNNAMED = "tempfile.tif"  # name that Pillow gives to bytes in memory


class _Messages(threading.local):
    """Messages heard in this thread; None outside of `kept_messages`."""

    heard: list[str] | None = None


_messages = _Messages()
_installing = threading.Lock()
_installed: list[Any] = []  # the handler, and the one before it


@contextlib.contextmanager
def kept_messages() -> Iterator[list[str]]:
    """Keep what libtiff says in this thread, in a list. What it says in other threads is handled as before."""
    with _installing:
        if not _installed:
            _install()
    outer, _messages.heard = _messages.heard, []
    try:
        yield _messages.heard
    finally:
        _messages.heard = outer


def _install() -> None:
    with contextlib.suppress(AttributeError, OSError):
        set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler  # also finds what the module loads
        set_handler.restype, set_handler.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
        format_text = ctypes.CDLL(None).vsnprintf
        format_text.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p]

        def handle(module: bytes | None, template: bytes, values: int) -> None:
            if _messages.heard is None:
                if before := _installed[1]:
                    _Handler(before)(module, template, values)
                return
            text = ctypes.create_string_buffer(_LONGEST)
            format_text(text, _LONGEST, template, values)
            source = (module or b"").decode(errors="replace")
            prefix = "" if source in {"", _UNNAMED} else f"{source}: "
            _messages.heard.append(prefix + text.value.decode(errors="replace").strip().rstrip("."))

        handler = _Handler(handle)
        _installed.extend((handler, None))
        _installed[1] = set_handler(ctypes.cast(handler, ctypes.c_void_p))
        atexit.register(set_handler, _installed[1])
    if not _installed:
        _installed.append(None)
