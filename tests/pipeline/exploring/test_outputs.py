"""Output files: a result of nothing is written as such, and no output replaces what was read."""

import csv
import io
import json

import numpy as np
import pytest

from frostline.errors import OptionError
from frostline.features.cache import FeatureCache
from frostline.pipeline import clusters, dedupe, map_cache, outliers, search, suggest
from tests.helpers.images import write_image
from tests.helpers.runner import run
from tests.helpers.vectors import write_vectors

STAGES = {
    "clusters": lambda cache, out: clusters(cache, count=2, out=out),
    "dedupe": lambda cache, out: dedupe(cache, out=out),
    "map": lambda cache, out: map_cache(cache, out=out),
    "outliers": lambda cache, out: outliers(cache, images=False, out=out),
    "search": lambda cache, out: search(cache, row=[str(cache.ids[0])], out=out),
    "suggest": lambda cache, out: suggest(cache, n=2, out=out),
}


@pytest.fixture
def alike(tmp_path):
    """Cache without duplicates and without outliers."""
    return write_vectors(tmp_path / "c.h5", np.eye(12, 12), labels=np.arange(12) % 2)


@pytest.fixture
def of_files(tmp_path):
    """Cache of vectors whose images a manifest names."""
    names = [f"i{number}.png" for number in range(8)]
    for number, name in enumerate(names):
        write_image(tmp_path / "images" / name, seed=number)
    manifest = tmp_path / "images" / "all.csv"
    manifest.write_text("path\n" + "\n".join(names) + "\n")
    X = np.random.default_rng(0).normal(size=(8, 4))
    return FeatureCache.from_arrays(tmp_path / "f.h5", X, name="n", ids=names, images=manifest)


def test_no_duplicates_are_a_list_with_a_heading_only(alike, tmp_path):
    found = dedupe(alike, listing=tmp_path / "groups.csv", keep="first")
    assert found.images == ()
    assert (tmp_path / "groups.csv").read_text() == "group,image,kept,similarity,label,split\n"


def test_no_findings_replace_those_of_an_earlier_call(alike, tmp_path):
    for name in ("outliers.csv", "outliers.html", "outliers.png"):
        (tmp_path / name).write_text("earlier")
    found = outliers(alike, images=False, out=tmp_path)
    assert found.found == ()
    assert found.table.read_text() == "kind,rank,image,label,split,value,z,remark\n"
    assert "Nothing was found." in found.page.read_text()
    assert found.picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("command", ["dedupe", "outliers"])
def test_csv_of_nothing_has_a_heading(alike, command):
    printed = run(command, alike.path, "--format", "csv", *(["--no-images"] * (command == "outliers"))).stdout
    (heading,) = csv.reader(io.StringIO(printed))
    assert {"image", "label", "split"} < set(heading)
    assert (
        json.loads(run(command, alike.path, "--json").stdout)[
            {"dedupe": "images", "outliers": "found"}[command]
        ]
        == []
    )


@pytest.mark.parametrize("stage", STAGES)
def test_no_output_replaces_the_manifest_of_the_cache(of_files, tmp_path, stage):
    manifest = tmp_path / "images" / "all.csv"
    before = manifest.read_bytes()
    with pytest.raises(OptionError, match=r"out: .*all\.csv (is the manifest that|exists)"):
        STAGES[stage](of_files, manifest)
    assert manifest.read_bytes() == before


@pytest.mark.parametrize("stage", sorted(STAGES.keys() - {"map"}))
def test_no_output_replaces_an_image_of_the_cache(of_files, tmp_path, stage):
    image = tmp_path / "images" / "i3.png"
    before = image.read_bytes()
    with pytest.raises(OptionError, match=r"out: .*i3\.png is one of the images of"):
        STAGES[stage](of_files, image)
    assert image.read_bytes() == before


def test_a_list_is_csv_and_not_another_output(of_files, tmp_path):
    before = of_files.path.read_bytes()
    with pytest.raises(OptionError, match=r"list: got '.*f\.h5', expected a file ending in \.csv"):
        dedupe(of_files, listing=of_files.path)
    assert of_files.path.read_bytes() == before
    with pytest.raises(OptionError, match=r"list: .*all\.csv is the manifest"):
        suggest(of_files, listing=tmp_path / "images" / "all.csv")
    with pytest.raises(OptionError, match=r"list: .*x\.csv is another output too"):
        dedupe(of_files, listing=tmp_path / "x.csv", out=tmp_path / "x.csv")
    with pytest.raises(OptionError, match=r"list: .*manifest\.csv is another output too"):
        dedupe(of_files, listing=tmp_path / "out" / "manifest.csv", out=tmp_path / "out")
    link = tmp_path / "link.csv"
    link.symlink_to(of_files.path)
    with pytest.raises(OptionError, match="is the cache itself"):
        dedupe(of_files, listing=link)
