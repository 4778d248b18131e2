"""Every format of vectors passes the contract of importers."""

from typing import ClassVar

import pytest

from frostline.pipeline.importing.importers import IMPORTERS
from frostline.testing import ImporterContract
from tests.helpers.contracts import covered
from tests.helpers.needs import needs_pyarrow
from tests.pipeline.importing import files


class Written(ImporterContract):
    """Files whose content is that of a function."""

    name: ClassVar[str]
    content: ClassVar[staticmethod]

    def write(self, path, vectors, ids, labels):
        path.write_bytes(self.content(vectors, ids, labels))


class TestNpy(Written):
    name = "npy"
    tells = frozenset()
    content = staticmethod(lambda vectors, _ids, _labels: files.npy(vectors))


class TestNpz(Written):
    name = "npz"
    content = staticmethod(files.npz)


class TestHdf5(Written):
    name = "hdf5"
    content = staticmethod(files.hdf5)


class TestSafetensors(Written):
    name = "safetensors"
    content = staticmethod(files.safetensors)


class TestTorch(Written):
    name = "torch"
    content = staticmethod(files.pytorch)


@needs_pyarrow
class TestParquet(Written):
    name = "parquet"
    content = staticmethod(files.parquet)


@needs_pyarrow
class TestArrow(Written):
    name = "arrow"
    content = staticmethod(files.arrow)


class TestCsv(Written):
    name = "csv"
    checked = False
    content = staticmethod(files.text)

    @pytest.mark.long  # Python's numbers are counted one by one
    def test_the_memory_does_not_grow_with_the_rows(self, tmp_path, monkeypatch):
        super().test_the_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch)


class TestJsonLines(Written):
    name = "json-lines"
    checked = False
    content = staticmethod(files.json_lines)

    @pytest.mark.long  # Python's numbers are counted one by one
    def test_the_memory_does_not_grow_with_the_rows(self, tmp_path, monkeypatch):
        super().test_the_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch)


def test_every_built_in_importer_is_covered():
    assert covered({**globals(), "Written": None}, ImporterContract, "name") == {*IMPORTERS.builtin}
