"""Which engine and precision an extraction takes, and when it keeps those of the cache."""

import dataclasses

import pytest

from frostline.features.engines import openvino
from frostline.features.engines.openvino import OPENVINO, openvino_name
from frostline.pipeline import extract
from tests.helpers.listener import Listener
from tests.helpers.needs import needs_openvino

BACKBONE = {"backbone": "timm:test_resnet", "weights": "random"}


@needs_openvino
def test_auto_keeps_the_engine_of_the_cache_that_is_there(ten_digits, tmp_path, cpu, built):
    small = extract(ten_digits, cache=tmp_path / "c.h5", limit=10, **BACKBONE)
    assert small.engine == "eager"
    assert small.check is None
    assert built == [("eager", "fp32")]

    cpu.setattr(openvino, "OPENVINO", dataclasses.replace(OPENVINO, auto_from=20))
    grown = extract(ten_digits, cache=tmp_path / "c.h5", **BACKBONE)
    assert (grown.engine, grown.copied, grown.computed) == ("eager", 10, grown.rows - 10)

    built.clear()
    report = Listener()
    fresh = extract(ten_digits, cache=tmp_path / "d.h5", report=report, **BACKBONE)
    assert fresh.engine == openvino_name()
    assert fresh.check.images == min(32, fresh.rows)
    assert fresh.check.min_cosine > 0.9999
    assert built == [("openvino", "fp32"), ("reference", "fp32")]
    assert any("openvino" in note and "repay" in note for note in report.notes)

    cpu.setattr(openvino, "OPENVINO", dataclasses.replace(OPENVINO, auto_from=10**6))
    built.clear()
    again = extract(ten_digits, cache=tmp_path / "d.h5", **BACKBONE)
    assert again.unchanged
    assert again.check == fresh.check
    assert again.engine == openvino_name()
    assert built == []


def test_an_unchanged_set_builds_no_engine_whatever_was_asked(ten_digits, tmp_path, built):
    for options in ({}, {"engine": "eager"}, {"engine": "eager", "precision": "bf16"}):
        name = tmp_path / f"{len(built)}.h5"
        extract(ten_digits, cache=name, limit=8, **options, **BACKBONE)
        count = len(built)
        assert extract(ten_digits, cache=name, limit=8, **options, **BACKBONE).unchanged
        assert len(built) == count > 0


def test_a_precision_asked_for_is_obeyed_and_reported_and_then_kept(ten_digits, tmp_path, built):
    report = Listener()
    options = {"cache": tmp_path / "c.h5", "engine": "eager", "limit": 8, **BACKBONE}
    first = extract(ten_digits, precision="bf16", min_cosine=1, report=report, **options)
    assert first.precision == "bf16"
    assert first.check.min_cosine < 1
    assert any("below --min-cosine 1" in warning for warning in report.warnings)
    built.clear()
    grown = extract(ten_digits, **options | {"limit": 12})
    assert grown.precision == "bf16"
    assert 0 < grown.copied < grown.rows
    assert grown.check == first.check  # not compared again
    assert built == [("eager", "bf16")]


@pytest.mark.usefixtures("native_bf16")
def test_auto_precision_is_the_fastest_that_reaches_the_cosine(ten_digits, tmp_path):
    options = {"engine": "eager", "limit": 8, **BACKBONE}
    strict = extract(ten_digits, cache=tmp_path / "strict.h5", min_cosine=0.9999999, **options)
    lenient = extract(ten_digits, cache=tmp_path / "lenient.h5", min_cosine=0.9, **options)
    assert (strict.precision, lenient.precision) == ("fp32", "bf16")


def test_overwriting_with_other_settings_chooses_anew(ten_digits, tmp_path):
    options = {"cache": tmp_path / "c.h5", "limit": 8, "overwrite": True, **BACKBONE}
    extract(ten_digits, engine="eager", precision="bf16", **options)
    assert extract(ten_digits, engine="eager", **options).precision == "bf16"  # nothing else differs
    replaced = extract(ten_digits, engine="eager", layers=["layer3:avg"], precision="fp32", **options)
    assert (replaced.precision, replaced.layers) == ("fp32", ("layer3:avg",))
