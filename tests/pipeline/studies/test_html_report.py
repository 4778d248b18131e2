"""The HTML report: whole without a network, true to the runs, and alive in a browser."""

import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import msgspec
import numpy as np
import pytest
from PIL import Image

from frostline.pipeline import evaluate, extract, few_shot, learning_curve, train_head, write_report
from frostline.pipeline.drawing.embedding import draw_map
from frostline.pipeline.errors import ReportError, RunError
from frostline.pipeline.runs.predictions import Predictions
from frostline.pipeline.runs.run import load_run
from frostline.pipeline.runs.summary import summarise
from frostline.pipeline.studies.html_report.commands import repeating_commands
from frostline.pipeline.training.sample_sizes import read_learning_curve
from tests.browser import browser, find_browser, find_driver
from tests.helpers.images import copy_digits
from tests.helpers.listener import Listener
from tests.helpers.runner import run
from tests.helpers.runs import rewrite_record

pytest.importorskip("plotly", reason="needs the extra report")

from frostline.pipeline.studies.html_report.figures import curves  # needs plotly
from tests.helpers.needs import needs_umap

CLASSES = ("<i>zero & more", 'o"ne', "two")


@pytest.fixture(scope="module")
def runs(whole_digits, tmp_path_factory):
    """Heads on sixty real digits of three classes with awkward names; the last on two backbones."""
    folder = tmp_path_factory.mktemp("data") / "digits"
    copy_digits(whole_digits, folder, classes=3, each=20, names=CLASSES)
    home = tmp_path_factory.mktemp("runs")
    caches = []
    for name, weights in (("a", "random"), ("b", "random:1")):
        options = {"weights": weights, "cache": home / f"{name}.h5", "batch_size": 8, "device": "cpu"}
        caches.append(extract(folder, backbone="timm:test_resnet", **options).cache)
    return [
        train_head(caches[0], "ridge", params={"alpha": 1e9}, run=home / "weak").run,
        train_head(caches[0], "linear", run=home / "linear").run,
        train_head(caches, "ridge", run=home / "soup", project="pca:8").run,
    ]


@pytest.fixture(scope="module")
def sizes(runs):
    """Folders that lie beside runs: of a learning curve, and of few-shot episodes."""
    home = runs[0].parent
    options = {"params": {"alpha": 1.0}, "jobs": 1}
    return [
        learning_curve(home / "a.h5", "ridge", draws=2, points=5, out=home / "<b>more", **options).folder,
        few_shot(home / "a.h5", "ridge", shots=[1], episodes=2, out=home / "few", **options).folder,
    ]


@pytest.fixture(scope="module")
def report(runs, sizes, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    assert "3 runs" in run("report", *runs, *sizes, "--out", path, "--title", "</script><b>it").stdout
    return path


class Document(HTMLParser):
    """Elements with their attributes, JSON blocks by what they are for, and text outside of scripts."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.blocks, self.words, self._inside = [], {}, [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._inside = self.elements[-1] if tag in {"script", "style"} else None

    def handle_endtag(self, _tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside is None:
            self.words.append(data)
        elif self._inside[1].get("type") == "application/json":
            attributes = self._inside[1]
            self.blocks[attributes.get("data-for") or attributes["id"]] = json.loads(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def document(report):
    return Document(report.read_text("utf-8"))


def test_page_loads_nothing_from_the_network(document):
    links = [each[name] for _, each in document.elements for name in ("src", "href") if name in each]
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)
    (policy,) = [each["content"] for each in document.all("meta") if "http-equiv" in each]
    assert "default-src 'none'" in policy


def test_page_contains_the_runs(document, runs):
    summaries = [summarise(run) for run in runs]
    rows = [each for each in document.all("th") if each.get("scope") == "row"]
    assert {row["data-value"] for row in rows} == {summary.name for summary in summaries}
    words = " ".join(document.words)
    for summary in summaries:
        assert f"{summary.validation.value * 100:.2f} %" in words
        for command in repeating_commands(summary.run):
            assert command in words
    assert len(document.all("details")) == 3
    names = set(document.blocks)
    assert {
        f"pareto-{key}" for key in ("parameters", "gflops", "extraction_seconds", "total_seconds")
    } <= names
    for number in range(3):
        assert {f"confusion-run{number}", f"reliability-run{number}", f"map-run{number}"} <= names
    assert any(name.startswith("curve-run") for name in names)


def test_every_chart_has_a_summary(document):
    plots = [each for each in document.all("div") if each.get("class") == "plot"]
    assert {each["id"] for each in plots} == set(document.blocks) - {"pictures"}
    assert all(each["role"] == "img" and len(each["aria-label"]) > 20 for each in plots)
    assert all(each.get("alt") for each in document.all("img"))


def test_charts_show_the_values_of_the_runs(document, runs):
    order = [each["data-value"] for each in document.all("th") if each.get("scope") == "row"]
    judged = {run.name: Predictions.read(run / "validation_predictions.csv") for run in runs}
    for number, name in enumerate(order):
        counts = document.blocks[f"confusion-run{number}"]["data"][0]["customdata"]
        assert np.trace(unpacked(counts)) == judged[name].correct.sum()
        traces = document.blocks[f"map-run{number}"]["data"]
        points = [point for trace in traces for point in trace["customdata"]]
        assert sorted(point[1] for point in points) == sorted(judged[name].ids.tolist())
        assert sum(point[2] != point[3] for point in points) == (~judged[name].correct).sum()
    assert len(document.blocks["pictures"]) == len(judged[order[0]])  # shared by all runs


def test_learning_curves_are_drawn_together(document, sizes):
    learnt = json.loads((sizes[0] / "learning-curve.json").read_text())
    measured, *forecast = document.blocks["label-fractions"]["data"]
    points = learnt["points"]
    assert np.allclose(measured["x"], [point["images"] for point in points])
    assert np.allclose(measured["y"], [point["accuracy"] for point in points])
    assert len(forecast) == (learnt["forecast"] is not None)
    words = " ".join(document.words)
    assert learnt["answer"] in words
    assert sizes[0].name in words


def test_forecast_of_an_earlier_version_is_read(sizes, tmp_path):
    folder = shutil.copytree(sizes[0], tmp_path / "earlier")
    document = json.loads((folder / "learning-curve.json").read_text())
    law = {"asymptote": 0.1, "scale": 1.0, "exponent": 0.5}
    numbers = {"accuracy": 0.9, "gain": 0.1, "low": 0.0, "high": 0.2, "missed": 0.25}
    document["forecast"] = {"law": law, "images": 100, **numbers}
    rewrite_record(folder, document, "learning-curve.json")
    assert read_learning_curve(folder).forecast.last_point_error == 0.25


def test_a_damaged_learning_curve_is_named(runs, sizes, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(sizes[0], damaged)
    file = damaged / "learning-curve.json"
    (damaged / "SHA256SUMS").unlink()  # as in folders of earlier versions
    for text in ("{", "[]", file.read_text().replace('"accuracy"', '"precision"')):
        file.write_text(text)
        with pytest.raises(RunError, match=f"{file} is not a learning curve"):
            read_learning_curve(damaged)
        report = Listener()
        assert write_report([runs[0], damaged], tmp_path / "report.html", report=report).runs == 1
        (warning,) = report.warnings
        assert warning.startswith(f"{file} is not a learning curve")
    (tmp_path / "report.html").unlink()
    with pytest.raises(RunError, match="no runs to compare"):
        write_report([sizes[0]], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def unpacked(array):
    """What plotly packs as base64, and what it doesn't."""
    import base64

    if not isinstance(array, dict):
        return np.array(array)
    found = np.frombuffer(base64.b64decode(array["bdata"]), array["dtype"])
    return found.reshape([int(side) for side in str(array.get("shape", len(found))).split(",")])


def test_names_and_titles_are_escaped(report, document):
    assert "</script><b>it" in document.words
    assert not document.all("b")
    assert not document.all("i")
    assert report.read_text("utf-8").count("</script>") == len(document.all("script"))


def test_names_show_controls_of_the_writing_direction_as_escapes(runs, tmp_path):
    named = shutil.copytree(runs[0], tmp_path / "good \u202e dab")
    write_report([named, runs[1]], out=tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text("utf-8")
    body = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert "\u202e" not in body
    assert "good \\u202e dab" in body


def test_page_lists_commands_that_repeat_a_run(runs):
    made = load_run(runs[2])
    *extractions, training = repeating_commands(made)
    assert len(extractions) == 2
    for line in extractions:
        assert "Nothing to do" in run(*shlex.split(line)[1:]).stdout
    words = shlex.split(training)[1:]
    run(*words)
    again = load_run(words[-1])
    shutil.rmtree(words[-1])
    assert again.record.metrics == made.record.metrics
    mine, theirs = ({**each.record.options, "layer": None} for each in (again, made))
    assert mine == theirs


def test_missing_data_of_a_run_are_omitted(runs, tmp_path):
    """As of a run of another kind, whose features and images are gone."""
    other = tmp_path / "other"
    shutil.copytree(runs[0], other)
    (other / "validation_predictions.csv").unlink()
    record = json.loads((other / "run.json").read_text())
    del record["options"]
    nothing = dict.fromkeys(("weights", "image_size", "from_run", "limit", "cache"))
    numbers = {"trained": 1, "frozen": 0, "best": 1, "weights_sha256": "0" * 64, "frozen_sha256": "0" * 64}
    settings = {"backbone": "timm:test_resnet", "from_scratch": True, "recipe": {}, **nothing, **numbers}
    record |= {"kind": "finetune", "finetune": settings}
    rewrite_record(other, record)
    gone = tmp_path / "gone"
    shutil.copytree(runs[1], gone)
    record = json.loads((gone / "run.json").read_text())
    record["caches"][0]["path"] = str(tmp_path / "gone.h5")
    rewrite_record(gone, record)
    out = tmp_path / "report.html"
    done = run("report", other, gone, "--out", out, "--json")
    assert json.loads(done.stdout)["bytes"] == out.stat().st_size
    document = Document(out.read_text("utf-8"))
    assert not document.blocks["pictures"]
    assert not any(name.startswith("map-") for name in document.blocks)
    assert sum(name.startswith("confusion-") for name in document.blocks) == 1
    assert " ".join(document.words).count("frostline extract") == 1


def test_images_of_another_data_set_under_the_path_of_a_cache_are_not_drawn(runs, whole_digits, tmp_path):
    """The names of its images and its specification are those of the run's own."""
    folder = tmp_path / "digits"
    copy_digits(whole_digits, folder, classes=3, each=20, names=CLASSES)
    for path in folder.glob("*/*"):
        Image.open(path).rotate(180).save(path)
    run_folder = shutil.copytree(runs[1], tmp_path / "run")
    options = {"weights": "random", "cache": tmp_path / "a.h5", "batch_size": 8, "device": "cpu"}
    extract(folder, backbone="timm:test_resnet", **options)
    record = json.loads((run_folder / "run.json").read_text())
    record["caches"][0]["path"] = str(tmp_path / "a.h5")
    rewrite_record(run_folder, record)
    out = tmp_path / "report.html"
    write_report([run_folder], out)
    document = Document(out.read_text("utf-8"))
    assert not document.blocks["pictures"]
    assert not any(name.startswith("map-") for name in document.blocks)


def test_curves_of_a_fine_tuning_are_drawn(tmp_path):
    path = tmp_path / "curve.csv"
    path.write_text(
        "epoch,frost_line,lr,train_loss,val_loss,val_accuracy,seconds\n1,a,0.1,2,3,,9\n2,b,0.01,1,2,0.5,8\n"
    )
    charts = {chart.title: json.loads(chart.figure)["data"] for chart in curves("run0", path, {})}
    assert {title: [line["name"] for line in lines] for title, lines in charts.items()} == {
        "Lr": ["lr"],
        "Loss": ["train loss", "validation loss"],
        "Accuracy": ["validation accuracy"],
    }
    assert unpacked(charts["Loss"][1]["y"]).tolist() == [3, 2]
    assert curves("run0", tmp_path / "none.csv", {}) == []


def test_an_evaluated_run_is_shown_on_test(runs, tmp_path):
    copied = tmp_path / "run"
    shutil.copytree(runs[0], copied)
    evaluate(copied)
    out = tmp_path / "report.html"
    run("report", copied, "--out", out, "--map", "none", "--quiet")
    text = out.read_text("utf-8")
    assert "Best on test" in text
    assert f"frostline evaluate {copied}-again" in text
    assert 'id="map-' not in text


def test_missing_libraries_are_named(runs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(ReportError, match=r"frostline\[report\]"):
        write_report(runs, tmp_path / "report.html")
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(RunError, match=r"frostline\[umap\]"):
        draw_map(np.eye(5), "umap")
    assert not list(tmp_path.iterdir())


def test_principal_components_separate_clusters():
    X = np.random.default_rng(0).normal(size=(40, 6))
    X[:20, :3] += 9
    drawn = draw_map(X, "pca")
    assert (drawn.points[:20, 0] > 0).all() != (drawn.points[20:, 0] > 0).all()
    assert re.fullmatch(r"component 1 \(\d+% of the variance\)", drawn.axes[0])
    assert draw_map(X[:2], "pca") is None


@needs_umap
def test_umap_separates_clusters():
    script = (
        "import numpy as np; from frostline.pipeline.drawing.embedding import draw_map;"
        "X = np.random.default_rng(0).normal(size=(16, 4)); X[:8] += 20; X[8:] -= 20;"
        "found = draw_map(X, 'umap'); assert found.axes == ('UMAP 1', 'UMAP 2');"
        "P = found.points; assert P.shape == (16, 2); assert np.isfinite(P).all();"
        "near = lambda a, b: np.linalg.norm(a[:, None] - b[None], axis=2).mean();"
        "assert near(P[:8], P[:8]) < near(P[:8], P[8:])"
    )
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}  # compiling it takes longer than running it
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)


@pytest.fixture(scope="module")
def page(report):
    try:
        find_browser(), find_driver()
    except LookupError as error:
        pytest.skip(str(error))
    with browser() as window:
        window.open(report)
        yield window


WAIT = "await new Promise(done => setTimeout(done, 50));"


def drawn(page, selector):
    """Bring a chart into view, wait until it is drawn, and count its marks."""
    return page.run(
        f"""const plot = document.querySelector("{selector}");
        plot.scrollIntoView({{block: "center"}});
        for (let i = 0; i < 400 && plot.dataset.drawn !== "done"; i++) {{ {WAIT} }}
        {WAIT}
        return plot.querySelectorAll(".point, .hm image, .heatmaplayer image, .heatmaplayer path").length"""
    )


@pytest.mark.browser
def test_charts_are_drawn_without_browser_errors(page):
    assert drawn(page, "#pareto-parameters") == 3
    assert drawn(page, "#confusion-run0") >= 1
    assert drawn(page, "#reliability-run0") >= 1
    assert (
        drawn(page, "#map-run0")
        == page.run("return document.querySelectorAll('#map-run0 .point').length")
        > 5
    )
    assert not page.run("return document.querySelector('#map-run1').dataset.drawn ?? null")
    page.click("#run1 summary")
    assert drawn(page, "#map-run1") > 5
    assert page.messages() == []


@pytest.mark.browser
def test_leaderboard_sorts_on_click(page):
    values = """return [...document.querySelectorAll("#board tbody tr")].map(row => row.cells[COLUMN].dataset.value)"""
    headings = page.run(
        "return [...document.querySelectorAll('#board thead th')].map(each => each.innerText.trim())"
    )
    for title in ("total s", "run"):
        column = headings.index(title)
        button = f"#board thead th:nth-child({column + 1}) button"
        seen = []
        for _ in range(2):
            page.click(button)
            found = page.run(values.replace("COLUMN", str(column)))
            seen.append([float(value) for value in found] if title == "total s" else found)
        assert seen[0] == sorted(seen[0], reverse=title == "total s")
        assert seen[1] == seen[0][::-1]
        assert page.run(f"return document.querySelector('{button}').parentNode.ariaSort") in {
            "ascending",
            "descending",
        }


@pytest.mark.browser
def test_hover_shows_the_image(page):
    drawn(page, "#map-run0")
    assert page.run("return document.getElementById('card').hidden")
    page.move_to(
        *page.run("""const box = document.querySelector("#map-run0 .point").getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2]""")
    )
    width, words = page.run(f"""const card = document.getElementById("card");
        for (let i = 0; i < 100 && card.hidden; i++) {{ {WAIT} }}
        await card.querySelector("img").decode();
        return [card.querySelector("img").naturalWidth, card.innerText]""")
    assert width > 0
    assert ".png" in words
    drawn(page, "#pareto-parameters")
    page.move_to(
        *page.run("""const box = document.querySelector("#pareto-parameters .point").getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2]""")
    )
    told = page.run(f"""let text = null;
        for (let i = 0; i < 100 && !text; i++) {{
          {WAIT} text = document.querySelector("#pareto-parameters .hoverlayer .hovertext")?.textContent;
        }} return text""")
    assert "parameters:" in told


@pytest.mark.browser
def test_link_opens_its_run(page):
    page.run("document.querySelector('#run2').open = false")
    page.run("document.querySelector('#board a[href=\"#run2\"]').click()")
    assert page.run("return document.querySelector('#run2').open")


@pytest.mark.browser
def test_dark_mode_small_screens_and_print(page):
    colour = "return getComputedStyle(document.querySelector('#pareto-parameters .xtitle')).fill"
    drawn(page, "#pareto-parameters")
    light = page.run(colour)
    page.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    dark = page.run(f"""for (let i = 0; i < 100; i++) {{
          {WAIT} const now = getComputedStyle(document.querySelector("#pareto-parameters .xtitle")).fill;
          if (now !== "{light}") return now; }}""")
    assert dark not in {light, None}
    page.devtools("Emulation.setEmulatedMedia", features=[])
    page.devtools(
        "Emulation.setDeviceMetricsOverride", width=360, height=700, deviceScaleFactor=2, mobile=True
    )
    assert (
        page.run(
            f"""const width = () => document.documentElement.scrollWidth;
        for (let i = 0; i < 100 && width() > 360; i++) {{ {WAIT} }} return width()"""
        )
        <= 360
    )
    page.devtools("Emulation.clearDeviceMetricsOverride")
    page.devtools("Page.printToPDF")
    assert (
        page.run(f"""const left = () => document.querySelectorAll(".plot:not([data-drawn=done])").length;
        for (let i = 0; i < 400 && left(); i++) {{ {WAIT} }} return left()""")
        == 0
    )
    assert page.messages() == []


def test_a_command_of_a_run_of_someone_else_runs_nothing_but_frostline(runs):
    run = load_run(runs[0])
    hostile = "memory:set\ntouch pwned #"
    caches = tuple(
        msgspec.structs.replace(cache, source=hostile, path="-x\ny.h5") for cache in run.record.caches
    )
    changed = dataclasses.replace(run, record=msgspec.structs.replace(run.record, caches=caches))
    lines = [line for command in repeating_commands(changed) for line in command.splitlines()]
    assert all(line.startswith(("# ", "frostline ")) for line in lines)
    assert not any("pwned" in line for line in lines if line.startswith("frostline "))
