"""Servers, and sources that wait for nothing."""

import pytest

from frostline.features.sources.remote.stores import retries
from frostline.testing.images import encode, photo
from tests.features.sources.remote.servers import Buckets, WebFiles, buckets


@pytest.fixture(autouse=True)
def _no_delay(monkeypatch):
    monkeypatch.setattr(retries, "FIRST_DELAY", 0.001)
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def files():
    """Bytes of six images by path, in two classes."""
    return {f"{kind}/{n}.png": encode(photo(12, 10, seed=n)) for n, kind in enumerate(["cat", "dog"] * 3)}


@pytest.fixture
def web(files):
    """A web server of the images, below ``photos/``, and of a manifest of them."""
    rows = "".join(f"photos/{name},{name.split('/')[0]}\n" for name in files)
    held = {f"photos/{name}": data for name, data in files.items()}
    with WebFiles({**held, "set.csv": f"path,label\n{rows}".encode()}).serving() as site:
        yield site


@pytest.fixture(scope="session")
def bucket_server():
    with buckets() as server:
        yield server


@pytest.fixture
def s3(bucket_server, monkeypatch, request, files):
    """A bucket server, with an empty bucket of a name of its own."""
    for name, value in Buckets.environment(bucket_server.url).items():
        monkeypatch.setenv(name, value)
    bucket_server.bucket = f"b-{abs(hash(request.node.nodeid))}"
    bucket_server.fill(bucket_server.bucket, {f"photos/{name}": data for name, data in files.items()})
    return bucket_server
