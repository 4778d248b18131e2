"""The same images through every door: equal bytes, labels, features and content keys."""

import json
import shutil
import tarfile
from contextlib import ExitStack

import numpy as np
import pytest

from frostline import pipeline
from frostline.features.cache import FeatureCache
from frostline.features.sources import open_source
from frostline.features.sources.remote.urls import is_url
from tests.features.sources.remote.servers import Buckets, WebFiles, buckets
from tests.helpers.needs import needs_moto, needs_pyarrow, needs_remote
from tests.helpers.network import BACKBONE
from tests.helpers.sources import write_tar, write_zip


@pytest.fixture(scope="module")
def photos(ten_digits):
    """Bytes of 40 images by path, in four classes."""
    paths = [path for kind in sorted(ten_digits.iterdir())[:4] for path in sorted(kind.iterdir())[:10]]
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in paths}


def folder(root, photos):
    for name, data in photos.items():
        (root / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "photos" / name).write_bytes(data)
    return root / "photos"


def rows(root, photos):
    folder(root, photos)
    return [{"path": f"photos/{name}", "label": name.split("/")[0]} for name in photos]


def csv(root, photos):
    lines = [f"{row['path']},{row['label']}" for row in rows(root, photos)]
    (root / "m.csv").write_text("\n".join(["path,label", *lines]))
    return root / "m.csv"


def tsv(root, photos):
    (root / "m.tsv").write_text(csv(root, photos).read_text().replace(",", "\t"))
    return root / "m.tsv"


def json_lines(root, photos):
    (root / "m.jsonl").write_text("\n".join(map(json.dumps, rows(root, photos))))
    return root / "m.jsonl"


def parquet_manifest(root, photos):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows(root, photos)), root / "m.parquet")
    return root / "m.parquet"


def tar(root, photos):
    return write_tar(root / "photos.tar", photos)


def tar_of_a_folder(root, photos):
    with tarfile.open(root / "photos.tar", "w") as archive:
        archive.add(folder(root, photos), "photos")
    return root / "photos.tar"


def zipped(root, photos):
    return write_zip(root / "photos.zip", photos)


def shards(root, photos):
    for shard in range(4):
        files = {}
        for number, (name, data) in enumerate(list(photos.items())[10 * shard :][:10]):
            files |= {f"{number:04}.png": data, f"{number:04}.cls": name.split("/")[0].encode()}
        write_tar(root / f"shard-{shard:03}.tar", files)
    return root / "shard-{000..003}.tar"


def _table(photos):
    import pyarrow

    cells = [{"bytes": data, "path": name} for name, data in photos.items()]
    return pyarrow.table({"image": cells, "label": [name.split("/")[0] for name in photos]})


def parquet_images(root, photos):
    from pyarrow import parquet

    parquet.write_table(_table(photos), root / "images.parquet", row_group_size=7)
    return root / "images.parquet"


def arrow_images(root, photos):
    from pyarrow import feather

    feather.write_feather(_table(photos), root / "images.arrow", chunksize=9)
    return root / "images.arrow"


running = ExitStack()


@pytest.fixture(autouse=True)
def servers(monkeypatch):
    """Servers that a door has started, which end with the test."""
    monkeypatch.setenv("NO_PROXY", "*")
    with running:
        yield


def web(root, photos):
    csv(root, photos)
    files = {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }
    return f"{running.enter_context(WebFiles(files).serving()).url}/m.csv"


def web_archive(root, photos):
    files = {"photos.zip": zipped(root, photos).read_bytes()}
    return f"{running.enter_context(WebFiles(files).serving()).url}/photos.zip"


def bucket(root, photos):  # noqa: ARG001  # no file is written
    server = running.enter_context(buckets())
    patch = running.enter_context(pytest.MonkeyPatch.context())
    for name, value in Buckets.environment(server.url).items():
        patch.setenv(name, value)
    server.fill("bucket-of-doors", {f"photos/{name}": data for name, data in photos.items()})
    return "s3://bucket-of-doors/photos/"


DOORS = [
    *(folder, csv, tsv, json_lines, tar, tar_of_a_folder, zipped, shards),
    *(pytest.param(door, marks=needs_pyarrow) for door in (parquet_manifest, parquet_images, arrow_images)),
    *(pytest.param(door, marks=needs_remote) for door in (web, web_archive)),
    pytest.param(bucket, marks=needs_moto),
]


def contents(path):
    """Class and features of each image in a cache, by the key of its bytes."""
    cache = FeatureCache.open(path)
    features = cache.features(cache.layers[0].key)
    return {
        content.tobytes(): (cache.classes[label], features[row].tobytes())
        for row, (content, label) in enumerate(zip(cache.content, cache.labels, strict=True))
    }


@pytest.fixture(scope="module")
def expected(photos, tmp_path_factory):
    """`contents` of the cache of the folder."""
    root = tmp_path_factory.mktemp("folder")
    pipeline.extract(folder(root, photos), cache=root / "c.h5", **BACKBONE)
    return contents(root / "c.h5")


@pytest.mark.parametrize("door", DOORS)
def test_every_door_gives_the_same_features(door, photos, expected, tmp_path):
    data = door(tmp_path, photos)
    pipeline.extract(data, cache=tmp_path / "c.h5", **BACKBONE)
    assert len(expected) == len(photos)
    assert contents(tmp_path / "c.h5") == expected
    again = data if is_url(data) else door(tmp_path, photos)
    assert pipeline.extract(again, cache=tmp_path / "c.h5", **BACKBONE).computed == 0


@pytest.mark.parametrize("door", [tar, zipped, tar_of_a_folder])
def test_an_archive_and_its_folder_have_equal_rows(door, photos, tmp_path):
    packed = open_source(door(tmp_path, photos)).table
    plain = open_source(folder(tmp_path, photos)).table
    assert packed.ids.tolist() == plain.ids.tolist()
    np.testing.assert_array_equal(packed.labels, plain.labels)


def test_a_cache_of_a_folder_serves_its_archive(photos, tmp_path):
    pipeline.extract(folder(tmp_path, photos), cache=tmp_path / "c.h5", **BACKBONE)
    source = tar(tmp_path, photos)
    shutil.rmtree(tmp_path / "photos")
    result = pipeline.extract(source, cache=tmp_path / "c.h5", **BACKBONE)
    assert (result.computed, result.rows) == (0, 40)
