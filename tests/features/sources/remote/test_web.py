"""Web servers, also ones that fail."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from frostline.features.errors import SourceError
from frostline.features.images.batches import load_batches
from frostline.features.sources import open_paths, open_source
from frostline.features.sources.remote import ahead
from frostline.features.sources.remote.access import Access
from frostline.features.sources.remote.stores import http, retries
from frostline.features.spec import Transform
from frostline.features.table import NO_STAMP
from tests.helpers.needs import needs_remote
from tests.helpers.sources import write_tar

pytestmark = needs_remote

FIRST = "photos/cat/0.png"


@pytest.fixture
def told():
    return []


@pytest.fixture
def source(web, told):
    opened = open_source(f"{web.url}/set.csv", access=Access(tell=told.append))
    web.requests.clear()
    yield opened
    opened.close()


@pytest.mark.parametrize("fault", [503, 429, 500, 408, "drop", "cut"])
def test_what_fails_for_a_moment_is_tried_again_and_told_once(web, source, files, told, fault):
    web.faults = {FIRST: [fault] * 2, "photos/cat/2.png": [fault]}
    for row in range(len(files)):
        assert source.read(row)[0] == files[source.table.ids[row].decode().removeprefix("photos/")]
    assert web.paths().count(f"/{FIRST}") == 3
    assert len(told) == 1
    assert told[0].startswith("127.0.0.1: ")
    assert "up to 5 attempts each" in told[0]


def test_repetitions_are_bounded(web, source):
    web.faults = {FIRST: [503] * 100}
    with pytest.raises(OSError, match=r"HTTP 503 .*\(5 attempts\)"):
        source.read(0)
    assert web.paths() == [f"/{FIRST}"] * retries.ATTEMPTS


def test_a_body_that_always_ends_early_is_an_error(web, source):
    web.faults = {FIRST: ["cut"] * 100}
    with pytest.raises(OSError, match="the connection ended before the file was complete"):
        source.read(0)


@pytest.mark.parametrize("status", [404, 410, 403, 401])
def test_what_fails_for_good_is_not_tried_again(web, source, status):
    web.faults = {FIRST: [status]}
    with pytest.raises(OSError, match=f"HTTP {status}"):
        source.read(0)
    assert web.paths() == [f"/{FIRST}"]


def test_bytes_beyond_the_stated_size_are_not_read(web, source, files):
    web.faults = {FIRST: ["more"]}
    assert source.read(0)[0] == files["cat/0.png"]


def test_a_server_that_is_slow_is_not_waited_for(web, source, monkeypatch):
    monkeypatch.setattr(http, "SILENT_SECONDS", 0.05)
    web.faults = {FIRST: ["wait"] * 5}
    with pytest.raises(OSError, match=r"the server did not answer in time \(5 attempts\)"):
        source.read(0)


def test_a_file_larger_than_any_image_is_not_read(web, source):
    connections = source._connections
    with pytest.raises(OSError, match="bytes; expected at most 100"):
        connections.get(f"{web.url}/{FIRST}", limit=100)


def test_a_server_that_is_not_there(web, told):
    site = web.url.rpartition(":")[0] + ":9"
    with pytest.raises(SourceError, match=r"m.csv: can't be read: the connection failed .*\(5 attempts\)"):
        open_source(f"{site}/m.csv", access=Access(tell=told.append))


def test_redirections_are_followed_but_not_to_files_or_into_networks(web, source, files):
    web.faults = {FIRST: [f"{web.url}/photos/cat/2.png"]}
    assert source.read(0)[0] == files["cat/2.png"]
    web.faults = {FIRST: ["file:///etc/passwd"]}
    with pytest.raises(OSError, match="which is not a web server's file"):
        source.read(0)
    port = web.url.rpartition(":")[2]
    for host, address in [("localhost", r"(127.0.0.1|::1)"), ("127.0.0.2", "127.0.0.2"), ("[::1]", "::1")]:
        web.faults = {FIRST: [f"http://{host}:{port}/photos/cat/2.png"]}
        with pytest.raises(OSError, match=f"has the address {address} inside a network"):
            source.read(0)
    web.faults = {FIRST: [f"{web.url}/{FIRST}"] * 20}
    with pytest.raises(OSError, match="redirects more than 10 times"):
        source.read(0)


def test_a_remote_manifest_names_no_file_here_and_no_server_inside_the_network(web):
    port = web.url.rpartition(":")[2]
    web.write("evil.csv", f"path\nhttp://localhost:{port}/{FIRST}\nphotos/dog/1.png\n".encode())
    source = open_source(f"{web.url}/evil.csv")
    assert source.table.stamps[:, 0].astype(bool).tolist() == [False, True]  # nothing is known of the first
    row = source.table.ids.tolist().index(f"http://localhost:{port}/{FIRST}".encode())
    with pytest.raises(OSError, match="inside a network"):
        source.read(row)
    source.close()
    for path in ("/etc/passwd", "../x.png", "file:///etc/passwd", "memory://x"):
        web.write("evil.csv", f"path\n{path}\n".encode())
        with pytest.raises(SourceError, match=r"evil\.csv, line 2"):
            open_source(f"{web.url}/evil.csv")


def test_a_manifest_here_may_list_urls_and_files(web, files, tmp_path):
    (tmp_path / "own.png").write_bytes(files["dog/1.png"])
    (tmp_path / "m.csv").write_text(
        f"path,label\n{web.url}/{FIRST},cat\nown.png,dog\n{web.url}/gone.png,cat\n"
    )
    source = open_source(tmp_path / "m.csv")
    rows = {id_.decode(): row for row, id_ in enumerate(source.table.ids)}
    assert source.read(rows["own.png"])[0] == files["dog/1.png"]
    assert source.path(rows["own.png"]) == tmp_path / "own.png"
    assert source.read(rows[f"{web.url}/{FIRST}"])[0] == files["cat/0.png"]
    assert source.path(rows[f"{web.url}/{FIRST}"]) is None
    assert source.table.stamps[rows[f"{web.url}/gone.png"]].tobytes() == NO_STAMP
    source.close()


def test_urls_that_differ_only_in_what_is_secret_are_refused(web, tmp_path):
    (tmp_path / "m.csv").write_text(f"path\n{web.url}/{FIRST}?token=a\n{web.url}/{FIRST}?token=b\n")
    with pytest.raises(SourceError, match="differs from line 2 only in what may be secret") as caught:
        open_source(tmp_path / "m.csv")
    assert "token=" not in str(caught.value)


def test_a_server_that_answers_no_head_requests_is_read_anew(web, files):
    web.heads = False
    source = open_source(f"{web.url}/set.csv")
    assert source.read(0)[0] == files["cat/0.png"]
    assert source.read(0)[1] != source.table.stamps[0].tobytes()
    source.close()


def test_without_a_tag_a_file_changed_moments_ago_is_in_doubt(web):
    web.tagged = False
    web.write(FIRST, web.files[FIRST])
    source = open_source(f"{web.url}/set.csv")
    now = web.changed[FIRST] * 1e9
    assert source.unsettled(int(now)).tolist() == [id_ == FIRST.encode() for id_ in source.table.ids]
    source.close()


def test_errors_of_a_source_name_its_place_without_secrets(web):
    url = f"{web.url}/none.csv?token=very-secret".replace("http://", "http://me:very-secret@")
    with pytest.raises(SourceError, match=r"none.csv: no such file on the server") as caught:
        open_source(url)
    assert "very-secret" not in str(caught.value)
    with pytest.raises(SourceError, match="a web server has no folders to list"):
        open_source(f"{web.url}/photos/")
    with pytest.raises(SourceError, match="is a single image; expected"):
        open_source(f"{web.url}/{FIRST}")


def test_a_manifest_of_missing_images_is_refused(web):
    web.write("gone.csv", b"path\na.png\nb.png\n")
    with pytest.raises(
        SourceError, match=r"none of its 2 files exists; .*gone.csv, line 2 points to .*a.png"
    ):
        open_source(f"{web.url}/gone.csv")


@pytest.mark.parametrize("suffix", ["tsv", "jsonl"])
def test_other_manifests(web, files, suffix):
    text = {
        "tsv": f"path\tlabel\n{FIRST}\tcat\n./photos//dog/1.png\tdog\n",
        "jsonl": f'{{"path": "{FIRST}", "label": "cat"}}\n{{"path": "photos/dog/1.png", "label": "dog"}}\n',
    }[suffix]
    web.write(f"m.{suffix}", text.encode())
    source = open_source(f"{web.url}/m.{suffix}?version=3")
    assert source.table.ids.tolist() == [b"photos/cat/0.png", b"photos/dog/1.png"]
    assert source.table.classes == ("cat", "dog")
    assert source.read(1)[0] == files["dog/1.png"]
    source.close()


def test_an_archive_is_copied_once_and_known_again(web, files, tmp_path):
    web.write("sets/photos.tar", write_tar(tmp_path / "photos.tar", files).read_bytes())
    source = open_source(f"{web.url}/sets/photos.tar")
    web.requests.clear()
    assert source.root == f"{web.url}/sets/photos.tar"
    assert [id_.decode() for id_ in source.table.ids] == sorted(files)
    for row, id_ in enumerate(source.table.ids):
        assert source.read(row)[0] == files[id_.decode()]
        assert source.read(row)[1] == source.table.stamps[row].tobytes()
        assert source.display_name(row) == f"{web.url}/sets/photos.tar/{id_.decode()}"
    assert not web.requests
    again = open_source(f"{web.url}/sets/photos.tar")
    np.testing.assert_array_equal(again.table.stamps, source.table.stamps)
    folder = again._copies.folder
    again.close()
    assert not Path(folder).exists()
    web.write(
        "sets/photos.tar", write_tar(tmp_path / "photos.tar", {**files, "new/1.png": b"1"}).read_bytes()
    )
    other = open_source(f"{web.url}/sets/photos.tar")
    assert (other.table.stamps[0] != source.table.stamps[0]).any()
    source.close()
    other.close()


def test_shards_have_the_ids_of_local_ones(web, files, tmp_path):
    names = ["train-000.tar", "train-001.tar"]
    for number, name in enumerate(names):
        half = dict(list(files.items())[number::2])
        web.write(f"x/{name}", write_tar(tmp_path / name, half).read_bytes())
    local = open_source(f"{tmp_path}/train-{{000..001}}.tar")
    remote = open_source(f"{web.url}/x/train-{{000..001}}.tar")
    assert remote.table.ids.tolist() == local.table.ids.tolist()
    assert remote.table.split.tolist() == local.table.split.tolist()
    assert remote.display_name(0).startswith(f"{web.url}/x/train-000.tar/")
    remote.close()
    with pytest.raises(
        SourceError, match=r"train-002.tar: no such file on the server; 1 of the 3 files are missing"
    ):
        open_source(f"{web.url}/x/train-{{000..002}}.tar")


def test_a_damaged_archive_is_named_by_its_url(web):
    web.write("bad.zip", b"nothing")
    with pytest.raises(SourceError, match=r"^http://127.0.0.1:\d+/bad.zip: not a readable zip archive"):
        open_source(f"{web.url}/bad.zip")


def test_options_that_do_not_apply_are_errors(web, tmp_path, files):
    with pytest.raises(SourceError, match=r"--split-folders: .*set.csv is a manifest"):
        open_source(f"{web.url}/set.csv", split_folders=["a=train"])
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(files["cat/0.png"])
    with pytest.raises(
        SourceError, match=r"--byte-cache: .* is an image folder, and this option is for URLs"
    ):
        open_source(tmp_path, access=Access(byte_cache=tmp_path / "c"))
    (tmp_path / "m.csv").write_text("path\na/1.png\n")
    with pytest.raises(SourceError, match=r"--byte-cache: .* names no image by a URL"):
        open_source(tmp_path / "m.csv", access=Access(byte_cache=tmp_path / "c"))


def test_images_named_one_by_one_keep_their_order(web, files, tmp_path):
    (tmp_path / "own.png").write_bytes(files["dog/1.png"])
    urls = [f"{web.url}/photos/dog/3.png", str(tmp_path / "own.png"), f"{web.url}/{FIRST}?token=abc"]
    source = open_paths(urls)
    assert [source.read(row)[0] for row in range(3)] == [
        files["dog/3.png"],
        files["dog/1.png"],
        files["cat/0.png"],
    ]
    assert [source.display_name(row) for row in range(3)] == [urls[0], urls[1], f"{web.url}/{FIRST}"]
    source.close()


class TestAhead:
    @pytest.fixture
    def transform(self):
        return Transform(8, "shortest", (8, 8), "bicubic", (0.5,) * 3, (0.5,) * 3)

    def test_batches_are_read_ahead_in_one_request_each(self, web, source, files, transform):
        rows = np.arange(len(files))
        batches = list(load_batches(source, rows, transform, batch_size=2, workers=1, block_rows=6))
        assert np.concatenate([batch.status for batch in batches]).tolist() == [1] * 6
        assert sorted(web.requests) == sorted(("GET", f"/{id_.decode()}") for id_ in source.table.ids)

    def test_the_number_and_the_bytes_are_bounded(self, monkeypatch):
        monkeypatch.setattr(ahead, "IMAGES", 4)
        monkeypatch.setattr(ahead, "BYTES", 250)
        begun = []

        class Reading:
            def cancel(self):
                begun.append("cancelled")

        def begin(row):
            begun.append(row)
            return Reading()

        reader = ahead.Ahead(range(10), lambda row: 100 if row < 5 else 10, begin)
        assert reader.take(0) is not None
        assert begun == [0, 1, 2]
        reader.take(1)
        reader.take(2)
        reader.take(3)
        assert begun == [0, 1, 2, 3, 4, 5, 6, 7]
        assert reader.take(99) is None
        reader.close()
        assert begun.count("cancelled") == 4

    def test_several_images_are_fetched_at_once(self, web, source, files):
        web.faults = {f"photos/{name}": ["wait"] for name in files}
        with source.ahead(np.arange(6)) as reader:
            assert reader.read(0)[0] == files["cat/0.png"]
        assert web.most > 2


def test_a_copy_in_another_thread_and_after_closing_still_reads(source):
    source.close()
    with ThreadPoolExecutor(2) as pool:
        assert len(list(pool.map(source.read, range(6)))) == 6
    assert threading.active_count() < 100


def test_a_fork_reads_over_connections_of_its_own(source, files):
    source.read(0)
    pid = os.fork()
    if not pid:
        os._exit(0 if source.read(1)[0] == files["cat/2.png"] else 1)
    assert os.waitpid(pid, 0)[1] == 0
