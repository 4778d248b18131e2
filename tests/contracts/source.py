"""Contract of sources of images."""

import pickle
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from frostline.features.table import STAMP_BYTES, ImageSource
from frostline.splits import SPLITS


def _open_files() -> set[str]:
    return {file.name for file in Path("/proc/self/fd").iterdir() if file.exists()}


class ImageSourceContract:
    """Tests of a source of images; see `frostline.features.table.ImageSource`.

    A subclass defines two fixtures and three methods.

    Attributes:
        alone: Whether a change of one image leaves the stamps of the others as they are. It does not where all lie in
            one file, and then all are read again, which finds their bytes unchanged.
        sized: Whether the sizes of the images are known before they are read. Otherwise they are 0.
        other: Bytes of an image that `write` can write. They need not be those of an image if the source takes any.

    Fixtures:
        files: Bytes of five or more different images by id, in any order.
        source: A source of these images, which the tests may change.

    Example:
        >>> class TestZipSource(ImageSourceContract):
        ...     @pytest.fixture
        ...     def files(self):
        ...         return {f"cat/{n}.png": encode(photo(12, 10, seed=n)) for n in range(5)}
        ...
        ...     @pytest.fixture
        ...     def source(self, files, tmp_path):
        ...         return ZipSource(write_zip(tmp_path / "set.zip", files))
        ...
        ...     def reopened(self, source):
        ...         return ZipSource(source.root)
        ...
        ...     def write(self, source, row, data): ...
        ...
        ...     def remove(self, source, row): ...
    """

    alone: ClassVar[bool] = True
    sized: ClassVar[bool] = True
    other: ClassVar[bytes] = b"another picture altogether"

    def reopened(self, source: ImageSource) -> ImageSource:
        """Return a source of the same images, listed again."""
        raise NotImplementedError

    def write(self, source: ImageSource, row: int, data: bytes) -> None:
        """Replace the bytes of one image behind the source's back."""
        raise NotImplementedError

    def remove(self, source: ImageSource, row: int) -> None:
        """Remove one image that the source has listed."""
        raise NotImplementedError

    def test_table_has_the_promised_shapes_and_types(
        self, source: ImageSource, files: Mapping[str, bytes]
    ) -> None:
        """Check the shapes and types of `ImageTable`."""
        table, n = source.table, len(files)
        assert len(table) == n
        assert table.ids.shape == table.labels.shape == table.split.shape == table.groups.shape == (n,)
        assert (table.ids.dtype.kind, table.groups.dtype.kind) == ("S", "S")
        assert table.labels.dtype == np.int64
        assert table.split.dtype == table.stamps.dtype == np.uint8
        assert table.stamps.shape == (n, STAMP_BYTES)
        assert all(isinstance(name, str) for name in table.classes)
        assert isinstance(source.root, str)

    def test_ids_are_unique_utf8_and_sorted_by_their_bytes(
        self, source: ImageSource, files: Mapping[str, bytes]
    ) -> None:
        """Check the ids and the order of the rows."""
        ids = [bytes(id_) for id_ in source.table.ids]
        assert ids == sorted(set(ids)) == sorted(name.encode() for name in files)

    def test_labels_and_splits_have_names(self, source: ImageSource) -> None:
        """Check that every label is an index into unique classes or -1, and every split a known code."""
        table = source.table
        assert table.classes == tuple(dict.fromkeys(table.classes))
        assert -1 <= table.labels.min() <= table.labels.max() < len(table.classes)
        assert table.split.max() < len(SPLITS)

    def test_reads_the_bytes_of_each_image_with_the_stamp_that_was_listed(
        self, source: ImageSource, files: Mapping[str, bytes]
    ) -> None:
        """Check what `read` returns for every row."""
        for row, id_ in enumerate(source.table.ids):
            data, stamp = source.read(row)
            assert data == files[id_.decode()]
            assert stamp == source.table.stamps[row].tobytes()

    def test_reads_in_several_threads(self, source: ImageSource, files: Mapping[str, bytes]) -> None:
        """Check that `read` is thread-safe."""
        rows = list(range(len(files))) * 8
        with ThreadPoolExecutor(4) as pool:
            found = [data for data, _ in pool.map(source.read, rows)]
        assert found == [files[source.table.ids[row].decode()] for row in rows]

    def test_stamps_of_unchanged_images_are_equal(self, source: ImageSource) -> None:
        """Check that ids and stamps stay the same if the images are listed again."""
        again = self.reopened(source)
        np.testing.assert_array_equal(again.table.ids, source.table.ids)
        np.testing.assert_array_equal(again.table.stamps, source.table.stamps)

    def test_stamp_of_a_changed_image_is_another(self, source: ImageSource) -> None:
        """Check that a changed image gets another stamp at once in `read` and in a new listing."""
        listed = source.table.stamps.copy()
        self.write(source, 1, self.other)
        data, stamp = source.read(1)
        again = self.reopened(source)
        assert data == self.other
        assert stamp == again.table.stamps[1].tobytes() != listed[1].tobytes()
        changed = (again.table.stamps != listed).any(axis=1)
        assert not self.alone or changed.tolist() == [row == 1 for row in range(len(listed))]

    def test_stamps_begin_with_the_sizes_of_the_images(
        self, source: ImageSource, files: Mapping[str, bytes]
    ) -> None:
        """Check that the first 8 bytes of a stamp are the size, by which renamed images are searched."""
        sizes = source.table.stamps.view("<i8")[:, 0]
        if not self.sized:
            assert sizes.tolist() == [0] * len(files)
            return
        assert sizes.tolist() == [len(files[id_.decode()]) for id_ in source.table.ids]

    def test_stamps_are_conclusive_for_images_that_were_not_changed_lately(
        self, source: ImageSource, files: Mapping[str, bytes]
    ) -> None:
        """Check that no image stays in doubt forever, because those in doubt are read again."""
        tomorrow = time.time_ns() + 24 * 3600 * 10**9
        assert source.unsettled(tomorrow).tolist() == [False] * len(files)

    def test_an_image_that_is_gone_is_an_os_error(self, source: ImageSource) -> None:
        """Check that a missing image raises OSError with a message, and the others can still be read."""
        self.remove(source, 2)
        with pytest.raises(OSError, match=r"."):
            source.read(2)
        assert source.read(1)[0]

    def test_names_shown_to_users_tell_images_apart(self, source: ImageSource) -> None:
        """Check that the names in messages differ and end with the id."""
        ids = [id_.decode() for id_ in source.table.ids]
        names = [source.display_name(row) for row in range(len(ids))]
        assert len(set(names)) == len(names)
        assert all(name.endswith(id_) for name, id_ in zip(names, ids, strict=True))

    def test_path_of_an_image_is_that_of_a_file_with_its_bytes_or_none(
        self, source: ImageSource, files: Mapping[str, bytes]
    ) -> None:
        """Check that a path, if there is one, leads to the image."""
        for row, id_ in enumerate(source.table.ids):
            path = source.path(row)
            assert path is None or path.read_bytes() == files[id_.decode()]

    def test_table_of_some_rows_has_the_columns_of_these(self, source: ImageSource) -> None:
        """Check that a part of the table keeps its classes and its rows."""
        some = source.table.take(np.array([0, 3]))
        assert some.ids.tolist() == source.table.ids[[0, 3]].tolist()
        assert some.classes == source.table.classes
        np.testing.assert_array_equal(some.stamps, source.table.stamps[[0, 3]])

    def test_pickles_for_worker_processes(self, source: ImageSource) -> None:
        """Check that a copy of the source reads the same images."""
        copy: ImageSource = pickle.loads(pickle.dumps(source))  # noqa: S301  # made here
        np.testing.assert_array_equal(copy.table.stamps, source.table.stamps)
        assert copy.root == source.root
        assert copy.read(3) == source.read(3)

    @pytest.mark.skipif(sys.platform != "linux", reason="counts the open files of a process")
    def test_closing_releases_every_file_and_can_be_repeated(self, source: ImageSource) -> None:
        """Check that a closed source leaves no file open."""
        before = _open_files()
        another = self.reopened(source)
        another.read(0)
        another.close()
        another.close()
        assert _open_files() <= before
