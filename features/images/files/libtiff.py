"""Messages of libtiff: kept for the error in place of being printed.

libtiff prints to the terminal what is wrong with a file, and Pillow offers no way to change that. Where Pillow loads it
as a shared library, as on Linux and macOS, its own function sets a handler. Where it is a part of Pillow, as on Windows,
the messages are printed as before.
"""

import atexit
import contextlib
import ctypes
import threading
from typing import Any, Final

from PIL import _imaging

_Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
_LONGEST = 500  # characters of a message
_UNNAMED = "tempfile.tif"  # name that Pillow gives to bytes in memory


class _Messages(threading.local):
    """Messages of libtiff in this thread.

    Attributes:
        heard: Messages, one line each; None to have them printed.
    """

    heard: list[str] | None = None


messages: Final = _Messages()
"""Messages per thread. Threads that have not asked for them print them, as without the handler."""

_installing = threading.Lock()
_installed: list[Any] = []  # the handler, and the one before it


def keep_messages() -> None:
    """Install the handler of messages, once in a process."""
    if not _installed:
        with _installing:
            if not _installed:
                _install()


def _install() -> None:
    with contextlib.suppress(AttributeError, OSError):
        set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler  # also finds what the module loads
        set_handler.restype, set_handler.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
        format_text = ctypes.CDLL(None).vsnprintf
        format_text.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p]

        def handle(module: bytes | None, template: bytes, values: int) -> None:
            if messages.heard is None:
                if len(_installed) > 1 and _installed[1]:
                    _Handler(_installed[1])(module, template, values)
                return
            text = ctypes.create_string_buffer(_LONGEST)
            format_text(text, _LONGEST, template, values)
            source = (module or b"").decode(errors="replace")
            prefix = "" if source in {"", _UNNAMED} else f"{source}: "
            messages.heard.append(prefix + text.value.decode(errors="replace").strip().rstrip("."))

        handler = _Handler(handle)
        before = set_handler(ctypes.cast(handler, ctypes.c_void_p))
        _installed.extend((handler, before))
        atexit.register(set_handler, before)
    if not _installed:
        _installed.append(None)  # libtiff can't be reached
