"""Pictures of images whose source has no files: drawn from the source, or one sentence says why not."""

import re
from pathlib import Path

import numpy as np
import pytest

from frostline.features.cache import FeatureCache
from frostline.features.errors import SourceError
from frostline.features.sources import SourceKind, open_source
from frostline.pipeline import check_cache, evaluate, extract, label_errors, train_head, write_report
from frostline.pipeline.drawing import thumbnails
from frostline.pipeline.drawing.thumbnails import opened_pictures
from frostline.pipeline.progress import SILENT
from frostline.pipeline.runs.run import load_run
from frostline.pipeline.studies.html_report.commands import repeating_commands
from frostline.testing import encode, photo
from tests.helpers.needs import needs_cleanlab, needs_plotly
from tests.helpers.sources import DigestSource

EXACT = {"engine": "eager", "precision": "fp32", "device": "cpu"}
WHY = "their source, memory:set, can't be opened by this name here"


class Reporter(type(SILENT)):
    def __init__(self):
        self.warnings = []

    def warn(self, text):
        self.warnings.append(text)


@pytest.fixture(scope="module")
def files(digits):
    """A hundred and twenty digits, a quarter of them under the name of another class."""
    names = sorted(path.relative_to(digits).as_posix() for path in digits.glob("*/*"))
    data = {name: (digits / name).read_bytes() for name in names}
    return {
        (f"x{name}" if n % 4 else f"x{(int(name[0]) + 1) % 3}{name[1:]}"): data[name]
        for n, name in enumerate(names)
    }


@pytest.fixture(scope="module")
def cache(files, tmp_path_factory):
    path = tmp_path_factory.mktemp("cache") / "memory.h5"
    return extract(
        DigestSource(files), backbone="timm:test_resnet", weights="random", cache=path, **EXACT
    ).cache


@pytest.fixture
def run(cache, tmp_path):
    return train_head(cache, "ridge", run=tmp_path / "ridge").run


@pytest.fixture
def drawn(monkeypatch):
    """Names of the images that were drawn, and whether each had a picture."""
    found = {}
    draw = thumbnails.draw_thumbnail

    def recorded(axes, thumbnail, title):
        found[thumbnail.name] = thumbnail.picture is not None
        draw(axes, thumbnail, title)

    monkeypatch.setattr("frostline.pipeline.drawing.plots.draw_thumbnail", recorded)
    return found


def test_evaluate_draws_the_mistakes_of_a_given_source(run, files, drawn):
    report = Reporter()
    result = evaluate(run, source=DigestSource(files), report=report)
    assert result.mistakes.stat().st_size > 0
    assert drawn
    assert all(drawn.values())
    assert not report.warnings


def test_evaluate_says_why_there_are_no_pictures_of_the_mistakes(run, drawn):
    report = Reporter()
    result = evaluate(run, report=report)
    assert result.mistakes.stat().st_size > 0
    assert drawn
    assert not any(drawn.values())
    (warning,) = report.warnings
    assert WHY in warning
    assert "`source`" in warning


def test_no_file_of_the_same_name_is_mistaken_for_an_image_in_memory(
    run, files, drawn, tmp_path, monkeypatch
):
    for name in files:
        (tmp_path / "here" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "here" / name).write_bytes(encode(photo(9, 9)))
    monkeypatch.chdir(tmp_path / "here")
    evaluate(run)
    assert drawn
    assert not any(drawn.values())


def test_evaluate_refuses_another_source_before_it_counts_as_a_look(run):
    other = DigestSource({"z/1.png": encode(photo(9, 9))}, root="memory:other")
    with pytest.raises(SourceError, match=r"memory:other has none of the .* images of .*memory\.h5"):
        evaluate(run, source=other)
    assert load_run(run).ledger.entries() == ()


def test_check_cache_draws_near_duplicates_of_a_given_source_and_else_says_why_not(
    cache, files, drawn, tmp_path
):
    report = Reporter()
    found = check_cache(cache, threshold=0.9, out=tmp_path, source=DigestSource(files), report=report)
    assert found.near
    assert all(drawn.values())
    assert not report.warnings
    drawn.clear()
    again = check_cache(cache, threshold=0.9, out=tmp_path / "more", report=report)
    assert again.near == found.near
    assert again.picture.stat().st_size > 0
    assert drawn
    assert not any(drawn.values())
    (warning,) = report.warnings
    assert WHY in warning


@needs_cleanlab
def test_label_errors_draws_images_of_a_given_source_and_else_says_why_not(cache, files, drawn, tmp_path):
    report = Reporter()
    found = label_errors(
        cache, folds=3, device="cpu", out=tmp_path, source=DigestSource(files), report=report
    )
    assert found.found
    assert all(drawn.values())
    assert not report.warnings
    drawn.clear()
    again = label_errors(cache, folds=3, device="cpu", out=tmp_path / "more", report=report)
    assert again.found == found.found
    assert again.picture.stat().st_size > 0
    assert not any(drawn.values())
    (warning,) = report.warnings
    assert WHY in warning


@pytest.mark.parametrize("stage", [check_cache, pytest.param(label_errors, marks=needs_cleanlab)])
def test_stages_refuse_another_source(stage, cache, tmp_path):
    other = DigestSource({"z/1.png": encode(photo(9, 9))}, root="memory:other")
    with pytest.raises(SourceError, match="memory:other has none of the"):
        stage(cache, out=tmp_path, source=other)


@needs_plotly
def test_the_report_says_why_it_shows_no_pictures(run, tmp_path):
    evaluate(run)
    text = write_report([run], tmp_path / "report.html").path.read_text("utf-8")
    assert WHY in re.sub(r"&#39;", "'", text)
    assert 'id="pictures">[]<' in text


@needs_plotly
def test_the_report_shows_pictures_of_files_without_remark(digits, tmp_path):
    made = extract(digits, backbone="timm:test_resnet", weights="random", cache=tmp_path / "c.h5", **EXACT)
    done = train_head(made.cache, "ridge", params={"alpha": 1e9}, run=tmp_path / "files").run
    text = write_report([done], tmp_path / "report.html").path.read_text("utf-8")
    assert "can't be opened" not in re.sub(r"&#39;", "'", text)
    assert 'id="pictures">["data:image/webp' in text


def test_commands_that_repeat_a_run_leave_a_source_without_files_to_python(run):
    first, second = repeating_commands(load_run(run))[0].splitlines()
    assert first == "# In Python, with the source memory:set and these options:"
    assert second.startswith("# frostline extract memory:set ")


def test_pictures_of_files_are_found_without_listing_them(digits, tmp_path, monkeypatch):
    folder = extract(
        digits, backbone="timm:test_resnet", weights="random", cache=tmp_path / "a.h5", **EXACT
    ).cache
    manifest = tmp_path / "list.csv"
    manifest.write_text("path,label\n" + "".join(f"{path},a\n" for path in sorted(digits.glob("0/*"))[:4]))
    listed = extract(
        manifest, backbone="timm:test_resnet", weights="random", cache=tmp_path / "b.h5", **EXACT
    ).cache
    monkeypatch.setattr("frostline.features.sources.folders.listing.list_images", None)
    for path in (folder, listed):
        data = FeatureCache.open(path)
        with opened_pictures(data) as pictures:
            assert not pictures.obstacle
            name, picture = pictures.thumbnail(2, 8)
        assert name == data.ids[2]
        assert picture.size == (8, 8)


def test_a_file_that_is_gone_or_broken_has_no_picture(tmp_path):
    for name in "abc":
        (tmp_path / "set" / "k").mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / "k" / f"{name}.png").write_bytes(encode(photo(20, 10, seed=ord(name))))
    path = tmp_path / "c.h5"
    extract(tmp_path / "set", backbone="timm:test_resnet", weights="random", cache=path, **EXACT)
    (tmp_path / "set" / "k" / "a.png").unlink()
    (tmp_path / "set" / "k" / "b.png").write_bytes(b"no image")
    with opened_pictures(FeatureCache.open(path)) as pictures:
        assert not pictures.obstacle
        assert [pictures.thumbnail(row, 8).picture is None for row in range(3)] == [True, True, False]
        assert pictures.thumbnail(2, 8).picture.size == (8, 4)


class Closing(DigestSource):
    closed = 0

    def close(self):
        Closing.closed += 1


STORE = {f"a/{n}.png": encode(photo(20, 10, seed=n)) for n in range(3)}
SHELF = SourceKind("shelf:NAME", lambda data: data == "shelf:it", lambda data: Closing(STORE, root=data))


def test_a_source_of_another_package_is_opened_again_by_its_name_and_closed(declare, tmp_path):
    declare("frostline.image_sources", shelf=f"{__name__}:SHELF")
    path = extract(
        "shelf:it", backbone="timm:test_resnet", weights="random", cache=tmp_path / "c.h5", **EXACT
    ).cache
    before = Closing.closed
    with opened_pictures(FeatureCache.open(path)) as pictures:
        assert not pictures.obstacle
        assert pictures.thumbnail(1, 8).picture is not None
        assert Closing.closed == before
    assert Closing.closed == before + 1


def test_a_broken_source_of_another_package_is_named_as_the_reason(cache, declare):
    declare("frostline.image_sources", shelf="no_such_module:SHELF")
    with opened_pictures(FeatureCache.open(cache)) as pictures:
        assert "no_such_module:SHELF" in pictures.obstacle
        assert pictures.thumbnail(0, 8).picture is None


def test_a_source_that_lost_an_image_draws_the_others(cache, files):
    fewer = DigestSource(dict(list(files.items())[1:]))
    lost = next(iter(files))
    data = FeatureCache.open(cache)
    with opened_pictures(data, fewer) as pictures:
        found = [pictures.thumbnail(row, 8) for row in range(data.rows)]
    assert [each.name for each in found if each.picture is None] == [lost]


def test_an_open_source_of_files_can_be_given_as_well(digits, tmp_path):
    path = extract(
        digits, backbone="timm:test_resnet", weights="random", cache=tmp_path / "c.h5", **EXACT
    ).cache
    data = FeatureCache.open(path)
    with opened_pictures(data, open_source(Path(digits))) as pictures:
        assert np.asarray(pictures.thumbnail(0, 8).picture).shape == (8, 8, 3)
