"""Names in plots: drawn as they are, in fonts that have their characters."""

import contextlib
import functools
import io
import unicodedata
import warnings
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

from frostline.system.atomic import replace_file

DPI = 150
_LONGEST = 40  # characters of a name
_JOINERS = "\u200c\u200d"
_KEYCAP = "\u20e3"
_VARIATIONS = {*range(0x180B, 0x180E), 0x180F, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)}
# Characters without ink that are letters, marks or symbols: fillers, grapheme joiner, inherent vowels, braille blank.
_WITHOUT_INK = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0}


def legible(text: str, longest: int | None = _LONGEST) -> str:
    r"""Return a text for matplotlib that shows a name as it is, on one line.

    Dollar signs begin no formula. Control characters are shown as escapes such as ``\n``. A character that no
    installed font has is shown by its number, such as ``[U+732B]``, and a symbol by its name, such as ``[cat face]``.
    So are characters that draw nothing, such as ``[U+200B]``, and those of a name that consists of blanks.

    Args:
        text: Name of a class, image, run or the like; or a sentence that contains names.
        longest: Characters that are shown of a longer name, its begin and its end; None for all.
    """
    if longest is not None and len(text) > longest:
        text = f"{text[: longest * 2 // 3]}\u2026{text[-(longest // 3) :]}"
    if all(unicodedata.category(char) == "Zs" for char in text):
        return "".join(map(_numbered, text))
    around = zip(text, f" {text}", f"{text[1:]} ", strict=False)
    return "".join(_shown(char, before, after) for char, before, after in around).replace("$", r"\$")


def _numbered(char: str) -> str:
    return f"[U+{ord(char):04X}]"


def _shown(char: str, before: str, after: str) -> str:
    """Return what is drawn for a character between two others."""
    if " " <= char <= "~":
        return char
    kind = unicodedata.category(char)
    if kind in {"Cc", "Zl", "Zp", "Cs"}:
        return char.encode("unicode_escape").decode()
    joins = char in _JOINERS and _is_letter(before) and _is_letter(after)
    varies = ord(char) in _VARIATIONS and (_is_letter(before) or after == _KEYCAP)
    if joins or varies:  # a part of a word or an emoji
        return char if _is_known(char) else ""
    if kind == "Cf" or ord(char) in _WITHOUT_INK | _VARIATIONS:
        return _numbered(char)
    if not _is_known(char):
        return f"[{unicodedata.name(char, '').lower()}]" if kind == "So" else _numbered(char)
    return char


def _is_letter(char: str) -> bool:
    """Return whether a character is one beyond ASCII that can be joined or varied."""
    return not char.isascii() and unicodedata.category(char) not in {"Cf", "Zs", "Zl", "Zp"}


def _is_known(char: str) -> bool:
    return ord(char) in _characters(_default_font()) or _font_with(char) is not None


def _default_font() -> str:
    return str(findfont(FontProperties()))


@functools.cache
def _characters(path: str) -> frozenset[int]:
    """Return the characters of a font that can be scaled; of any other file, none."""
    with contextlib.suppress(Exception):  # of a damaged or unusual font; the next one may do
        font = get_font(path)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    return frozenset()


@functools.cache
def _font_with(char: str) -> str | None:
    """Return the family of an installed font with a character: an upright one of regular weight, if there is one."""

    def unlike_text(font: FontEntry) -> tuple[bool, bool, str]:
        return font.style != "normal", font.weight not in {400, "normal", "regular"}, font.name

    for font in sorted(fontManager.ttflist, key=unlike_text):
        # matplotlib draws no colours; the font of last resort has a box for every character
        if (
            "Color Emoji" not in font.name
            and "Last Resort" not in font.name
            and ord(char) in _characters(font.fname)
        ):
            return str(font.name)
    return None


def save(figure: Figure, path: Path) -> None:
    """Draw a figure and write it as PNG, as a whole or not at all.

    Each text gets the fonts that its characters need. matplotlib's warnings about the layout are not shown.
    """
    for text in figure.findobj(Text):
        _set_fonts(text)
    drawn = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(drawn, dpi=DPI, format="png")
    replace_file(path, drawn.getvalue())


def _set_fonts(text: Text) -> None:
    known = _characters(_default_font())
    missing = {char for char in text.get_text() if not char.isascii() and ord(char) not in known}
    families = sorted({family for char in missing if (family := _font_with(char))})
    if families:
        text.set_fontfamily([*text.get_fontfamily(), *families])
