"""Commands that take URLs of data."""

import json

import pytest

from frostline.features.cache import FeatureCache
from frostline.features.sources.remote.stores import retries
from frostline.testing.images import encode, photo
from tests.features.sources.remote.servers import SECRET, Buckets, WebFiles, buckets
from tests.helpers.needs import needs_moto, needs_remote
from tests.helpers.runner import run

pytestmark = needs_remote

BACKBONE = ("--backbone", "timm:test_resnet", "--weights", "random:1", "--image-size", "32")
ENGINE = ("--engine", "eager", "--precision", "fp32")
TOKEN = "token-that-nobody-may-see"  # noqa: S105  # of no account


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(retries, "FIRST_DELAY", 0.001)


@pytest.fixture(scope="module")
def photos():
    """Thirty images by path, in three classes."""
    return {f"{n % 3}/{n:02}.png": encode(photo(20, 16, seed=n)) for n in range(30)}


@pytest.fixture
def web(photos):
    rows = "".join(f"p/{name},{name.split('/')[0]}\n" for name in photos)
    with WebFiles(
        {**{f"p/{n}": d for n, d in photos.items()}, "set.csv": f"path,label\n{rows}".encode()}
    ).serving() as site:
        yield site


def extract(url, *options):
    return run("extract", url, *BACKBONE, *ENGINE, *options)


def test_only_changed_images_are_computed_again(web, photos, tmp_path):
    result = extract(f"{web.url}/set.csv")
    (cache,) = tmp_path.glob("*.h5")
    assert cache.name.startswith("set.")
    assert "30 computed" in result.output
    web.requests.clear()
    assert "Nothing to do" in extract(f"{web.url}/set.csv").output
    assert web.paths() == ["/set.csv"]
    first, second = list(photos)[:2]
    web.write(f"p/{first}", photos[second] + b" ")
    web.requests.clear()
    assert "30 images (1 computed, 29 copied" in extract(f"{web.url}/set.csv").output
    assert set(web.paths()) == {"/set.csv", f"/p/{first}"}


def test_secrets_are_written_nowhere(web, tmp_path):
    url = f"{web.url}/set.csv?token={TOKEN}".replace("http://", f"http://me:{TOKEN}@")
    shown = extract(url, "--json")
    cache = tmp_path / json.loads(shown.stdout)["cache"]
    assert FeatureCache.open(cache).source == f"{web.url}/set.csv"
    run("train-head", cache, "--head", "ridge", "--run", "run")
    failed = run("extract", url.replace("set.csv", "none.csv"), code=1)
    predicted = run("predict", "run", f"{web.url}/p/0/none.png?token={TOKEN}", code=1)
    assert TOKEN not in shown.output + failed.output + predicted.output
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path


def test_rows_that_can_not_be_read_fail_with_their_reason(web, photos):
    first, second, third = list(photos)[:3]
    web.faults = {f"p/{first}": [200_404], f"p/{second}": []}
    web.faults = {f"p/{first}": ["cut"] * 100}
    del web.files[f"p/{third}"]
    result = extract(f"{web.url}/set.csv", "--max-bad", "0.5", "--json")
    errors = json.loads(result.stdout)["errors"]
    assert errors == {
        f"p/{first}": "the connection ended before the file was complete (5 attempts)",
        f"p/{third}": "HTTP 404 Not Found",
    }
    assert (
        result.stderr.count("the connection ended before the file was complete; such requests are repeated")
        == 1
    )


def test_predict_takes_several_urls(web, photos, tmp_path):
    extract(f"{web.url}/set.csv", "--cache", "c.h5")
    run("train-head", "c.h5", "--head", "ridge", "--run", "run")
    names = list(photos)[:2]
    (tmp_path / "own.png").write_bytes(photos[names[0]])
    urls = [f"{web.url}/p/{name}" for name in names]
    found = json.loads(run("predict", "run", *urls, "own.png", "--json").stdout)
    assert [each["image"] for each in found] == [*urls, "own.png"]
    assert found[0]["top"] == found[2]["top"]
    assert [each["path"] for each in found] == [None, None, "own.png"]


@pytest.mark.long
def test_finetune_takes_a_url_and_keeps_bytes(web, tmp_path):
    run(
        *("finetune", f"{web.url}/set.csv", *BACKBONE),
        *("--epochs", "1", "--run", "tuned", "--byte-cache", "bytes", "--byte-cache-size", "5MB"),
    )
    assert list((tmp_path / "bytes").glob("??/*"))
    assert f"{web.url}/set.csv" in (tmp_path / "tuned/run.json").read_text()


def test_thumbnails_are_read_without_asking_for_all_images(web, tmp_path):
    extract(f"{web.url}/set.csv", "--cache", "c.h5")
    run("train-head", "c.h5", "--head", "ridge", "--run", "run")
    web.requests.clear()
    result = run("evaluate", "run")
    assert "Images are not shown" not in result.output
    assert not web.paths("HEAD")
    assert "/set.csv" not in web.paths()
    run("cache", "check", "c.h5", "--out", "pairs", "--threshold", "0.1")
    assert (tmp_path / "pairs/near-duplicates.png").exists()


def test_a_cache_of_a_url_is_not_taken_for_moved_data(web, photos, tmp_path):
    extract(f"{web.url}/set.csv", "--cache", "c.h5")
    for name in list(photos)[:20]:
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_bytes(photos[name])
    result = run("extract", "own", *BACKBONE, *ENGINE, "--cache", "c.h5", code=1)
    assert "holds features of another data set" in result.output


def test_options_that_would_be_ignored_are_errors(web):
    assert "there is no byte cache" in extract_failing(f"{web.url}/set.csv", "--byte-cache-size", "1GB")
    assert (
        "got 'x', expected"
        in run("extract", "a", "--byte-cache", "b", "--byte-cache-size", "x", code=2).output
    )


def extract_failing(url, *options):
    return run("extract", url, *BACKBONE, *ENGINE, *options, code=2).output


def test_a_script_that_passes_a_source_can_not_name_a_byte_cache(web):
    from frostline import pipeline
    from frostline.errors import OptionError
    from frostline.features.sources import open_source

    source = open_source(f"{web.url}/set.csv")
    with pytest.raises(OptionError, match="byte_cache: images were passed"):
        pipeline.extract(source, byte_cache="b")
    source.close()


@needs_moto
def test_a_bucket(photos, tmp_path, monkeypatch):
    with buckets() as server:
        for name, value in Buckets.environment(server.url).items():
            monkeypatch.setenv(name, value)
        server.fill("bucket-of-commands", {f"photos/{name}": data for name, data in photos.items()})
        result = extract("s3://bucket-of-commands/photos/")
        assert "30 computed" in result.output
        (cache,) = tmp_path.glob("photos.*.h5")
        assert SECRET.encode() not in cache.read_bytes()
        run("train-head", cache, "--head", "ridge", "--run", "run")
        again = json.loads(run("predict", "run", "s3://bucket-of-commands/photos/", "--json").stdout)
        assert len(again) == 30


@pytest.mark.long
def test_a_study_opens_urls_and_writes_no_secret(web, tmp_path):
    url = f"{web.url}/set.csv?token={TOKEN}".replace("http://", f"http://me:{TOKEN}@")
    (tmp_path / "study.toml").write_text(
        f'[batch]\ndata = ["{url}"]\n[[extract]]\nbackbone = "timm:test_resnet"\nweights = "random:1"\nimage-size = 32\n'
        '[[train-head]]\nhead = "ridge"\n'
    )
    batch = run("batch", "study.toml")
    assert TOKEN not in batch.output
    for path in (tmp_path / "study").rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path
