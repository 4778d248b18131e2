"""The contract of image sources, for each kind of store."""

import time

import fsspec
import pytest

from frostline.features.sources import open_source
from frostline.features.sources.remote.remote import REMOTE
from frostline.features.sources.remote.stores.connections import fetch
from frostline.testing import ImageSourceKindContract
from tests.helpers.needs import needs_moto, needs_remote


class OfStore(ImageSourceKindContract):
    kind = "remote"

    def test_images_are_fetched_by_their_urls_alone(self, source, files):
        for id_ in source.table.ids.tolist():
            assert fetch(REMOTE.locate(source.root, id_.decode()), source.root) == files[id_.decode()]


@needs_moto
class TestBucket(OfStore):
    @pytest.fixture
    def source(self, s3):
        self.server = s3
        with_close = open_source(f"s3://{s3.bucket}/photos")
        yield with_close
        with_close.close()

    def test_closing_releases_every_file_and_can_be_repeated(self, source):
        source.read(0)
        store = source._connections._stores["s3"]
        session = store._signed._session
        assert not session.closed
        source.close()
        source.close()
        assert session.closed  # the sockets of the server, which is in this process, close a moment later
        assert store._client is None

    def write(self, source, row, data):
        self.server.write(self.server.bucket, f"photos/{source.table.ids[row].decode()}", data)

    def remove(self, source, row):
        self.server.remove(self.server.bucket, f"photos/{source.table.ids[row].decode()}")


@needs_remote
class TestWeb(OfStore):
    @pytest.fixture
    def files(self, files):
        return {f"photos/{name}": data for name, data in files.items()}

    @pytest.fixture
    def web(self, files):
        from tests.features.sources.remote.servers import WebFiles

        rows = "".join(f"{name},{name.split('/')[1]}\n" for name in files)
        with WebFiles({**files, "set.csv": f"path,label\n{rows}".encode()}).serving() as site:
            yield site

    @pytest.fixture
    def source(self, web):
        self.web = web
        opened = open_source(f"{web.url}/set.csv")
        yield opened
        opened.close()

    def test_closing_releases_every_file_and_can_be_repeated(self, source):
        source.read(0)
        assert self.web.open
        source.close()
        source.close()
        for _ in range(1000):  # the server, which is in this process, learns of it a moment later
            if self.web.open:
                time.sleep(0.01)
        assert not self.web.open

    def write(self, source, row, data):
        self.web.write(source.table.ids[row].decode(), data)

    def remove(self, source, row):
        del self.web.files[source.table.ids[row].decode()]


@needs_remote
class TestMemory(OfStore):
    @pytest.fixture
    def source(self, files):
        self.store = fsspec.filesystem("memory")
        self.store.store.clear()
        for name, data in files.items():
            self.store.pipe_file(f"/set/{name}", data)
        yield open_source("memory://set")
        self.store.store.clear()

    def write(self, source, row, data):
        self.store.pipe_file(f"/set/{source.table.ids[row].decode()}", data)

    def remove(self, source, row):
        self.store.rm_file(f"/set/{source.table.ids[row].decode()}")
