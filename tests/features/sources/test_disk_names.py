"""Files are found whatever way their names are written."""

import sys
import unicodedata

import pytest

from frostline.features.errors import SourceError
from frostline.features.sources import find_kind, open_paths, open_source
from tests.helpers.images import write_folder
from tests.helpers.tables import columns, write_manifest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that takes any name")

NFC, NFD = (unicodedata.normalize(form, "été/Pâté.png") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(("stored", "written"), [(NFC, NFD), (NFD, NFC), (NFD, NFD)])
def test_a_manifest_finds_a_file_in_another_unicode_form(tmp_path, stored, written):
    write_folder(tmp_path, [stored])
    source = open_source(write_manifest(tmp_path / "set.csv", ["path"], [written]))
    assert [*columns(source)] == [stored]
    assert source.read(0)[0] == (tmp_path / stored).read_bytes()
    absolute = open_source(write_manifest(tmp_path / "set.csv", ["path"], [tmp_path / written]))
    assert absolute.read(0)[0] == (tmp_path / stored).read_bytes()


def test_two_forms_of_a_file_are_one_image_that_is_listed_twice(tmp_path):
    write_folder(tmp_path, [NFC])
    with pytest.raises(SourceError, match="already in line 2"):
        open_source(write_manifest(tmp_path / "set.csv", ["path"], [NFC], [NFD]))


def test_two_files_whose_names_differ_in_form_alone_stay_two(tmp_path):
    write_folder(tmp_path, ["été.png".encode().decode(), unicodedata.normalize("NFD", "été.png")])
    path = write_manifest(
        tmp_path / "set.csv", ["path"], ["été.png"], [unicodedata.normalize("NFD", "été.png")]
    )
    assert len(open_source(path).table) == 2


def test_back_slashes_separate_folders_where_the_file_exists(tmp_path):
    write_folder(tmp_path, ["a/b/1.png", "a/été.png", "odd\\name.png"])
    rows = [
        ["a\\b\\1.png"],
        [f"a\\{unicodedata.normalize('NFD', 'été')}.png"],
        ["odd\\name.png"],
        ["c\\2.png"],
    ]
    source = open_source(write_manifest(tmp_path / "set.csv", ["path"], *rows))
    assert {*columns(source)} == {"a/b/1.png", "a/été.png", "odd\\name.png", "c\\2.png"}


def test_a_folder_and_an_image_are_found_by_name(tmp_path, monkeypatch):
    write_folder(tmp_path, [NFD])
    monkeypatch.chdir(tmp_path)
    assert len(open_source(NFC.split("/", maxsplit=1)[0]).table) == 1
    assert open_paths([NFC]).read(0)[0] == (tmp_path / NFD).read_bytes()


def test_an_image_of_a_cache_is_located_in_another_form(tmp_path):
    write_folder(tmp_path, [NFD])
    path = write_manifest(tmp_path / "set.csv", ["path"], [NFD])
    locate = find_kind(str(path)).locate
    assert locate(str(path), NFC).read_bytes() == (tmp_path / NFD).read_bytes()
