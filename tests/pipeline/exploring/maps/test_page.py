"""The page of a map: whole without a network, safe with any names, and alive in a browser."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from frostline.pipeline import map_cache
from frostline.pipeline.exploring.maps.page import Colouring, Contents, write_map_page
from tests.browser import browser, find_browser, find_driver
from tests.pipeline.exploring.maps.conftest import CLASSES, data_of

WAIT = "await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));"
DRAWN = "const drawn = () => Number(document.getElementById('map').dataset.points);"
MANY = 20_000


class Elements(HTMLParser):
    """Elements of a page with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


@pytest.fixture(scope="module")
def page_of_run(hostile, tmp_path_factory):
    cache, run, _ = hostile
    return map_cache(cache, run=run, out=tmp_path_factory.mktemp("page") / "map.html").page


@pytest.fixture(scope="module")
def text(page_of_run):
    return page_of_run.read_text("utf-8")


def test_page_loads_nothing_and_runs_no_script_but_its_own(text):
    elements = Elements(text).found
    links = [each[name] for _, each in elements for name in ("src", "href") if name in each]
    assert links == ["data:,"]
    (policy,) = [each["content"] for tag, each in elements if tag == "meta" and "http-equiv" in each]
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; ")
    for name in ("script", "style"):
        own = re.findall(rf"<{name}>(.*?)</{name}>", text, re.DOTALL)
        assert len(own) == 1
        digest = base64.b64encode(hashlib.sha256(own[0].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


def test_names_are_escaped(text):
    assert text.count("</script>") == text.count("<script") == 2
    tags = {tag for tag, _ in Elements(text).found}
    assert not tags & {"img", "b"}
    assert "\u202e" not in text
    data = data_of(text)
    assert data["colourings"][1]["values"] == [name.replace("\u202e", "\\u202e") for name in CLASSES]


def test_a_class_that_ends_the_script_stays_data(tmp_path):
    evil = "</script><img src=x onerror=alert(1)>"
    contents = Contents(
        names=[evil, f"{evil}2", "c"],
        points=np.array([[0.0, 0.0], [2.0, 1.0], [1.0, 1.0]]),
        axes=(evil, "y"),
        colourings=[Colouring("class", (evil, "b"), np.array([0, 1, -1]), "no class")],
        predictions=[(evil, 0.5), ("b", 1.0), ("", None)],
        tiles=["", "", ""],
        remarks=[],
    )
    path = tmp_path / "map.html"
    write_map_page(path, contents, title=evil, facts=[evil, "", evil])
    text = path.read_text("utf-8")
    assert not [tag for tag, _ in Elements(text).found if tag == "img"]
    data = data_of(text)
    assert data["names"][0] == data["colourings"][0]["values"][0] == evil
    assert data["x"] == [0, 1, 0.5]
    assert data["y"] == [0.75, 0.25, 0.25]
    assert data["predictions"] == {
        "values": sorted([evil, "b"]),
        "codes": [0, 1, -1],
        "shares": [0.5, 1, None],
    }


@pytest.fixture(scope="module")
def window():
    try:
        find_browser(), find_driver()
    except LookupError as error:
        pytest.skip(str(error))
    with browser() as opened:
        yield opened


@pytest.fixture
def page(window, page_of_run):
    window.open(page_of_run)
    window.run(WAIT)
    return window


def legend(page):
    return page.run(
        "return [...document.querySelectorAll('#legend button')].map((each) => each.innerText.split('\\n').filter(Boolean));"
    )


def press(page, key):
    page.run(
        "document.getElementById('map').dispatchEvent(new KeyboardEvent('keydown', { key: arguments[0], bubbles: true }));"
        .replace("arguments[0]", f"'{key}'") + WAIT
    )  # fmt: skip


def test_all_points_are_drawn_and_the_legend_filters_them(page):
    assert page.run(f"{DRAWN} return drawn();") == 61
    names = [name for name, _ in legend(page)]
    assert names == ["correct", "mistake", "not predicted"]
    counts = [int(count) for _, count in legend(page)]
    assert sum(counts) == 61
    page.click('#legend [data-code="1"]')
    assert page.run(f"{WAIT} {DRAWN} return drawn();") == 61 - counts[1]
    page.click("#none")
    assert page.run(f"{WAIT} {DRAWN} return drawn();") == 0
    page.click("#all")
    assert page.run(f"{WAIT} {DRAWN} return drawn();") == 61
    page.run(
        "const s = document.getElementById('colour'); s.value = '1'; s.dispatchEvent(new Event('change'));"
    )
    assert [name for name, _ in legend(page)] == [name.replace("\u202e", "\\u202e") for name in CLASSES]
    assert page.messages() == []


def test_search_lists_selects_and_shows_the_thumbnail(page, hostile):
    _, _, gone = hostile
    search = "const s = document.getElementById('search'); s.value = arguments[0]; s.dispatchEvent(new Event('input'));"

    def find(words):
        return page.run(
            search.replace("arguments[0]", repr(words))
            + WAIT
            + "return [document.getElementById('count').textContent, document.querySelectorAll('#found button').length];"
        )

    assert find("no such name") == ["0 images found", 0]
    assert find("ONERROR=ALERT") == ["1 image found", 1]
    page.click("#found button")
    shown = page.run(
        WAIT + "const i = document.querySelector('#detail img'); await i.decode();"
        "return [i.naturalWidth, document.getElementById('detail').innerText];"
    )
    assert shown[0] > 0
    assert "<img src=x onerror=alert(2)>.png" in shown[1]
    assert f"class: \u2068{CLASSES[1]}\u2069" in shown[1]
    find(gone)
    page.click("#found button")
    assert "no thumbnail" in page.run(WAIT + "return document.getElementById('detail').innerText;")
    press(page, "Escape")
    assert page.run("return document.getElementById('detail').hidden;")
    assert page.messages() == []


def test_pointer_keys_and_wheel_move_the_map(page):
    hit = """
        const { x, y } = JSON.parse(document.getElementById("data").textContent);
        const box = document.getElementById("map").getBoundingClientRect();
        return [box.left, box.top, box.width, box.height];
    """
    left, top, width, height = page.run(hit)
    press(page, "Enter")
    name = page.run("return document.querySelector('#detail div').textContent;")
    # The selected point is brought to the centre by its name, and is under the pointer there.
    page.run(
        "const s = document.getElementById('search'); s.value = "
        + repr(name)
        + "; s.dispatchEvent(new Event('input'));"
        "document.querySelector('#found button').click();" + WAIT
    )
    page.move_to(left + width / 2, top + height / 2)
    assert page.run(
        WAIT + "const c = document.getElementById('card'); return c.hidden ? '' : c.innerText;"
    ).startswith(name)
    page.run(
        "const s = document.getElementById('search'); s.value = ''; s.dispatchEvent(new Event('input'));"
    )
    press(page, "0")
    assert page.run(f"{DRAWN} return drawn();") == 61
    for _ in range(8):
        press(page, "+")
    zoomed = page.run(f"{DRAWN} return drawn();")
    assert zoomed < 61
    for _ in range(8):
        press(page, "-")
    assert page.run(f"{DRAWN} return drawn();") == 61
    for _ in range(40):
        press(page, "ArrowLeft")
    assert page.run(f"{DRAWN} return drawn();") == 0
    page.click('[data-zoom="0"]')
    assert page.run(f"{WAIT} {DRAWN} return drawn();") == 61
    wheel = """
        const map = document.getElementById("map"), box = map.getBoundingClientRect();
        for (let k = 0; k < 30; k++) {
          map.dispatchEvent(new WheelEvent("wheel", { deltaY: -120, clientX: box.left + 5, clientY: box.top + 5, cancelable: true }));
        }
    """
    assert page.run(f"{wheel} {WAIT} {DRAWN} return drawn();") == 0
    assert page.messages() == []


def test_two_fingers_zoom(page):
    pinch = """
        const map = document.getElementById("map"), box = map.getBoundingClientRect();
        const touch = (type, id, x, y) => map.dispatchEvent(new PointerEvent(type, {
          pointerId: id, pointerType: "touch", clientX: box.left + x, clientY: box.top + y, bubbles: true }));
        map.setPointerCapture = () => {};
        touch("pointerdown", 11, 100, 100); touch("pointerdown", 12, 120, 100);
        for (let k = 1; k <= 20; k++) touch("pointermove", 12, 120 + 30 * k, 100);
        touch("pointerup", 12, 720, 100); touch("pointerup", 11, 100, 100);
    """
    assert page.run(f"{pinch} {WAIT} {DRAWN} return drawn();") < 61
    assert page.run("return document.getElementById('detail').hidden;")
    assert page.messages() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone_and_follows_the_colour_scheme(page, page_of_run, scheme):
    page.devtools(
        "Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True
    )
    page.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    try:
        page.open(page_of_run)
        found = page.run(
            WAIT + DRAWN + "const map = document.getElementById('map');"
            "const corner = [...map.getContext('2d').getImageData(2, 2, 1, 1).data].slice(0, 3);"
            "return [document.documentElement.scrollWidth, map.width, drawn(), corner];"
        )
        assert found[0] == 390
        assert found[1] > 390
        assert found[2] == 61
        assert found[3] == ([255, 255, 255] if scheme == "light" else [20, 23, 28])
    finally:
        page.devtools("Emulation.clearDeviceMetricsOverride")
        page.devtools("Emulation.setEmulatedMedia", features=[])


def test_twenty_thousand_points_can_be_moved_and_found(window, tmp_path):
    rng = np.random.default_rng(0)
    contents = Contents(
        names=[f"image {i}" for i in range(MANY)],
        points=rng.normal(size=(MANY, 2)),
        axes=("x", "y"),
        colourings=[
            Colouring("class", [f"class {k}" for k in range(60)], rng.integers(-1, 60, MANY), "no class")
        ],
        predictions=None,
        tiles=[""] * MANY,
        remarks=[],
    )
    path = tmp_path / "many.html"
    write_map_page(path, contents, title="many", facts=["many"])
    window.open(path)
    assert window.run(f"{WAIT} {DRAWN} return drawn();") == MANY
    press(window, "ArrowLeft")
    inked = window.run(
        WAIT + "const m = document.getElementById('map');"
        "const data = m.getContext('2d').getImageData(0, 0, m.width, m.height).data;"
        "let ink = 0; for (let k = 0; k < data.length; k += 4) ink += data[k] !== data[0] || data[k + 1] !== data[1];"
        "return ink / (data.length / 4);"
    )
    assert 0.02 < inked < 0.9
    assert len(legend(window)) == 61
    assert window.messages() == []
