"""Names of any kind in plots."""

import io
import warnings

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image

from frostline.pipeline.drawing import lettering
from frostline.pipeline.drawing.lettering import legible, save
from frostline.pipeline.drawing.plots import Mistake, plot_confusion, plot_mistakes
from frostline.pipeline.drawing.thumbnails import Thumbnail

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
