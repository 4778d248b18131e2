"""What holds for every source whose images are files."""

import os
from pathlib import Path

import pytest

from frostline.features.sources import open_source
from frostline.testing import ImageSourceKindContract
from tests.features.sources.tables import NAMES, columns, stat_of, write_manifest, write_parquet
from tests.helpers.images import write_folder

LONG_AGO = 1_500_000_000_000_000_000


class FileSourceContract(ImageSourceKindContract):
    """What also holds where the images are files; a subclass gives `source`, made over the images `NAMES`."""

    @pytest.fixture
    def files(self, source):
        return {name: Path(source.folder, name).read_bytes() for name in NAMES}

    def write(self, source, row, data):
        Path(source.display_name(row)).write_bytes(data)

    def remove(self, source, row):
        Path(source.display_name(row)).unlink()

    def test_labels_index_the_classes(self, source):
        assert source.table.classes == ("a", "a.c", "b")
        assert {id_: label for id_, (label, _, _) in columns(source).items()} == {
            name: name.split("/")[0] for name in NAMES
        }

    def test_root_is_absolute(self, source):
        assert Path(source.root).is_absolute()
        assert Path(source.root).exists()

    def test_an_image_is_shown_by_its_path(self, source, files):
        for row, id_ in enumerate(source.table.ids):
            assert Path(source.display_name(row)).is_absolute()
            assert Path(source.display_name(row)).read_bytes() == files[id_.decode()]

    def test_stamp_is_size_and_time_as_stored_in_caches(self, source):
        for row in range(len(NAMES)):
            status = Path(source.display_name(row)).stat()
            assert stat_of(source, row) == [status.st_size, status.st_mtime_ns]

    def test_a_file_changed_up_to_two_seconds_before_is_unsettled(self, source):
        changed = stat_of(source, 1)[1]
        os.utime(source.display_name(0), ns=(LONG_AGO, LONG_AGO))
        again = self.reopened(source)
        assert again.unsettled(changed).tolist() == [False] + [True] * 4
        assert again.unsettled(changed + 10**13).tolist() == [False] * 5


class TestFolderSource(FileSourceContract):
    kind = "folder"

    @pytest.fixture
    def source(self, tmp_path):
        return open_source(write_folder(tmp_path, NAMES))


class TestCsvSource(FileSourceContract):
    kind = "manifest"

    @pytest.fixture
    def source(self, tmp_path):
        write_folder(tmp_path, NAMES)
        rows = [(name, name.split("/")[0]) for name in NAMES]
        return open_source(write_manifest(tmp_path / "set.csv", ("path", "label"), *rows))


class TestParquetSource(FileSourceContract):
    kind = "manifest"

    @pytest.fixture
    def source(self, tmp_path):
        write_folder(tmp_path, NAMES)
        labels = [name.split("/")[0] for name in NAMES]
        return open_source(write_parquet(tmp_path / "set.parquet", path=NAMES, label=labels))
