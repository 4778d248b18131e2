"""The folder that keeps bytes of remote files."""

import os
import pickle
import threading

import numpy as np
import pytest

from frostline.features.errors import SourceError
from frostline.features.sources import open_source
from frostline.features.sources.remote.access import Access
from frostline.features.sources.remote.byte_cache import ByteCache
from frostline.features.sources.remote.stores.store import UNKNOWN, Found
from tests.helpers.needs import needs_remote
from tests.helpers.sources import write_tar

URL = "https://host/a.png"
FOUND = Found(5, 77, 0)


def size_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")


@pytest.fixture
def cache(tmp_path):
    return ByteCache(tmp_path / "bytes", 100_000)


def test_bytes_are_found_by_url_and_version(cache):
    cache.write(URL, FOUND, b"hello")
    assert cache.read(URL, FOUND) == b"hello"
    assert cache.holds(URL, FOUND)
    for url, found in [(URL + "x", FOUND), (URL, Found(5, 78, 0)), (URL, Found(6, 77, 0))]:
        assert cache.read(url, found) is None
        assert not cache.holds(url, found)
    assert pickle.loads(pickle.dumps(cache)).read(URL, FOUND) == b"hello"  # noqa: S301  # made here


def test_a_signed_url_finds_the_bytes_of_an_earlier_signature(cache):
    cache.write(URL + "?X-Amz-Signature=1", FOUND, b"hello")
    assert cache.read(URL + "?X-Amz-Signature=2", FOUND) == b"hello"


def test_what_has_no_version_is_not_kept(cache):
    cache.write(URL, Found(5, UNKNOWN, 0), b"hello")
    assert cache.read(URL, Found(5, UNKNOWN, 0)) is None
    assert size_of(cache.folder) == 0


def test_damaged_bytes_are_not_returned_and_deleted(cache):
    cache.write(URL, FOUND, b"hello")
    (path,) = (path for path in cache.folder.rglob("*") if len(path.name) == 64)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert cache.read(URL, FOUND) is None
    assert not path.exists()


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_are_not_followed(cache, tmp_path):
    cache.write(URL, FOUND, b"hello")
    (path,) = (path for path in cache.folder.rglob("*") if len(path.name) == 64)
    other = tmp_path / "other"
    path.rename(other)
    path.symlink_to(other)
    assert cache.read(URL, FOUND) is None
    cache.write(URL, FOUND, b"hello")
    assert not path.is_symlink()
    (cache.folder / "ab").symlink_to(tmp_path)
    kept = tmp_path / ("0" * 64)
    kept.write_bytes(b"not in the cache" * 10_000)
    for number in range(60):
        cache.write(f"{URL}{number}", FOUND, bytes(5_000))
    assert kept.exists()
    assert other.exists()


def test_the_size_is_bounded_and_what_was_used_last_stays(cache):
    for number in range(100):
        cache.write(f"{URL}{number}", Found(5_000, number + 1, 0), bytes(5_000))
        cache.read(f"{URL}0", Found(5_000, 1, 0))
        assert size_of(cache.folder) <= 100_000
    assert cache.read(f"{URL}0", Found(5_000, 1, 0)) == bytes(5_000)
    assert cache.read(f"{URL}99", Found(5_000, 100, 0)) == bytes(5_000)
    assert cache.read(f"{URL}1", Found(5_000, 2, 0)) is None
    assert size_of(cache.folder) > 60_000


def test_several_writers_share_the_folder(cache):
    others = [ByteCache(cache.folder, 100_000) for _ in range(4)]

    def fill(number, mine):
        for file in range(40):
            mine.write(f"{URL}{file}", Found(3_000, file + 1, 0), bytes([file]) * 3_000)
            found = mine.read(f"{URL}{file}", Found(3_000, file + 1, 0))
            assert found in (None, bytes([file]) * 3_000), number

    threads = [threading.Thread(target=fill, args=pair) for pair in enumerate(others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert size_of(cache.folder) <= 100_000 * (1 + len(others) / 16)
    assert not list(cache.folder.rglob("*.partial"))


def test_whole_files_stay_while_they_are_used(cache):
    def save(file):
        file.write(bytes(40_000))

    with cache.whole(URL, Found(40_000, 5, 0), save) as path:
        for number in range(60):
            cache.write(f"{URL}{number}", Found(5_000, number + 1, 0), bytes(5_000))
        assert path.stat().st_size == 40_000
    for number in range(100, 160):
        cache.write(f"{URL}{number}", Found(5_000, number + 1, 0), bytes(5_000))
    assert not path.exists()
    with (
        pytest.raises(SourceError, match="raise --byte-cache-size"),
        cache.whole(URL, Found(200_000, 5, 0), save),
    ):
        pass


def test_a_folder_of_other_files_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(SourceError, match=r"--byte-cache: .* holds other files"):
        ByteCache(tmp_path, 1000)
    with pytest.raises(SourceError, match=r"--byte-cache: .*mine.txt"):
        ByteCache(tmp_path / "mine.txt", 1000)


@needs_remote
class TestSource:
    def test_images_are_downloaded_once(self, web, files, tmp_path):
        access = Access(byte_cache=tmp_path / "bytes")
        for first in (True, False):
            source = open_source(f"{web.url}/set.csv", access=access)
            web.requests.clear()
            with source.ahead(np.arange(6)) as reader:
                for row in range(6):
                    data, stamp = reader.read(row)
                    assert data == files[source.table.ids[row].decode().removeprefix("photos/")]
                    assert stamp == source.table.stamps[row].tobytes()
            assert bool(web.paths()) == first
            source.close()
        web.write("photos/cat/0.png", b"another")
        changed = open_source(f"{web.url}/set.csv", access=access)
        assert changed.read(0)[0] == b"another"
        changed.close()

    def test_archives_are_downloaded_once(self, web, files, tmp_path):
        web.write("photos.tar", write_tar(tmp_path / "photos.tar", files).read_bytes())
        access = Access(byte_cache=tmp_path / "bytes")
        for first in (True, False):
            web.requests.clear()
            source = open_source(f"{web.url}/photos.tar", access=access)
            assert source.read(0)[0] == files["cat/0.png"]
            assert bool(web.paths()) == first
            source.close()
