"""Which engine and precision are taken, and what they are compared with."""

import dataclasses
import sys

import numpy as np
import pytest
from listener import Listener

from frostline import registry
from frostline.features.backbones import load_backbone
from frostline.features.engines import (
    ENGINES,
    ConversionError,
    EngineError,
    EngineKind,
    Plan,
    choose_engine,
    kind_of,
    make_engine,
    openvino,
    plan,
    plan_engines,
)
from frostline.features.engines.eager import EagerEngine
from frostline.features.engines.openvino import CONVERSION_PAYS, OPENVINO, OpenVinoEngine, openvino_name
from frostline.features.fidelity import Check, LayerCheck
from frostline.pipeline import extract
from frostline.pipeline.demo import write_digits

BACKBONE = {"backbone": "timm:test_resnet", "weights": "random"}

needs_openvino = pytest.mark.skipif(bool(ENGINES.missing("openvino")), reason="needs the extra openvino")


@pytest.fixture(scope="module")
def resnet():
    return load_backbone("timm:test_resnet", weights="random:3")


@pytest.fixture(scope="module")
def layers(resnet):
    return resnet.resolve_layers(["embedding", "layer3:max"])


@pytest.fixture
def native_bf16(cpu):
    cpu.setattr(plan, "_cpu_capabilities", lambda: {"amx_bf16": True})


def pixels(backbone, count=5):
    return np.random.default_rng(0).integers(0, 256, (count, *backbone.transform.crop, 3), dtype=np.uint8)


def chosen(plans):
    return [(each.kind, each.precision) for each in plans]


# -- plans


@needs_openvino
@pytest.mark.usefixtures("cpu")
def test_auto_converts_for_enough_images(resnet):
    few = plan_engines(resnet, images=CONVERSION_PAYS - 1)
    assert chosen(few) == [("eager", "fp32")]
    assert str(CONVERSION_PAYS) in few[0].reason
    many = plan_engines(resnet, images=CONVERSION_PAYS)
    assert chosen(many) == [("openvino", "fp32"), ("eager", "fp32")]
    assert many == plan_engines(resnet, images=10**7)
    assert many[0].name == openvino_name()


@needs_openvino
@pytest.mark.usefixtures("native_bf16")
def test_auto_tries_the_reduced_precision_first_where_the_cpu_has_it(resnet):
    plans = plan_engines(resnet, images=CONVERSION_PAYS)
    assert chosen(plans) == [
        ("openvino", "bf16"), ("openvino", "fp32"), ("eager", "bf16"), ("eager", "fp32"),
    ]  # fmt: skip
    assert chosen(plan_engines(resnet, images=CONVERSION_PAYS, precision="fp32")) == [
        ("openvino", "fp32"), ("eager", "fp32"),
    ]  # fmt: skip


def test_auto_without_openvino_recommends_installing_it(resnet, cpu):
    cpu.setattr(registry, "find_spec", lambda _name: None)
    (only,) = plan_engines(resnet, images=10**6)
    assert only.kind == "eager"
    assert "frostline[openvino]" in only.reason


def test_missing_openvino_reports_how_to_install_it(resnet, monkeypatch):
    monkeypatch.setattr(registry, "find_spec", lambda _name: None)
    with pytest.raises(EngineError, match=r"pip install 'frostline\[openvino\]'"):
        plan_engines(resnet, engine="openvino", device="cpu")


def test_requested_engine_is_the_only_plan(resnet):
    for kind in ("eager", "compile"):
        plans = plan_engines(resnet, engine=kind, precision="fp32", device="cpu", images=1)
        assert chosen(plans) == [(kind, "fp32")]
        assert not plans[0].reason
    with pytest.raises(
        EngineError, match="no engine 'tensorrt'; expected one of eager, compile, openvino, or auto"
    ):
        plan_engines(resnet, engine="tensorrt")


@needs_openvino
def test_requested_engine_determines_supported_devices(resnet, cpu):
    (only,) = plan_engines(resnet, engine="openvino", precision="fp32")
    assert (only.device, only.batch_size) == ("cpu", 8)
    cpu.setattr(plan.torch.cuda, "is_available", lambda: True)
    assert plan_engines(resnet, engine="openvino", precision="fp32")[0].device == "cpu"
    with pytest.raises(EngineError, match="engine 'openvino' computes on cpu, not on cuda"):
        plan_engines(resnet, engine="openvino", device="cuda")


class SlowEngine(EagerEngine):
    """The engine of another package."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.name = "slow 7"


SLOW = EngineKind(
    build=SlowEngine,
    label=lambda _device: "slow 7",
    devices=("cpu",),
    precisions=("fp32",),
    batch_size=3,
    auto_from=10**9,
)
NOWHERE = dataclasses.replace(SLOW, devices=("mps",))


@pytest.fixture
def declared(declare):
    declare(
        "frostline.engines",
        slow=f"{__name__}:SLOW",
        nowhere=f"{__name__}:NOWHERE",
        class_of_it=f"{__name__}:SlowEngine",
    )


@pytest.mark.usefixtures("declared", "native_bf16")
def test_third_party_engine_is_built_on_request(resnet, layers):
    engine = make_engine(resnet, layers, engine="slow")
    assert (engine.name, engine.device, engine.precision, engine.batch_size) == ("slow 7", "cpu", "fp32", 3)
    plans = plan_engines(resnet, engine="slow")
    choice = choose_engine(resnet, layers, plans, pixels(resnet))
    assert choice.check.min_cosine > 0.9999
    assert kind_of(choice.engine.name) == "slow"
    assert "slow" not in {each.kind for each in plan_engines(resnet, images=10**10)}


@pytest.mark.usefixtures("declared", "cpu")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "slo"}, r"no engine 'slo' \(did you mean 'slow'\?\)"),
        (
            {"engine": "slow", "precision": "bf16"},
            "'slow' doesn't support precision bf16; expected auto, fp32",
        ),
        ({"engine": "nowhere"}, "'nowhere' computes on mps, not on cpu; use another --engine"),
        ({"engine": "class_of_it"}, "is <class .*SlowEngine'>; expected a features.engines.EngineKind"),
        ({"engine": "auto", "precision": "fp8"}, "precision 'fp8'; expected auto, fp32, bf16, fp16"),
    ],
)
def test_unsupported_option_of_third_party_engine_is_refused(resnet, options, message):
    with pytest.raises(EngineError, match=message):
        plan_engines(resnet, **options)


def test_every_engine_is_named_in_specifications_as_it_is_listed():
    for name in ENGINES:
        if not ENGINES.missing(name):
            assert kind_of(ENGINES[name].label("cpu")) == name


def test_a_specification_names_its_kind_of_engine():
    assert [kind_of(name) for name in ("eager", "eager, tf32 off", "compile, tf32 off", "openvino 2026.4.1")] == [
        "eager", "eager", "compile", "openvino",
    ]  # fmt: skip
    assert kind_of("tensorrt 11") is None
    assert kind_of("") is None


def test_on_cuda_tf32_is_in_the_name():
    assert Plan("eager", "fp32", "cuda", 8).name == "eager, tf32 off"
    assert Plan("eager", "fp32", "cpu", 8).name == "eager"


@needs_openvino
def test_openvino_telemetry_is_disabled(resnet, layers):
    OpenVinoEngine(resnet, layers[:1], precision="fp32", batch_size=1)
    assert sys.modules["openvino_telemetry"] is None


# -- comparing


def test_a_check_of_equal_and_of_known_vectors():
    reference = {
        "a": np.array([[3.0, 4.0], [0.0, 0.0]], np.float32),
        "b": np.array([[1.0], [2.0]], np.float32),
    }
    assert Check.of(reference, reference) == Check(2, {"a": LayerCheck(1, 1, 0), "b": LayerCheck(1, 1, 0)})
    found = {"a": np.array([[4.0, 3.0], [0.0, 0.0]], np.float32), "b": np.array([[1.5], [-2.0]], np.float32)}
    check = Check.of(found, reference)
    assert check.layers["a"].min_cosine == pytest.approx(24 / 25)
    assert check.layers["a"].mean_cosine == pytest.approx(49 / 50)
    assert check.layers["a"].relative_error == pytest.approx(2**0.5 / 5)
    assert check.layers["b"] == LayerCheck(-1, 0, 2)
    assert (check.min_cosine, check.mean_cosine, check.relative_error) == (-1, 0, 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_not_finite_never_pass(bad):
    reference = {"a": np.ones((3, 4), np.float32)}
    found = {"a": np.ones((3, 4), np.float32)}
    found["a"][1, 2] = bad
    check = Check.of(found, reference)
    assert (check.min_cosine, check.relative_error) == (0, 1)


def test_check_survives_json_round_trip():
    check = Check(7, {"embedding": LayerCheck(0.9991, 0.99999, 1e-3), "blocks.4:avg": LayerCheck(1, 1, 0)})
    assert Check.from_json(check.to_json()) == check
    assert "minimum 0.999100" in str(check)
    for text in ("", "[]", '{"images":1}', '{"images":1,"layers":{"a":{}}}'):
        with pytest.raises(ValueError, match=r".+"):
            Check.from_json(text)


def test_check_of_earlier_version_keeps_the_rejected_engines():
    check = Check(1, {"embedding": LayerCheck(1, 1, 0)}, rejected=("eager bf16: too far",))
    earlier = check.to_json().replace('"rejected"', '"passed_over"')
    assert earlier != check.to_json()
    assert Check.from_json(earlier) == check


# -- choosing


BF16 = Plan("eager", "bf16", "cpu", 4)
FP32 = Plan("eager", "fp32", "cpu", 4)


def test_single_reference_plan_is_not_compared(resnet, layers):
    assert choose_engine(resnet, layers, (FP32,), pixels(resnet)).check is None


def test_fastest_precision_within_tolerance_is_chosen(resnet, layers):
    strict = choose_engine(resnet, layers, (BF16, FP32), pixels(resnet), min_cosine=0.9999999)
    assert strict.engine.precision == "fp32"
    assert strict.plan == FP32
    assert (
        strict.check.min_cosine > 1 - 1e-6
    )  # it is the reference itself, but for folded batch normalisations
    (rejected,) = strict.check.rejected
    assert "eager bf16" in rejected
    assert "0.9999999 required" in rejected
    lenient = choose_engine(resnet, layers, (BF16, FP32), pixels(resnet), min_cosine=0.9)
    assert lenient.engine.precision == "bf16"
    assert not lenient.check.rejected
    assert lenient.check.images == 5
    assert lenient.check.layers.keys() == {"embedding", "layer3:max"}
    assert 0.9 <= lenient.check.min_cosine <= lenient.check.mean_cosine < 0.9999999
    assert lenient.check.relative_error > 1e-4


def test_single_plan_is_accepted_regardless_of_its_check(resnet, layers):
    choice = choose_engine(resnet, layers, (BF16,), pixels(resnet), min_cosine=1)
    assert choice.engine.precision == "bf16"
    assert choice.check.min_cosine < 1


def test_without_a_readable_image_nothing_is_compared(resnet, layers):
    assert choose_engine(resnet, layers, (BF16, FP32), pixels(resnet, 0)).check is None


@needs_openvino
def test_network_unsupported_by_openvino_runs_eagerly(resnet, layers, monkeypatch):
    def refuse(*_args, **_options):
        raise ConversionError("no such operator")

    monkeypatch.setattr(OpenVinoEngine, "__init__", refuse)
    plans = plan_engines(resnet, precision="fp32", device="cpu", images=CONVERSION_PAYS)
    choice = choose_engine(resnet, layers, plans, pixels(resnet))
    assert choice.engine.name == "eager"
    assert "no such operator" in choice.check.rejected[0]
    with pytest.raises(ConversionError, match="no such operator"):
        choose_engine(resnet, layers, plans[:1], pixels(resnet))


# -- in an extraction


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    whole, folder = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("digits")
    write_digits(whole)
    for path in sorted(whole.glob("*/*"))[::60]:
        (folder / path.parent.name).mkdir(exist_ok=True)
        (folder / path.parent.name / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def built(monkeypatch):
    """The engines that were built, by kind and precision."""
    built = []
    build, reference = Plan.build, Plan.build_reference

    def counted(self, *args):
        built.append((self.kind, self.precision))
        return build(self, *args)

    def counted_reference(self, *args):
        built.append(("reference", "fp32"))
        return reference(self, *args)

    monkeypatch.setattr(Plan, "build", counted)
    monkeypatch.setattr(Plan, "build_reference", counted_reference)
    return built


@needs_openvino
def test_auto_keeps_the_engine_of_the_cache_that_is_there(digits, tmp_path, cpu, built):
    small = extract(digits, cache=tmp_path / "c.h5", limit=10, **BACKBONE)
    assert small.engine == "eager"
    assert small.check is None
    assert built == [("eager", "fp32")]

    cpu.setattr(openvino, "OPENVINO", dataclasses.replace(OPENVINO, auto_from=20))
    grown = extract(digits, cache=tmp_path / "c.h5", **BACKBONE)
    assert (grown.engine, grown.copied, grown.computed) == ("eager", 10, grown.rows - 10)

    built.clear()
    report = Listener()
    fresh = extract(digits, cache=tmp_path / "d.h5", report=report, **BACKBONE)
    assert fresh.engine == openvino_name()
    assert fresh.check.images == min(32, fresh.rows)
    assert fresh.check.min_cosine > 0.9999
    assert built == [("openvino", "fp32"), ("reference", "fp32")]
    assert any("openvino" in note and "repay" in note for note in report.notes)

    cpu.setattr(openvino, "OPENVINO", dataclasses.replace(OPENVINO, auto_from=10**6))
    built.clear()
    again = extract(digits, cache=tmp_path / "d.h5", **BACKBONE)
    assert again.unchanged
    assert again.check == fresh.check
    assert again.engine == openvino_name()
    assert built == []


def test_an_unchanged_set_builds_no_engine_whatever_was_asked(digits, tmp_path, built):
    for options in ({}, {"engine": "eager"}, {"engine": "eager", "precision": "bf16"}):
        name = tmp_path / f"{len(built)}.h5"
        extract(digits, cache=name, limit=8, **options, **BACKBONE)
        count = len(built)
        assert extract(digits, cache=name, limit=8, **options, **BACKBONE).unchanged
        assert len(built) == count > 0


def test_a_precision_asked_for_is_obeyed_and_reported_and_then_kept(digits, tmp_path, built):
    report = Listener()
    options = {"cache": tmp_path / "c.h5", "engine": "eager", "limit": 8, **BACKBONE}
    first = extract(digits, precision="bf16", min_cosine=1, report=report, **options)
    assert first.precision == "bf16"
    assert first.check.min_cosine < 1
    assert any("below --min-cosine 1" in warning for warning in report.warnings)
    built.clear()
    grown = extract(digits, **options | {"limit": 12})
    assert grown.precision == "bf16"
    assert 0 < grown.copied < grown.rows
    assert grown.check == first.check  # not compared again
    assert built == [("eager", "bf16")]


@pytest.mark.usefixtures("native_bf16")
def test_auto_precision_is_the_fastest_that_reaches_the_cosine(digits, tmp_path):
    options = {"engine": "eager", "limit": 8, **BACKBONE}
    strict = extract(digits, cache=tmp_path / "strict.h5", min_cosine=0.9999999, **options)
    lenient = extract(digits, cache=tmp_path / "lenient.h5", min_cosine=0.9, **options)
    assert (strict.precision, lenient.precision) == ("fp32", "bf16")


def test_overwriting_with_other_settings_chooses_anew(digits, tmp_path):
    options = {"cache": tmp_path / "c.h5", "limit": 8, "overwrite": True, **BACKBONE}
    extract(digits, engine="eager", precision="bf16", **options)
    assert extract(digits, engine="eager", **options).precision == "bf16"  # nothing else differs
    replaced = extract(digits, engine="eager", layers=["layer3:avg"], precision="fp32", **options)
    assert (replaced.precision, replaced.layers) == ("fp32", ("layer3:avg",))
