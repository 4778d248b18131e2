"""Which engine and precision are taken, and what they are compared with."""

import dataclasses
import sys

import numpy as np
import pytest

from frostline import registry
from frostline.features.engines import (
    EngineKind,
    Plan,
    choose_engine,
    kind_of,
    make_engine,
    plan,
    plan_engines,
)
from frostline.features.engines.eager import EagerEngine
from frostline.features.engines.openvino import CONVERSION_PAYS, OpenVinoEngine, openvino_name
from frostline.features.errors import ConversionError, EngineError
from tests.helpers.needs import needs_openvino


@pytest.fixture(scope="module")
def layers(resnet):
    return resnet.resolve_layers(["embedding", "layer3:max"])


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
