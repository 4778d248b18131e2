"""What holds for every source whose images are files."""

import os
from pathlib import Path

import pytest

from frostline.features.sources import open_source
from frostline.features.sources.files import TICK_NS, stamps_of
from frostline.features.sources.stats import UNREADABLE
from frostline.features.table import NO_STAMP
from frostline.testing import ImageSourceKindContract
from tests.helpers.images import write_folder
from tests.helpers.tables import NAMES, columns, write_manifest, write_parquet

LONG_AGO = 1_500_000_000_000_000_000


def wait_for_the_clock(folder):
    """Wait until the file system's clock has ticked, by which it stamps a change."""
    probe = folder / "probe.txt"
    probe.touch()
    first = probe.stat().st_ctime_ns
    while probe.stat().st_ctime_ns == first:
        probe.touch()
    probe.unlink()


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

    def test_files_of_equal_size_and_time_that_change_places_have_other_stamps(self, source):
        one, other = (Path(source.display_name(row)) for row in (0, 1))
        for path in (one, other):
            path.write_bytes(path.name.encode().ljust(20))
            os.utime(path, ns=(LONG_AGO, LONG_AGO))
        before = self.reopened(source).table.stamps
        spare = one.with_suffix(".spare")
        one.rename(spare)
        other.rename(one)
        spare.rename(other)
        after = self.reopened(source).table.stamps
        assert (after != before).any(axis=1).tolist() == [True, True, False, False, False]

    def test_a_file_rewritten_with_its_size_and_time_kept_has_another_stamp(self, source):
        path = Path(source.display_name(0))
        before, status = source.table.stamps[0].tobytes(), path.stat()
        wait_for_the_clock(path.parent)
        path.write_bytes(path.read_bytes()[::-1])
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert self.reopened(source).table.stamps[0].tobytes() != before

    def test_stamp_depends_on_all_that_the_system_tells_of_a_file(self):
        fields = [7, LONG_AGO, LONG_AGO, 3]
        for column in range(4):
            changed = fields.copy()
            changed[column] += 1
            one, other = stamps_of([tuple(fields), tuple(changed)])
            assert (one != other).any()
        assert stamps_of([UNREADABLE]).tobytes() == NO_STAMP

    def test_a_file_changed_up_to_two_seconds_before_is_unsettled(self, source):
        os.utime(source.display_name(0), ns=(LONG_AGO, LONG_AGO))
        again = self.reopened(source)
        status = [Path(again.display_name(row)).stat() for row in range(len(NAMES))]
        assert again.changed.tolist() == [max(each.st_mtime_ns, each.st_ctime_ns) for each in status]
        first = int(again.changed.min())
        assert again.unsettled(first + TICK_NS).tolist() == (again.changed > first).tolist()
        assert again.unsettled(first).tolist() == [True] * 5
        assert again.unsettled(first + 10**13).tolist() == [False] * 5


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
