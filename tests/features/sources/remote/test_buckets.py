"""Buckets: listing by the rules of folders, and what servers refuse."""

import re

import numpy as np
import pytest

from frostline.features.errors import SourceError
from frostline.features.sources import open_paths, open_source, summarise
from frostline.features.sources.remote import listed
from frostline.features.sources.remote.stores import http, signed
from frostline.features.sources.remote.stores import s3 as buckets
from tests.helpers.needs import needs_moto
from tests.helpers.sources import write_tar

pytestmark = needs_moto


@pytest.fixture
def opened():
    sources = []

    def open_(*arguments, **options):
        sources.append(open_source(*arguments, **options))
        return sources[-1]

    yield open_
    for source in sources:
        source.close()


def test_a_prefix_has_the_rules_of_a_folder(s3, files, opened, tmp_path):
    held = {
        **{f"{split}/{name}": data for split in ("train", "val") for name, data in files.items()},
        "train/cat/.hidden.png": b"1",
        "train/@eaDir/thumb.png": b"1",
        "train/cat/notes.txt": b"1",
        "train/cat/RAW.CR2": b"1",
        "train/bird/notes.txt": b"1",
        "train/empty/": b"",
    }
    for name, data in held.items():
        s3.write(s3.bucket, f"set/{name}", data)
        if not name.endswith("/"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(data)
    (tmp_path / "train/empty").mkdir()
    s3.write(s3.bucket, "set2/dog/other.png", b"1")  # its key begins alike
    local, remote = open_source(tmp_path), opened(f"s3://{s3.bucket}/set")
    for column in ("ids", "labels", "split", "groups"):
        np.testing.assert_array_equal(getattr(remote.table, column), getattr(local.table, column))
    assert remote.table.classes == local.table.classes
    assert remote.notes.skipped == local.notes.skipped
    assert remote.notes.split_folders == local.notes.split_folders
    assert remote.notes.remarks == local.notes.remarks
    assert summarise(remote).source == f"s3://{s3.bucket}/set/"


@pytest.mark.parametrize("quickly", [True, False])
def test_objects_are_read_by_signed_requests_or_by_botocore(s3, files, opened, monkeypatch, quickly):
    called = []
    monkeypatch.setattr(signed, "_PLAIN", re.compile(".*" if quickly else "never"))
    monkeypatch.setattr(signed, "read_within", lambda *given: called.append(1) or http.read_within(*given))
    s3.write(s3.bucket, "photos/cat/a b#?%41&+~ü.png", b"odd")
    source = opened(f"s3://{s3.bucket}/photos/")
    for row, id_ in enumerate(source.table.ids):
        data, stamp = source.read(row)
        assert data == files.get(id_.decode(), b"odd")
        assert stamp == source.table.stamps[row].tobytes()
    s3.remove(s3.bucket, "photos/cat/0.png")
    with pytest.raises(OSError, match="HTTP 404 NoSuchKey"):
        source.read(source.table.ids.tolist().index(b"cat/0.png"))
    assert bool(called) == quickly


def test_without_keys_a_bucket_is_read_as_anybody_may(s3, opened, files, monkeypatch, tmp_path):
    s3.client.put_object_acl(Bucket=s3.bucket, Key="photos/cat/0.png", ACL="public-read")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    source = opened(f"s3://{s3.bucket}/photos/")
    assert source.read(0)[0] == files["cat/0.png"]
    assert source._connections._stores["s3"]._signed._files.anon


def test_options_of_folders_are_heeded(s3, opened):
    source = opened(f"s3://{s3.bucket}/photos/", split_folders=["cat=train,dog=skip"])
    assert source.table.ids.tolist() == [b"cat/0.png", b"cat/2.png", b"cat/4.png"]
    assert source.table.split.tolist() == [1, 1, 1]
    with pytest.raises(
        SourceError, match=r"--path-column: s3://.*/photos/ is a folder, and this option is for"
    ):
        open_source(f"s3://{s3.bucket}/photos/", path_column="x")


def test_keys_that_are_no_plain_paths_are_images_of_their_own(s3, opened):
    odd = ["x/a b#?%41&+.png", "x/ü/日本.png", "x/../y.png", "x//z.png"]
    for number, key in enumerate(odd):
        s3.write(s3.bucket, key, b"%d" % number)
    source = opened(f"s3://{s3.bucket}/x/")
    found = {id_.decode(): source.read(row)[0] for row, id_ in enumerate(source.table.ids)}
    assert found.items() >= {"a b#?%41&+.png": b"0", "ü/日本.png": b"1"}.items()


def test_a_manifest_in_a_bucket(s3, files, opened):
    rows = "".join(f"photos/{name},{name[:3]}\n" for name in files)
    s3.write(s3.bucket, "m.csv", f"path,label\n{rows}s3://{s3.bucket}/photos/gone.png,cat\n".encode())
    source = opened(f"s3://{s3.bucket}/m.csv")
    assert source.table.classes == ("cat", "dog")
    assert summarise(source).missing_names == (f"s3://{s3.bucket}/photos/gone.png",)
    row = source.table.ids.tolist().index(b"photos/dog/1.png")
    assert source.read(row)[0] == files["dog/1.png"]
    assert source.read(row)[1] == source.table.stamps[row].tobytes()
    with pytest.raises(OSError, match="HTTP 404"):
        source.read(source.table.ids.tolist().index(f"s3://{s3.bucket}/photos/gone.png".encode()))


def test_many_rows_of_one_bucket_are_found_by_listing(s3, opened, monkeypatch, tmp_path):
    monkeypatch.setattr(listed, "_MANY", 3)

    async def no_head(*_):
        raise AssertionError

    monkeypatch.setattr(buckets.BucketStore, "head", no_head)
    (tmp_path / "m.csv").write_text(
        "path\n"
        + "".join(f"s3://{s3.bucket}/photos/{name}\n" for name in ("cat/0.png", "cat/2.png", "dog/gone.png"))
    )
    source = opened(tmp_path / "m.csv")
    assert summarise(source).missing_names == (f"s3://{s3.bucket}/photos/dog/gone.png",)
    assert source.read(0)[1] == source.table.stamps[0].tobytes()


def test_archives_and_patterns(s3, files, opened, tmp_path):
    for number in range(3):
        shard = write_tar(tmp_path / f"s-{number}.tar", dict(list(files.items())[number::3]))
        s3.write(s3.bucket, f"sets/s-{number}.tar", shard.read_bytes())
    s3.write(s3.bucket, "sets/deeper/s-9.tar", b"no archive")
    for pattern in ("s-{0..2}.tar", "s-*.tar"):
        source = opened(f"s3://{s3.bucket}/sets/{pattern}")
        assert [id_.decode().split("/", 1)[1] for id_ in source.table.ids] == [
            name for number in range(3) for name in sorted(list(files)[number::3])
        ]
        assert source.read(0)[0] in files.values()
    with pytest.raises(SourceError, match=r"s3://.*/none-\*.tar: no file matches this pattern"):
        open_source(f"s3://{s3.bucket}/none-*.tar")


def test_what_is_not_there_is_an_error(s3):
    with pytest.raises(SourceError, match=r"s3://.*/nothing: no image found in .* Expected class/"):
        open_source(f"s3://{s3.bucket}/nothing/")
    with pytest.raises(
        SourceError, match=r"s3://no-such-bucket-here/x: can't be read: HTTP 404 NoSuchBucket"
    ):
        open_source("s3://no-such-bucket-here/x")
    with pytest.raises(SourceError, match=r"s3://.*/gone.tar: no such file on the server"):
        open_source(f"s3://{s3.bucket}/gone.tar")


def test_named_images_and_folders(s3, files):
    source = open_paths([f"s3://{s3.bucket}/photos/dog/", f"s3://{s3.bucket}/photos/cat/0.png"])
    assert [source.read(row)[0] for row in range(4)] == [
        files[name] for name in ("dog/1.png", "dog/3.png", "dog/5.png", "cat/0.png")
    ]
    source.close()
    with pytest.raises(SourceError, match="no image found in this folder"):
        open_paths([f"s3://{s3.bucket}/photos/none/"])
