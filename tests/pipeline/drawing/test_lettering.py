"""Names of any kind in plots."""

import io
import warnings

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image

from frostline.features.images.thumbnails import Thumbnail
from frostline.pipeline.drawing import lettering
from frostline.pipeline.drawing.lettering import legible, save
from frostline.pipeline.drawing.plots import Mistake, plot_confusion, plot_mistakes

NAMES = [
    "$1",
    "$_$",
    "a$b$c",
    r"$\frac$",
    r"\$",
    "US$->CA$",
    "%s {} {0}",
    "{{7*7}}",
    "\\alpha",
    "قطة",
    "猫 犬",
    "🐱🐶",
]
NAMES += ["new\nline", "tab\there", "<b>", "\x1b[31m", "\ud800", "e\u0301", "x" * 300, "", "_hidden"]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_drawn_in_every_place(name, tmp_path):
    picture = Thumbnail(name, Image.new("RGB", (8, 8)))
    plot_confusion(np.eye(2, dtype=np.int64), [name, "$other$"], tmp_path / "a.png", title=name)
    plot_mistakes(
        [Mistake(picture, name, name, 0.5), Mistake(Thumbnail(name, None), name, "b", 0.5)],
        tmp_path / "b.png",
        title=name,
        remark=f"{name} $ {name}",
    )
    for path in (tmp_path / "a.png", tmp_path / "b.png"):
        with Image.open(path) as image:
            assert image.width > 100


@pytest.mark.parametrize("name", NAMES)
def test_no_character_is_left_without_a_glyph(name):
    figure = Figure()
    lettering._set_fonts(figure.text(0, 0, legible(name)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(io.BytesIO())


def drawn(text):
    figure = Figure()
    written = figure.text(0, 0, text)
    return written._preprocess_math(written.get_text())  # what matplotlib draws, and whether as a formula


@pytest.mark.parametrize("name", ["$1", "$_$", "a$b$c", r"$\frac$", r"\$", "US$->CA$", r"\alpha"])
def test_no_dollar_begins_a_formula_and_every_character_stays(name):
    assert drawn(legible(name)) == (name, False)


def test_control_characters_are_escapes_on_one_line():
    assert legible("a\nb\tc\x1b[31m") == r"a\nb\tc\x1b[31m"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\u200b", "[U+200B]"),
        ("\u202eevil", "[U+202E]evil"),
        ("cat\u200b", "cat[U+200B]"),
        ("cat\u200d", "cat[U+200D]"),
        ("ca\u200ct", "ca[U+200C]t"),
        ("soft\u00adhyphen", "soft[U+00AD]hyphen"),
        ("\ufeffcat", "[U+FEFF]cat"),
        ("\u2066a\u2069", "[U+2066]a[U+2069]"),
        ("\ufe0f", "[U+FE0F]"),
        ("cat\ufe0f", "cat[U+FE0F]"),
        ("a\u034fb", "a[U+034F]b"),
        ("\u3164", "[U+3164]"),
        ("\u2800", "[U+2800]"),
        (" ", "[U+0020]"),
        ("\u00a0 \u3000", "[U+00A0][U+0020][U+3000]"),
        ("\u200d\u200d", "[U+200D][U+200D]"),
        ("", ""),
        ("two words", "two words"),
    ],
)
def test_what_draws_nothing_is_shown_by_its_number(name, shown):
    assert legible(name) == shown


@pytest.mark.parametrize(
    "name", ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0915\u094d\u200d\u0937"]
)
def test_joiners_within_words_stay(name):
    assert "[U+200" not in legible(name)


@pytest.mark.parametrize(
    "name", ["\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u2764\ufe0f\u200d\U0001f525", "1\ufe0f\u20e3"]
)
def test_emoji_show_no_joiners(name):
    assert "[U+200D]" not in legible(name)
    assert "[U+FE0F]" not in legible(name)


def test_marks_without_a_font_are_shown_by_their_number(monkeypatch):
    monkeypatch.setattr(lettering, "_is_known", str.isascii)
    assert legible("e\u0301") == "e[U+0301]"


def test_long_name_keeps_its_begin_and_end():
    text = legible("begin" + "x" * 300 + "end")
    assert len(text) < 45
    assert text.startswith("begin")
    assert text.endswith("end")
    assert len(legible("x" * 300, None)) == 300


def test_character_without_a_font_is_named(monkeypatch):
    monkeypatch.setattr(lettering, "_is_known", str.isascii)
    assert legible("猫🐱é\ufe0f") == "[U+732B][cat face][U+00E9]"


def test_character_of_another_installed_font_gets_that_font(tmp_path):
    char = next(
        chr(code)
        for code in sorted(lettering._characters(font_manager.findfont("STIXNonUnicode")))
        if code > 0xE000 and code not in lettering._characters(lettering._default_font())
    )
    assert legible(char) == char
    figure = Figure()
    text = figure.text(0, 0, f"a{char}")
    save(figure, tmp_path / "a.png")
    assert any("STIX" in family for family in text.get_fontfamily())


def test_figure_that_fails_leaves_the_earlier_picture_and_no_rest(monkeypatch, tmp_path):
    path = tmp_path / "a.png"
    save(Figure(), path)
    earlier = path.read_bytes()

    def fail(_self, file, **_options):
        file.write(b"half")
        raise RuntimeError

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(RuntimeError):
        save(Figure(), path)
    assert path.read_bytes() == earlier
    assert list(tmp_path.iterdir()) == [path]
