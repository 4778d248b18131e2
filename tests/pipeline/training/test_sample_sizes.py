"""Few-shot accuracies and learning curves of a cache: tables, plots and JSON, from train and val rows alone."""

import json

import pytest

from tests.helpers.runner import run


class TestSampleSizes:
    """few-shot and learning-curve: tables, plots and JSON, from train and val rows alone."""

    @pytest.mark.parametrize(
        ("command", "options"),
        [
            ("few-shot", ("--shots", 1, "--shots", 3, "--episodes", 4)),
            ("learning-curve", ("--points", 3, "--draws", 2)),
        ],
    )
    def test_what_is_told_is_written_and_no_folder_is_overwritten(
        self, command, options, ten_cache, tmp_path
    ):
        arguments = (command, ten_cache, "--head", "ridge", *options, "--out", tmp_path / "found")
        told = json.loads(run(*arguments, "--json", "--quiet").stdout)
        written = json.loads((tmp_path / "found" / f"{command}.json").read_text())
        assert {name: value for name, value in told.items() if name != "folder"}.items() <= written.items()
        assert written["split"]["counts"]["val"] == told["rows"] > 0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["found"]  # and no journal
        assert {path.suffix for path in (tmp_path / "found").iterdir()} == {".json", ".csv", ".png", ""}
        assert "a run is never overwritten" in run(*arguments, code=1).stderr

    def test_tables_are_printed_and_a_wrong_layer_is_refused(self, ten_cache, tmp_path):
        out = ("--out", tmp_path / "found")
        shown = run("few-shot", ten_cache, "--head", "centroid", "--shots", 2, "--episodes", 3, *out).output
        assert "95% interval over episodes" in shown
        assert "holds no layer" in run("learning-curve", ten_cache, "--layer", "nowhere", code=1).stderr
