"""Every format of vectors passes the contract of importers."""

import pytest

from frostline.pipeline.importing.importers import IMPORTERS
from frostline.testing import ImporterContract
from tests.helpers.contracts import covered
from tests.helpers.needs import needs_pyarrow
from tests.pipeline.importing import files


class TestNpy(ImporterContract):
    name = "npy"
    tells = frozenset()

    def write(self, path, vectors, ids, labels):  # noqa: ARG002  # an array has no names
        path.write_bytes(files.npy(vectors))


class TestNpz(ImporterContract):
    name = "npz"

    def write(self, path, vectors, ids, labels):
        path.write_bytes(files.npz(vectors, ids, labels))


class TestHdf5(ImporterContract):
    name = "hdf5"

    def write(self, path, vectors, ids, labels):
        path.write_bytes(files.hdf5(vectors, ids, labels))


class TestSafetensors(ImporterContract):
    name = "safetensors"

    def write(self, path, vectors, ids, labels):
        path.write_bytes(files.safetensors(vectors, ids, labels))


class TestTorch(ImporterContract):
    name = "torch"

    def write(self, path, vectors, ids, labels):
        path.write_bytes(files.pytorch(vectors, ids, labels))


@needs_pyarrow
class TestParquet(ImporterContract):
    name = "parquet"

    def write(self, path, vectors, ids, labels):
        path.write_bytes(files.parquet(vectors, ids, labels))


@needs_pyarrow
class TestArrow(ImporterContract):
    name = "arrow"

    def write(self, path, vectors, ids, labels):
        path.write_bytes(files.arrow(vectors, ids, labels))


class TestCsv(ImporterContract):
    name = "csv"
    checked = False

    def write(self, path, vectors, ids, labels):
        path.write_bytes(files.text(vectors, ids, labels))

    @pytest.mark.long  # Python's numbers are counted one by one
    def test_the_memory_does_not_grow_with_the_rows(self, tmp_path, monkeypatch):
        super().test_the_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch)


class TestJsonLines(ImporterContract):
    name = "json-lines"
    checked = False

    def write(self, path, vectors, ids, labels):
        path.write_bytes(files.json_lines(vectors, ids, labels))

    @pytest.mark.long  # Python's numbers are counted one by one
    def test_the_memory_does_not_grow_with_the_rows(self, tmp_path, monkeypatch):
        super().test_the_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch)


def test_every_built_in_importer_is_covered():
    assert covered(globals(), ImporterContract, "name") == {*IMPORTERS.builtin}
