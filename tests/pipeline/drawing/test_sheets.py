"""Sheets show what they are given, escape names, and say what is left out."""

from html.parser import HTMLParser

from PIL import Image

from frostline.features.images.thumbnails import Thumbnail
from frostline.pipeline.drawing.sheets import Strip, Tile, limited_tiles, plot_sheet, write_page

EVIL = '<script>alert("1")</script>&\x1b[31m$x_1$'


def strip(count, title="title", name="a.jpg"):
    picture = Image.new("RGB", (30, 20), (200, 30, 30))
    tiles = [
        Tile(Thumbnail(name, picture if i else None), (name, "0.5"), marked=i == 0) for i in range(count)
    ]
    return Strip(title, tiles)


def size_of(path):
    with Image.open(path) as image:
        return image.size


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.texts = [], []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


def test_a_page_escapes_names_and_holds_its_pictures(tmp_path):
    write_page([strip(3, EVIL, EVIL)], tmp_path / "p.html", title=EVIL, remark=EVIL)
    text = (tmp_path / "p.html").read_text("utf-8")
    tags = Tags()
    tags.feed(text)
    names = [tag for tag, _ in tags.found]
    assert "script" not in names
    assert names.count("img") == 2
    assert names.count("li") == 3
    assert all(attrs["src"].startswith("data:image/") for tag, attrs in tags.found if tag == "img")
    assert "\x1b" not in text
    assert sum('<script>alert("1")</script>' in each for each in tags.texts) >= 5
    assert "prefers-color-scheme: dark" in text


def test_a_line_feed_in_a_name_is_shown(tmp_path):
    write_page([strip(2, "ti\ntle", "na\nme")], tmp_path / "p.html", title="title", remark="re\nmark")
    text = (tmp_path / "p.html").read_text("utf-8")
    assert ("ti\\ntle" in text, "na\\nme" in text, "re\nmark" in text) == (True, True, True)


def test_short_strips_stand_side_by_side_in_a_sheet(tmp_path):
    for count, strips in {"one": [strip(2)], "four": [strip(2)] * 4, "five": [strip(2)] * 5}.items():
        plot_sheet(strips, tmp_path / f"{count}.png", title=EVIL, remark="remark")
    one, four, five = (size_of(tmp_path / f"{name}.png") for name in ("one", "four", "five"))
    assert one == four
    assert five[1] > 1.5 * four[1]


def test_a_sheet_of_nothing_is_drawn(tmp_path):
    plot_sheet([], tmp_path / "s.png", title="none")
    write_page([], tmp_path / "p.html", title="none")


def test_what_is_left_out_is_said():
    shown, text = limited_tiles([strip(5), strip(5), strip(5)], 8)
    assert [len(each.tiles) for each in shown] == [5, 3]
    assert text == "The first 8 of 15 pictures are shown."
    assert limited_tiles([strip(5)], 5)[1] == ""
