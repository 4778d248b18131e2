"""The command that exports caches: where it writes, what it refuses, and what it says."""

import csv
import json
import os
import signal

import numpy as np
import pytest
from PIL import Image

from frostline.features.cache import open_writer
from frostline.pipeline import ExportError, export_cache, extract
from frostline.pipeline.exporting.exporters import EXPORTERS, Exporter
from frostline.system.atomic import write_file
from frostline.testing import encode
from tests.features.cache import synthetic
from tests.features.cache.frames.test_frames import write
from tests.helpers.needs import needs_pyarrow
from tests.helpers.network import BACKBONE
from tests.helpers.runner import Command, run


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write(tmp_path / "photos.net.h5")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_command_writes_into_the_current_folder_and_says_what(cache, tmp_path):
    done = run("cache", "export", cache.path, "--to", "csv")
    assert "photos.net.csv: 698 rows" in done.stdout
    assert "embedding (20), blocks.4:avg (6); float32" in done.stdout
    assert "Left out: 2 rows without features" in done.stderr
    assert "provenance: photos.net.csv.json" in done.stdout
    assert names(tmp_path) == ["photos.net.csv", "photos.net.csv.json", "photos.net.h5"]
    result = json.loads(
        run("cache", "export", cache.path, "--to", "npy", "--layer", "embedding", "--json").stdout
    )
    assert (result["path"], result["rows"], result["failed"]) == ("photos.net-npy", 698, 2)
    assert result["description"] == "photos.net-npy/provenance.json"
    assert result["bytes"] == sum(path.stat().st_size for path in (tmp_path / "photos.net-npy").iterdir())
    assert names(tmp_path / "photos.net-npy") == ["embedding.npy", "provenance.json", "rows.csv"]


def test_help_lists_the_formats():
    text = run("cache", "export", "--help").stdout
    for name in EXPORTERS:
        assert name in text
    assert "export" in run("cache", "--help").stdout


def test_cells_of_csv_are_no_formulas(tmp_path):
    files = {"=1+1.jpg": b"a", "+2.jpg": b"b"}
    source = synthetic.MemorySource(files, labels=dict.fromkeys(files, "-x"))
    specification = synthetic.spec()
    with open_writer(tmp_path / "c.h5", specification, source) as writer:
        features, known = synthetic.computed(specification, source, writer.todo)
        writer.put(writer.todo, features, **known)
        cache = writer.finish()
    export_cache(cache, to="csv", out=tmp_path / "c.csv")
    with (tmp_path / "c.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["'+2.jpg", "'=1+1.jpg"]
    assert [row["label"] for row in rows] == ["'-x", "'-x"]
    found = np.array([[row[f"embedding_{number}"] for number in range(20)] for row in rows], np.float32)
    np.testing.assert_array_equal(found, cache.features("embedding"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "parqet"], "no format 'parqet' (did you mean 'parquet'"),
        (["--to", "npz", "--metric", "euclidean"], "--metric is an option of faiss, and the format is npz"),
        (["--to", "npz", "--sprite"], "--sprite is an option of tensorboard"),
        (["--to", "npz", "--shard-rows", "5"], "--shard-rows is an option of webdataset"),
        (["--to", "npz", "--layer", "head"], "has no layer 'head'; choose one of embedding, blocks.4:avg"),
        (["--to", "npz", "--view", "1"], "--view 1:"),
        (["--to", "npz", "--out", "photos.net.h5", "--overwrite"], "is the cache itself"),
        (["--to", "npz", "--out", "folder", "--overwrite"], "is a folder, and npz is one file"),
        (["--to", "npy", "--out", "folder", "--overwrite"], "is no folder that an export wrote"),
        (["--to", "npy", "--out", "file", "--overwrite"], "is no folder that an export wrote"),
        (["--to", "npz", "--out", "file"], "exists already; pass --overwrite"),
        (["--to", "csv", "--out", "new.csv"], "new.csv.json: exists already"),
    ],
)
@pytest.mark.usefixtures("cache")
def test_what_cannot_be_written_is_refused_and_nothing_changes(tmp_path, arguments, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "new.csv.json").write_text("mine")
    before = names(tmp_path)
    assert message in run("cache", "export", "photos.net.h5", *arguments, code=1).stderr
    assert names(tmp_path) == before
    assert (tmp_path / "folder" / "mine").read_text() == (tmp_path / "file").read_text() == "mine"


def test_folder_with_the_provenance_of_something_else_is_kept(cache, tmp_path):
    for content in ("[]", "{}", '{"format": "other"}', "no json", "[" * 100_000):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / "provenance.json").write_text(content)
        with pytest.raises(ExportError, match="is not replaced"):
            export_cache(cache, to="npy", out=tmp_path / "out", overwrite=True)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(ExportError, match="is not replaced"):
        export_cache(cache, to="npy", out=tmp_path / "link", overwrite=True)


def test_rows_of_no_image_are_refused(cache, tmp_path):
    cache = write(tmp_path / "few.h5", count=6)
    with pytest.raises(ExportError, match="has no rows of the split train with features"):
        export_cache(write(tmp_path / "one.h5", count=1), to="npz", split=["train"])
    assert export_cache(cache, to="npz", split=["test"]).rows == 1


def test_bad_options_are_usage_errors(cache):
    assert "--view" in run("cache", "export", cache.path, "--view", "-1", code=2).stderr
    assert "--split" in run("cache", "export", cache.path, "--split", "trian", code=2).stderr


def test_file_that_appears_meanwhile_is_kept(cache, tmp_path, monkeypatch):
    out = tmp_path / "out.npz"

    def write_late(_export, file):
        file.write(b"new")
        out.write_text("another's")

    monkeypatch.setattr(EXPORTERS, "load", lambda _name: Exporter("late", write_late, ".npz"))
    with pytest.raises(FileExistsError):
        export_cache(cache, to="npz", out=out)
    assert out.read_text() == "another's"


def test_format_of_another_package_is_written(cache, tmp_path, declare):
    declare("frostline.exporters", listing=f"{__name__}:LISTING")
    result = export_cache(cache, to="listing", out=tmp_path / "out")
    assert (tmp_path / "out" / "ids.txt").read_text() == "\n".join(cache.ids[cache.ok])
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["key"] == cache.key
    assert result.rows == 698


def _write_listing(export, folder):
    with write_file(folder / "ids.txt") as file:
        file.write("\n".join(name for block in export.blocks() for name in block.ids).encode())


LISTING = Exporter("names", _write_listing, "-names", folder=True, holds_description=False)


@needs_pyarrow
def test_source_path_that_is_no_text_is_written(tmp_path):
    import pyarrow.parquet as pq

    source = synthetic.source(3, root="/caf\udce9")
    specification = synthetic.spec()
    with open_writer(tmp_path / "c.h5", specification, source) as writer:
        features, known = synthetic.computed(specification, source, writer.todo)
        writer.put(writer.todo, features, **known)
        cache = writer.finish()
    export_cache(cache, out=tmp_path / "c.parquet")
    known = json.loads(pq.read_schema(tmp_path / "c.parquet").metadata[b"frostline"])
    assert known["source"] == "/caf\udce9"
    export_cache(cache, to="anndata", out=tmp_path / "c.h5ad")


def test_result_of_a_script_and_of_an_open_cache_are_the_same(cache, tmp_path):
    first = export_cache(cache, to="npz", out=tmp_path / "a.npz")
    second = export_cache(str(cache.path), to="npz", out=tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert first.bytes == second.bytes == (tmp_path / "a.npz").stat().st_size


@pytest.mark.parametrize("name", ["npz", "webdataset"])
def test_killed_export_leaves_nothing_that_the_next_does_not_delete(cache, tmp_path, name):
    code = (
        "import sys, os, frostline\n"
        "from frostline.features.cache import selection\n"
        "selection.BLOCK_BYTES, check, calls = 1, frostline.FeatureCache.check_features, []\n"
        "def killed(*args):\n"
        "    calls.append(1)\n"
        "    os.kill(os.getpid(), 9) if len(calls) == 3 else check(*args)\n"
        "frostline.FeatureCache.check_features = killed\n"
        "frostline.export_cache(sys.argv[1], to=sys.argv[2], out=sys.argv[3])\n"
    )
    out = tmp_path / f"out{EXPORTERS[name].suffix}"
    process = Command(cache.path, name, out, python=["-c", code])
    code_of_exit, _ = process.finish()
    assert code_of_exit == -signal.SIGKILL
    assert not os.path.lexists(out)
    assert len(names(tmp_path)) == 2  # the cache, and what the killed process left
    export_cache(cache, to=name, out=out)
    assert names(tmp_path) == sorted([out.name, "photos.net.h5"])


def test_sprite_has_a_cell_for_each_row(tmp_path):
    folder = tmp_path / "data" / "a"
    folder.mkdir(parents=True)
    for number in range(5):
        (folder / f"{number}.png").write_bytes(encode(Image.new("RGB", (64, 64), (50 * number + 20, 0, 0))))
    cache = extract(tmp_path / "data", cache=tmp_path / "c.h5", **BACKBONE).cache
    (folder / "3.png").unlink()
    out = tmp_path / "out"
    done = run("cache", "export", cache, "--to", "tensorboard", "--sprite", "--out", out)
    assert "1 images can't be read" in done.stderr
    assert "single_image_dim: 64" in (out / "projector_config.pbtxt").read_text()
    pixels = np.asarray(Image.open(out / "sprite.png"))
    assert pixels.shape == (192, 192, 3)
    found = [pixels[number // 3 * 64 + 32, number % 3 * 64 + 32, 0] for number in range(9)]
    assert found == [20, 70, 120, 0, 220, 0, 0, 0, 0]


def test_sprite_of_images_that_cannot_be_opened_is_left_out_with_a_warning(cache, tmp_path):
    out = tmp_path / "out"
    done = run("cache", "export", cache.path, "--to", "tensorboard", "--sprite", "--out", out)
    assert "Images are not shown" in done.stderr
    assert "sprite" not in (out / "projector_config.pbtxt").read_text()
    assert not (out / "sprite.png").exists()


def test_missing_package_is_named_with_its_extra(cache, monkeypatch):
    monkeypatch.setattr("frostline.registry.find_spec", lambda _name: None)
    with pytest.raises(
        ExportError, match=r"format 'lancedb' needs lancedb, .* pip install 'frostline\[lancedb\]'"
    ):
        export_cache(cache, to="lancedb")
    with pytest.raises(ExportError, match=r"frostline\[parquet\]"):
        export_cache(cache)
