"""Contract of importers, which read vectors that other programs computed."""

import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from frostline.errors import FrostlineError
from frostline.features.cache import FeatureCache
from frostline.features.cache.imported import vectors as blocks
from frostline.features.errors import VectorsError
from frostline.pipeline import ImportResult, import_vectors
from frostline.pipeline.importing.importers import IMPORTERS, Importer

_IDS = (
    "=1+1.jpg", "-2", "0007", "1e5", "NaN", "a,b.jpg", 'a"b.jpg', "a\tb", "a/b.c.d/e.jpg", "back\\slash", "Größe é.png",
    "猫/😀.jpg", "עברית", "<b>&amp;</b>", "x" * 300,
)  # fmt: skip
_CLASSES = ("=SUM(A1)", "Ü 猫", 'with "quotes", and commas', "zebra")
_DIM = 6


class ImporterContract:
    """Tests of an importer; see `frostline.pipeline.importing.importers.Importer`.

    A subclass defines `write` with a writer of the format that is not its reader.

    Attributes:
        name: Name of the format in the registry.
        tells: What a file of the format can tell of its rows: ``id``, ``label``, both or nothing.
        checked: Whether a file that lacks its end is known to be incomplete.

    Example:
        >>> class TestTable(ImporterContract):
        ...     name = "table"
        ...
        ...     def write(self, path, vectors, ids, labels):
        ...         path.write_bytes(...)
    """

    name: ClassVar[str]
    tells: ClassVar[frozenset[str]] = frozenset({"id", "label"})
    checked: ClassVar[bool] = True

    def write(
        self, path: Path, vectors: NDArray[np.float32], ids: Sequence[str], labels: Sequence[str]
    ) -> None:
        """Write a file.

        Args:
            path: The file, which does not exist.
            vectors: (n, d) numbers.
            ids: Names of the rows, under the name ``id`` or ``ids``; not written unless `tells` has it.
            labels: Names of the classes, under the name ``label`` or ``labels``; the same.
        """
        raise NotImplementedError

    def written(self, folder: Path) -> tuple[Path, NDArray[np.float32]]:
        """Write a file of 40 random vectors, and return its path and the vectors."""
        vectors = np.random.default_rng(0).standard_normal((40, _DIM)).astype(np.float32)
        path = folder / f"vectors{IMPORTERS[self.name].suffixes[0]}"
        self.write(path, vectors, self.ids(40), self.labels(40))
        return path, vectors

    @staticmethod
    def ids(rows: int) -> list[str]:
        """Return names of rows in an order that is not sorted."""
        names = [*_IDS, *(f"class/{number:05d}.jpg" for number in range(rows - len(_IDS)))][:rows]
        return [names[row] for row in np.random.default_rng(1).permutation(rows)]

    @staticmethod
    def labels(rows: int) -> list[str]:
        """Return the name of the class of each row."""
        return [_CLASSES[label] for label in np.random.default_rng(2).integers(0, len(_CLASSES), rows)]

    def imported(self, path: Path, **options: Any) -> ImportResult:
        """Import a file as ``out.h5`` beside it."""
        return import_vectors(path, out=path.with_name("out.h5"), **{"name": "contract", **options})

    def test_name_has_an_implementation(self) -> None:
        """Check that the registry has the format, and that a file can be told by its name."""
        assert self.name in list(IMPORTERS)
        importer = IMPORTERS[self.name]
        assert isinstance(importer, Importer)
        assert importer.summary.strip()
        assert importer.suffixes
        assert all(each.startswith(".") and each == each.lower() for each in importer.suffixes)

    def test_rows_are_read_as_they_were_written(self, tmp_path: Path) -> None:
        """Check the vectors, and names of all kinds where the format holds names."""
        path, vectors = self.written(tmp_path)
        result = self.imported(path)
        assert (result.rows, result.written, result.failed) == (len(vectors), len(vectors), 0)
        cache = FeatureCache.open(result.cache)
        names, labels = self.ids(len(vectors)), self.labels(len(vectors))
        order = [names.index(name) for name in cache.ids] if "id" in self.tells else [*range(len(vectors))]
        assert sorted(order) == [*range(len(vectors))]
        assert np.array_equal(cache.features(), vectors[order])
        if "label" in self.tells:
            assert [cache.classes[code] for code in cache.labels] == [labels[row] for row in order]
        else:
            assert (cache.labels == -1).all()
        assert {*result.columns} >= self.tells
        assert cache.verify().ok

    def test_importing_again_changes_nothing(self, tmp_path: Path) -> None:
        """Check that the same file gives the same key, and that nothing is written twice."""
        path, _ = self.written(tmp_path)
        first = self.imported(path)
        before = first.cache.read_bytes()
        again = self.imported(path)
        assert again.unchanged
        assert again.key == first.key
        assert first.cache.read_bytes() == before

    def test_a_row_that_is_not_finite_fails_with_its_reason(self, tmp_path: Path) -> None:
        """Check that other rows are kept, and that the share of such rows is limited."""
        vectors = np.ones((10, _DIM), np.float32)
        vectors[3, 2] = np.inf
        path = tmp_path / f"vectors{IMPORTERS[self.name].suffixes[0]}"
        names = [f"row{number}" for number in range(10)]
        self.write(path, vectors, names, self.labels(10))
        with pytest.raises(VectorsError, match="1 of 10 rows have no usable vector"):
            self.imported(path)
        assert not path.with_name("out.h5").exists()
        result = self.imported(path, max_bad=0.5)
        assert [*result.errors.values()] == [f"embedding: 1 of {_DIM} values are not finite"]
        assert FeatureCache.open(result.cache).ok.sum() == 9

    def test_a_name_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        """Check an option that chooses a column or array of ids."""
        path, _ = self.written(tmp_path)
        with pytest.raises(VectorsError, match="it has no 'nobody', and there is no such file"):
            self.imported(path, ids="nobody")
        assert not path.with_name("out.h5").exists()

    @pytest.mark.parametrize("share", [0, 0.3, 0.6, 0.99])
    def test_a_file_that_lacks_its_end_is_refused(self, tmp_path: Path, share: float) -> None:
        """Check that the message names the file, and that nothing is left; texts may still be valid."""
        path, vectors = self.written(tmp_path)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])
        try:
            result = self.imported(path)
        except (FrostlineError, OSError) as error:
            assert path.name in str(error)  # noqa: PT017  # a text that is cut may be valid
        else:
            assert not self.checked
            assert result.rows <= len(vectors)
            result.cache.unlink()
        assert sorted(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("data", [b"not of this format", bytes(range(256)) * 16, b"{" * 4096])
    def test_a_file_of_another_format_is_refused(self, tmp_path: Path, data: bytes) -> None:
        """Check that the message names the file, and that nothing is left."""
        path = tmp_path / f"vectors{IMPORTERS[self.name].suffixes[0]}"
        path.write_bytes(data)
        with pytest.raises(VectorsError, match=path.name):
            self.imported(path)
        assert sorted(tmp_path.iterdir()) == [path]

    def test_the_memory_does_not_grow_with_the_rows(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Check what Python and NumPy allocate: four times the rows need less than half of their vectors more."""
        monkeypatch.setattr(blocks, "BLOCK_BYTES", 1 << 16)
        dim, few, many = 768, 512, 2048
        peaks = []
        for number, count in enumerate((few, few, many)):  # the first imports what is needed
            folder = tmp_path / str(number)
            folder.mkdir()
            path = folder / f"vectors{IMPORTERS[self.name].suffixes[0]}"
            vectors = np.random.default_rng(0).standard_normal((count, dim)).astype(np.float32)
            self.write(path, vectors, [f"{row:05d}" for row in range(count)], self.labels(count))
            tracemalloc.start()
            self.imported(path)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert peaks[2] - peaks[1] < (many - few) * dim * 4 / 2
