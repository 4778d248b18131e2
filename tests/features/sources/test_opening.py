"""How data are opened by their name, and refused."""

import pytest

from frostline.features.errors import SourceError
from frostline.features.sources import SourceKind, open_source
from frostline.features.sources.folders.folder import open_folder
from frostline.pipeline import extract
from tests.helpers.images import write_folder, write_image
from tests.helpers.tables import NAMES, columns

ALBUM = SourceKind(
    "album:FOLDER",
    lambda data: data.startswith("album:"),
    lambda data: open_folder(data.removeprefix("album:")),
)


class TestOpenSource:
    def test_missing_data_names_a_near_match(self, tmp_path):
        write_folder(tmp_path / "flowers" / "set", ["a/1.png"])
        with pytest.raises(SourceError, match=r"flowrs: no such file or folder; did you mean '.*flowers'"):
            open_source(tmp_path / "flowrs")
        with pytest.raises(SourceError, match=r"because '.*flowrs' doesn't exist; did you mean '.*flowers'"):
            open_source(tmp_path / "flowrs" / "set")
        with pytest.raises(SourceError, match=r"zzz: no such file or folder$"):
            open_source(tmp_path / "zzz")

    def test_third_party_source_is_opened_and_extracted(self, tmp_path, declare):
        declare("frostline.image_sources", album=f"{__name__}:ALBUM")
        write_folder(tmp_path / "photos", NAMES)
        named = f"album:{tmp_path / 'photos'}"
        assert columns(open_source(named)) == columns(open_source(tmp_path / "photos"))
        assert len(open_source(named, limit=2).table) == 2
        done = extract(named, backbone="timm:test_resnet", weights="random", cache=tmp_path / "c.h5")
        assert (done.rows, done.computed) == (len(NAMES), len(NAMES))
        with pytest.raises(
            SourceError, match=r"1\.jpg: expected .*, or an image folder, .*, or album:FOLDER$"
        ):
            open_source(tmp_path / "photos" / "a" / "1.jpg")

    def test_broken_third_party_source_is_reported(self, tmp_path, declare):
        declare("frostline.image_sources", album="no_such_module:ALBUM")
        write_image(tmp_path / "photos" / "1.png")
        assert len(open_source(tmp_path / "photos").table) == 1
        with pytest.raises(
            SourceError, match=r"image source 'album' \(no_such_module:ALBUM\) can't be imported"
        ):
            open_source(tmp_path / "photos" / "1.png")

    def test_invalid_source_kind_is_refused(self, tmp_path, declare):
        declare("frostline.image_sources", album="json:dumps")
        with pytest.raises(
            SourceError, match=r"\(json:dumps\) is .*; expected a features\.sources\.SourceKind"
        ):
            open_source(tmp_path / "nowhere")

    def test_other_files_are_an_error(self, tmp_path):
        path = write_image(tmp_path / "1.png")
        with pytest.raises(
            SourceError, match=r"1\.png: expected .*, or an image folder, .* or a manifest ending in \.csv"
        ):
            open_source(path)

    def test_limit_takes_evenly_spaced_rows_and_keeps_all_classes(self, tmp_path):
        names = [f"{name}/{index}.png" for name in "abcde" for index in range(4)]
        whole = open_source(write_folder(tmp_path, names)).table
        source = open_source(tmp_path, limit=5)
        assert source.table.ids.tolist() == whole.ids[[0, 4, 8, 12, 16]].tolist()
        assert source.table.labels.tolist() == [0, 1, 2, 3, 4]
        assert source.table.classes == whole.classes == tuple("abcde")
        assert source.read(3)[0] == (tmp_path / "d" / "0.png").read_bytes()
        two = open_source(tmp_path, limit=2)
        assert two.table.classes == whole.classes
        assert two.table.stamps.tolist() == whole.stamps[[0, 10]].tolist()

    @pytest.mark.parametrize("limit", [3, 4, 10**12])
    def test_limit_beyond_the_set_is_the_set(self, tmp_path, limit):
        write_folder(tmp_path, ["a/1.png", "a/2.png", "b/3.png"])
        assert len(open_source(tmp_path, limit=limit).table) == 3

    @pytest.mark.parametrize("limit", [0, -1])
    def test_limit_below_one_is_an_error(self, tmp_path, limit):
        write_folder(tmp_path, ["a/1.png"])
        with pytest.raises(SourceError, match=f"limit: got {limit}"):
            open_source(tmp_path, limit=limit)
