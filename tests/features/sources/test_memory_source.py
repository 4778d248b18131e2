"""A source without files, and some rows of a source, meet the contract of sources."""

import pytest

from frostline.features.table import SourceRows
from frostline.testing import ImageSourceContract, encode, photo
from tests.helpers.sources import DigestSource


def pictures(count):
    return {f"{'ab'[n % 2]}/{n:04d}.png": encode(photo(12, 10, seed=n)) for n in range(count)}


class TestDigestSource(ImageSourceContract):
    @pytest.fixture
    def files(self):
        return pictures(6)

    @pytest.fixture
    def source(self, files):
        return DigestSource(dict(files))

    def reopened(self, source):
        return DigestSource(source.files)

    def write(self, source, row, data):
        source.files[source.table.ids[row].decode()] = data

    def remove(self, source, row):
        del source.files[source.table.ids[row].decode()]


class TestSourceRows(TestDigestSource):
    """Some rows of a source are a source."""

    @pytest.fixture
    def whole(self):
        return DigestSource(pictures(13))

    @pytest.fixture
    def files(self, whole):
        return {id_.decode(): whole.read(row)[0] for row, id_ in enumerate(whole.table.ids) if row % 2}

    @pytest.fixture
    def source(self, whole):
        return SourceRows(whole, slice(1, None, 2))

    def reopened(self, source):
        return SourceRows(DigestSource(source._source.files), slice(1, None, 2))

    def write(self, source, row, data):
        super().write(source._source, 1 + 2 * row, data)

    def remove(self, source, row):
        super().remove(source._source, 1 + 2 * row)
