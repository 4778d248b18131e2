"""Features that were computed in different ways fit if they are close to the reference."""

import dataclasses

import pytest

from frostline.features.cache.contract import Compatibility, Provenance
from frostline.features.fidelity import Check, LayerCheck
from frostline.features.spec import MIN_COSINE, FeatureSpec, Layer, Transform


def computed(engine="eager", precision="fp32", check=None, device="cpu", torch_version="2.14.1"):
    transform = Transform(8, "shortest", (8, 8), "bilinear", (0.5,) * 3, (0.5,) * 3)
    spec = FeatureSpec(
        backbone="timm:x",
        weights_sha256="0" * 64,
        transform=transform,
        layers=(Layer("embedding", "none", 4),),
        precision=precision,
        dtype="float32",
        engine=engine,
        device=device,
        decoder="pillow",
        versions={"torch": torch_version},
    )
    return Provenance(spec, check)


def check(cosine):
    return Check(32, {"embedding": LayerCheck(cosine, cosine, 1 - cosine)})


EMBEDDING = frozenset({"embedding"})


@pytest.mark.parametrize(
    ("theirs", "ours", "otherwise", "within"),
    [
        (computed(), computed(), False, True),
        (computed(), computed("eager, tf32 off", device="cuda"), True, True),
        (computed(), computed("openvino 1", check=check(MIN_COSINE)), True, True),
        (computed(), computed("openvino 1", check=check(MIN_COSINE - 1e-6)), True, False),
        (computed(), computed("openvino 1"), True, False),
        (computed("openvino 1"), computed(), True, False),
        (computed("openvino 1"), computed("openvino 2"), True, True),
        (computed(precision="bf16"), computed(precision="bf16", device="cuda"), True, True),
        (computed(precision="bf16", check=check(0.9999)), computed("compile", check=check(1)), True, True),
        (computed(precision="bf16", check=check(0.9999)), computed("compile", check=check(0.9)), True, False),
        (computed(), computed(torch_version="2.15"), True, True),
    ],
)
def test_computations_fit_if_close_to_reference_or_of_one_kind(theirs, ours, otherwise, within):
    compatibility = Compatibility(theirs, ours, EMBEDDING)
    assert (compatibility.computed_otherwise, compatibility.is_within_contract) == (otherwise, within)
    assert bool(compatibility.failures()) is not within or theirs.resembles(ours)


def test_only_layers_in_use_need_a_check():
    both = Check(32, {"embedding": LayerCheck(0.9999, 1, 0), "logits": LayerCheck(0.5, 1, 0)})
    ours = computed("openvino 1", check=both)
    assert Compatibility(computed(), ours, EMBEDDING).is_within_contract
    assert not Compatibility(computed(), ours, EMBEDDING | {"logits"}).is_within_contract
    assert not Compatibility(computed(), ours, frozenset({"other"})).is_within_contract


def test_differences_of_computation_and_of_content_are_distinguished():
    ours, theirs = computed().spec, computed("openvino 1", "bf16", device="cuda", torch_version="3").spec
    assert all(difference.is_of_computation for difference in ours.differences(theirs))
    for changed in ({"dtype": "float16"}, {"decoder": "other"}, {"views": 2}, {"backbone": "timm:y"}):
        (difference,) = ours.differences(dataclasses.replace(ours, **changed))
        assert not difference.is_of_computation
    (difference,) = ours.differences(dataclasses.replace(ours, versions={"torch": "2.14.1", "timm": "2"}))
    assert not difference.is_of_computation
