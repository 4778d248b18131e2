"""Decoders: the built-in ones, and those that other packages declare."""

import dataclasses

import numpy as np
import PIL
import pytest
from PIL import features as pillow_features

from frostline import cli
from frostline.features.cache import FeatureCache
from frostline.features.errors import CacheMismatchError, FeaturesError
from frostline.features.images.batches import load_batches
from frostline.features.images.decoders import (
    DECODERS,
    DecoderError,
    DecoderKind,
    decoder_of,
    describe_decoder,
)
from frostline.pipeline import extract, predict, train_head
from frostline.pipeline.runs.run import load_run
from frostline.testing import DecoderContract, encode, photo
from frostline.testing.decoder import TRANSFORM, decoded
from tests.helpers.contracts import covered
from tests.helpers.runner import CliRunner
from tests.helpers.sources import DigestSource

GROUP = "frostline.decoders"
OPTIONS = {"backbone": "timm:test_resnet", "weights": "random", "engine": "eager", "precision": "fp32"}
EXACT = DECODERS["exact"]

TURBO = dataclasses.replace(EXACT, label=lambda: "libturbo 3.1")
PLAIN = dataclasses.replace(EXACT, label=lambda: "")
DARK = DecoderKind(
    read=lambda data: EXACT.read(data).point(lambda value: value // 2), resize=EXACT.resize, label=lambda: ""
)


class TestExact(DecoderContract):
    name = "exact"
    tolerance = 0


class TestFast(DecoderContract):
    name = "fast"
    tolerance = 3


class TestDecoderOfAnotherPackage(DecoderContract):
    name = "turbo"
    tolerance = 0

    @pytest.fixture(autouse=True)
    def _declared(self, declare):
        declare(GROUP, turbo=f"{__name__}:TURBO")


def test_every_built_in_decoder_is_tested():
    assert set(DECODERS.builtin) <= covered(globals(), DecoderContract, "name")


def test_descriptions_of_the_built_in_decoders_are_those_of_earlier_caches():
    codec = pillow_features.version("libjpeg_turbo") or pillow_features.version("jpg")
    exact = f"pillow {PIL.__version__}, libjpeg {codec}, exif"
    views = "; views: random parts of 0.35 of the area or more, half of them mirrored"
    assert describe_decoder("exact", 1) == exact
    assert describe_decoder("exact", 2) == exact + views
    assert describe_decoder("fast", 1) == exact + ", resized by torch"
    assert describe_decoder("fast", 2) == exact + ", resized by torch" + views


@pytest.mark.parametrize(
    "views", ["", "; views: random parts of 0.35 of the area or more, half of them mirrored"]
)
@pytest.mark.parametrize("more", ["", ", resized by torch"])
def test_descriptions_of_other_versions_name_the_same_decoders(more, views):
    assert decoder_of(f"pillow 9.1.0, libjpeg 2.1, exif{more}{views}") == ("fast" if more else "exact")


def test_description_of_a_decoder_of_another_package_names_the_package_and_its_version(declare):
    declare(GROUP, turbo=f"{__name__}:TURBO", plain=f"{__name__}:PLAIN")
    assert describe_decoder("turbo", 1) == "turbo: brought 1.5, libturbo 3.1"
    assert describe_decoder("plain", 1) == "plain: brought 1.5"
    assert describe_decoder("plain", 2) == (
        "plain: brought 1.5; views: random parts of 0.35 of the area or more, half of them mirrored,"
        f" resized by pillow {PIL.__version__}"
    )


def test_a_decoder_of_another_package_reads_the_images_of_a_cache_of_its_own(tmp_path, declare):
    declare(GROUP, dark=f"{__name__}:DARK")
    source = DigestSource({f"a/{n}.png": encode(photo(40, 30, seed=n)) for n in range(3)})
    exact = extract(source, cache=tmp_path / "exact.h5", **OPTIONS).cache
    dark = extract(source, cache=tmp_path / "dark.h5", decoder="dark", **OPTIONS).cache
    exact, dark = FeatureCache.open(exact), FeatureCache.open(dark)
    (difference,) = exact.spec.differences(dark.spec)
    assert (difference.field, difference.theirs) == ("decoder", "dark: brought 1.5")
    assert np.abs(exact.features() - dark.features()).max() > 1e-3
    with pytest.raises(CacheMismatchError, match="decoder: "):
        extract(source, cache=tmp_path / "exact.h5", decoder="dark", **OPTIONS)


def test_predict_decodes_as_the_cache_of_the_run_and_names_a_decoder_that_is_gone(
    tmp_path, declare, monkeypatch
):
    declare(GROUP, dark=f"{__name__}:DARK")
    files = {f"{'ab'[n % 2]}/{n:02d}.png": encode(photo(24, 24, seed=n)) for n in range(30)}
    source = DigestSource(files)
    cache = extract(source, cache=tmp_path / "dark.h5", decoder="dark", **OPTIONS).cache
    run = train_head(cache, "ridge", run=tmp_path / "run").run
    data = FeatureCache.open(cache)
    expected = load_run(run).head().predict_proba(data.features())
    found = predict(run, source, device="cpu")
    for row, each in zip(expected, found, strict=True):
        assert dict(each.top) == pytest.approx(dict(zip(data.classes, row, strict=True)), abs=1e-4)
    monkeypatch.undo()
    with pytest.raises(DecoderError, match=r"^no decoder 'dark'; expected one of exact, fast$"):
        predict(run, source, device="cpu")


def test_batches_are_decoded_by_the_named_decoder(declare):
    declare(GROUP, dark=f"{__name__}:DARK")
    data = encode(photo(24, 24))
    source = DigestSource({"a/1.png": data})
    (batch,) = load_batches(
        source, np.arange(1), TRANSFORM, batch_size=3, block_rows=1, decoder="dark", views=3
    )
    np.testing.assert_array_equal(batch.pixels[0], decoded("exact", data) // 2)
    assert batch.pixels.max() < 128


def test_a_registry_is_asked_once_per_load_and_not_once_per_image(declare, monkeypatch):
    declare(GROUP, dark=f"{__name__}:DARK")
    asked = []
    load = DECODERS.load
    monkeypatch.setattr(DECODERS, "load", lambda name: asked.append(name) or load(name))
    source = DigestSource({f"a/{n}.png": encode(photo(24, 24, seed=n)) for n in range(9)})
    assert (
        len(list(load_batches(source, np.arange(9), TRANSFORM, batch_size=2, block_rows=9, decoder="dark")))
        == 5
    )
    assert asked == ["dark"]


def test_an_unknown_decoder_is_an_error_before_an_image_is_read():
    source = DigestSource({"a/1.png": encode(photo(24, 24))})
    with pytest.raises(
        DecoderError, match=r"^no decoder 'fats' \(did you mean 'fast'\?\); expected one of exact, fast$"
    ):
        load_batches(source, np.arange(1), TRANSFORM, batch_size=1, block_rows=1, decoder="fats")
    assert source.reads == 0
    assert issubclass(DecoderError, FeaturesError)
    assert issubclass(DecoderError, ValueError)


def test_the_command_line_takes_decoders_of_other_packages_and_names_similar_ones(tmp_path, declare):
    declare(GROUP, dark=f"{__name__}:DARK")
    (tmp_path / "set" / "a").mkdir(parents=True)
    (tmp_path / "set" / "a" / "1.png").write_bytes(encode(photo(24, 24)))
    cache = tmp_path / "c.h5"

    def extracted(decoder):
        words = (
            "--backbone",
            "timm:test_resnet",
            "--weights",
            "random",
            "--cache",
            cache,
            "--decoder",
            decoder,
        )
        return CliRunner().invoke(cli.main, ["extract", *map(str, (tmp_path / "set", *words))])

    refused = extracted("drak")
    assert refused.exit_code == 1
    assert "no decoder 'drak' (did you mean 'dark'?); expected one of exact, fast, dark" in refused.stderr
    assert not cache.exists()
    assert extracted("dark").exit_code == 0
    assert FeatureCache.open(cache).spec.decoder == "dark: brought 1.5"


def test_an_object_that_is_no_decoder_is_refused(declare):
    declare(GROUP, turbo="json:dumps")
    with pytest.raises(
        DecoderError, match=r"\(json:dumps\) is .*; expected a features\.images\.decoders\.DecoderKind"
    ):
        describe_decoder("turbo", 1)
