"""Features that were computed in different ways: within one cache never mixed, between caches under a contract."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from listener import Listener
from PIL import Image
from runner import CliRunner

from frostline import cli, registry
from frostline.features.cache import FeatureCache
from frostline.features.cache.contract import Compatibility, Provenance
from frostline.features.engines import ENGINES, ConversionError, EngineError, plan
from frostline.features.engines.openvino import OpenVinoEngine
from frostline.features.errors import CacheMismatchError
from frostline.features.fidelity import MIN_COSINE, Check, LayerCheck
from frostline.features.spec import FeatureSpec, Layer, Transform
from frostline.pipeline import compare, evaluate, extract, predict, train_head
from frostline.pipeline.demo import write_digits
from frostline.pipeline.errors import RunError
from frostline.pipeline.runs.run import load_run

BACKBONE = {"backbone": "timm:test_resnet", "weights": "random:3", "image_size": 48}

pytestmark = pytest.mark.usefixtures("cpu")

needs_openvino = pytest.mark.skipif(bool(ENGINES.missing("openvino")), reason="needs the extra openvino")


@pytest.fixture
def other_machine(cpu):
    """A machine with bf16 arithmetic and without OpenVINO."""

    def move():
        cpu.setattr(plan, "_cpu_capabilities", lambda: {"amx_bf16": True})
        cpu.setattr(registry, "find_spec", lambda _name: None)

    return move


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    whole, folder = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("data") / "digits"
    write_digits(whole)
    for path in sorted(whole.glob("*/*"))[::15]:
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        (folder / path.parent.name / path.name).write_bytes(path.read_bytes())
    return folder


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


# -- the contract


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


# -- two machines, or two sets by the same command


@pytest.fixture(scope="module")
def here(digits, tmp_path_factory):
    """A cache by eager fp32 and a run on it."""
    folder = tmp_path_factory.mktemp("here")
    extract(digits, cache=folder / "c.h5", engine="eager", precision="fp32", device="cpu", **BACKBONE)
    return train_head(folder / "c.h5", "linear", params={"l2": 0.1}, run=folder / "run").run


def test_cache_from_another_kind_of_machine_fits(digits, here, tmp_path, other_machine):
    other_machine()
    there = extract(digits, cache=tmp_path / "there.h5", **BACKBONE)
    assert (there.engine, there.precision) == ("eager", "bf16")
    assert FeatureCache.open(there.cache).spec.dtype == "float32"
    shutil.copytree(here, tmp_path / "run")
    report = Listener()
    assert evaluate(tmp_path / "run", there.cache, report=report).rows > 0
    (note,) = report.notes
    assert "computed in another way (precision bf16 instead of fp32)" in note
    assert "cosine similarity" in note
    assert not report.warnings


def test_cache_with_only_test_images_is_evaluated(digits, here, tmp_path):
    shutil.copytree(here, tmp_path / "run")
    for path in sorted(digits.glob("*/*"))[::3]:
        # Other bytes of the same picture: those that were trained on are refused.
        target = tmp_path / "data" / "test" / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).resize((16, 16)).save(target)
    for folder in digits.iterdir():  # the other classes' folders
        (tmp_path / "data" / "test" / folder.name).mkdir(exist_ok=True)
    cache = extract(tmp_path / "data", cache=tmp_path / "test.h5", **BACKBONE).cache
    assert evaluate(tmp_path / "run", cache).rows == len(list(tmp_path.glob("data/test/*/*")))


def test_missing_check_names_the_fitting_options(digits, here, tmp_path):
    poor = extract(digits, cache=tmp_path / "c.h5", engine="eager", precision="bf16", **BACKBONE).cache
    file = FeatureCache.open(poor)
    worse = Check(file.check.images, {"embedding": LayerCheck(0.9, 0.95, 0.5)})
    rewrite_check(poor, worse)
    with pytest.raises(RunError, match=r"0\.900000.*\n.*--engine eager --precision fp32") as caught:
        evaluate(here, poor)
    assert "bf16" in str(caught.value)
    assert not load_run(here).ledger.entries()  # refused before the evaluation is recorded


def rewrite_check(path, found):
    import h5py

    with h5py.File(path, "r+") as file:
        file.attrs["check"] = np.bytes_(found.to_json())


def test_check_of_older_run_is_read_from_cache(digits, tmp_path):
    done = extract(digits, cache=tmp_path / "c.h5", engine="eager", precision="bf16", **BACKBONE)
    run = train_head(done.cache, "linear", params={"l2": 0.1}, run=tmp_path / "run").run
    reference = extract(
        digits, cache=tmp_path / "d.h5", engine="eager", precision="fp32", device="cpu", **BACKBONE
    ).cache
    assert load_run(run).caches[0].check == done.check
    record = json.loads((run / "run.json").read_text())
    del record["caches"][0]["check"]
    (run / "run.json").write_text(json.dumps(record))
    assert evaluate(run, reference).rows > 0
    done.cache.unlink()
    with pytest.raises(RunError, match="bf16 on cpu was not compared with eager fp32"):
        evaluate(run, reference)


def test_different_features_are_refused(digits, here, tmp_path):
    half = extract(
        digits, cache=tmp_path / "c.h5", engine="eager", precision="fp32", store="float16", **BACKBONE
    )
    with pytest.raises(RunError, match="dtype: trained on 'float32', the cache has 'float16'"):
        evaluate(here, half.cache)


def test_compare_notes_different_computations(digits, here, tmp_path):
    done = extract(digits, cache=tmp_path / "c.h5", engine="eager", precision="bf16", **BACKBONE)
    run = train_head(done.cache, "linear", params={"l2": 0.1}, run=tmp_path / "run").run
    (note,) = [each for each in compare([here, run]).notes if "different ways" in each]
    assert "eager bf16 on cpu; eager fp32 on cpu" in note
    assert f"at least {MIN_COSINE}" in note
    assert not any("different ways" in each for each in compare([here]).notes)


# -- a cache from another machine


def test_complete_cache_from_another_kind_of_machine_is_reused(digits, tmp_path, other_machine):
    made = extract(digits, cache=tmp_path / "c.h5", engine="eager", precision="fp32", **BACKBONE)
    old = moved_to_older_torch(made.cache)
    other_machine()
    again = extract(digits, cache=made.cache, **BACKBONE)
    assert again.unchanged
    assert FeatureCache.open(made.cache).spec.versions["torch"] == old


def moved_to_older_torch(path):
    """Rewrite a cache as another torch of the same length of name would have; returns the version."""
    import h5py

    spec = FeatureCache.open(path).spec
    version = spec.versions["torch"]
    old = f"1{version[1:]}"
    changed = dataclasses.replace(spec, versions={**spec.versions, "torch": old})
    with h5py.File(path, "r+") as file:
        file["spec"][0] = changed.to_json().encode()
        file["spec"].attrs["digest"] = np.bytes_(changed.digest)
    return old


def test_incomplete_cache_of_another_computation_is_refused(digits, tmp_path):
    folder = tmp_path / "digits"
    shutil.copytree(digits, folder)
    made = extract(folder, cache=tmp_path / "c.h5", engine="eager", precision="fp32", **BACKBONE)
    moved_to_older_torch(made.cache)
    before = made.cache.read_bytes()
    first = next(folder.glob("*/*"))
    first.with_name("new.png").write_bytes(first.read_bytes()[:-1] + b"\0")
    with pytest.raises(
        CacheMismatchError, match=r"1 images are still missing, .* versions.torch is \d"
    ) as caught:
        extract(folder, cache=made.cache, **BACKBONE)
    assert "--overwrite" in str(caught.value)
    assert made.cache.read_bytes() == before
    replaced = extract(folder, cache=made.cache, overwrite=True, **BACKBONE)
    assert replaced.computed == replaced.rows


def test_named_options_are_compared_with_the_cache(digits, tmp_path):
    made = extract(digits, cache=tmp_path / "c.h5", engine="eager", precision="bf16", **BACKBONE)
    with pytest.raises(CacheMismatchError, match="precision: 'fp32' now, 'bf16' in the file"):
        extract(digits, cache=made.cache, precision="fp32", **BACKBONE)
    assert extract(digits, cache=made.cache, **BACKBONE).unchanged


# -- predict


def photos_of(digits):
    return sorted(digits.glob("*/*"))[:6]


def probabilities(predictions):
    return np.array([dict(each.top)[each.label] for each in predictions])


@pytest.fixture
def built(monkeypatch):
    """The engines that were built, by kind and precision."""
    found = []
    build = plan.Plan.build

    def counted(self, *args):
        found.append((self.kind, self.precision))
        return build(self, *args)

    monkeypatch.setattr(plan.Plan, "build", counted)
    return found


@pytest.mark.parametrize(
    "way", [("eager", "fp32"), ("eager", "bf16"), pytest.param(("openvino", "fp32"), marks=needs_openvino)]
)
def test_predict_uses_the_engine_of_the_run(digits, tmp_path, built, way):
    engine, precision = way
    done = extract(digits, cache=tmp_path / "c.h5", engine=engine, precision=precision, **BACKBONE)
    run = train_head(done.cache, "linear", params={"l2": 0.1}, run=tmp_path / "run").run
    built.clear()
    report = Listener()
    predict(run, photos_of(digits), report=report)
    assert built == [way]
    assert not report.notes
    assert not report.warnings


@needs_openvino
def test_predict_falls_back_to_an_engine_within_the_contract(digits, tmp_path, built, cpu):
    done = extract(digits, cache=tmp_path / "c.h5", engine="openvino", precision="fp32", **BACKBONE)
    run = train_head(done.cache, "linear", params={"l2": 0.1}, run=tmp_path / "run").run
    there = predict(run, photos_of(digits))

    cpu.setattr(registry, "find_spec", lambda _name: None)
    built.clear()
    report = Listener()
    found = predict(run, photos_of(digits), report=report)
    assert built == [("eager", "fp32")]
    (note,) = report.notes
    assert "engine eager instead of openvino" in note
    # Features agree to a few unit round-offs of float32 times the length of the sums; the head amplifies them little.
    np.testing.assert_allclose(probabilities(found), probabilities(there), atol=1e-3)
    assert [each.label for each in found] == [each.label for each in there]
    built.clear()
    predict(run, photos_of(digits), precision="fp32")  # which leaves the engine open
    assert built == [("eager", "fp32")]


@needs_openvino
def test_predict_refuses_unchecked_engine_unless_named(digits, tmp_path, built, monkeypatch):
    done = extract(digits, cache=tmp_path / "c.h5", engine="openvino", precision="fp32", **BACKBONE)
    rewrite_check(done.cache, Check(32, {"embedding": LayerCheck(0.5, 0.5, 1)}))
    run = train_head(done.cache, "linear", params={"l2": 0.1}, run=tmp_path / "run").run

    def refuse(*_args, **_options):
        raise ConversionError("no such operator")

    monkeypatch.setattr(OpenVinoEngine, "__init__", refuse)
    with pytest.raises(EngineError, match=r"0\.500000 .*add --engine eager --precision fp32"):
        predict(run, photos_of(digits))
    report = Listener()
    assert len(predict(run, photos_of(digits), engine="eager", precision="fp32", report=report)) == 6
    (warning,) = report.warnings
    assert "no check shows that they agree" in warning
    assert built[-1] == ("eager", "fp32")


# -- what is told, and where


def test_engines_that_were_not_chosen_are_in_cache_info_and_json_alone(digits, tmp_path, cpu):
    cpu.setattr(plan, "_cpu_capabilities", lambda: {"amx_bf16": True})
    runner = CliRunner()
    command = [
        "extract", str(digits), "--cache", str(tmp_path / "c.h5"), "--engine", "eager", "--min-cosine", "1",
        "--backbone", BACKBONE["backbone"], "--weights", BACKBONE["weights"],
        "--image-size", "48",
    ]  # fmt: skip
    told = runner.invoke(cli.main, command, catch_exceptions=False)
    assert told.exit_code == 0
    assert "bf16" not in told.output
    info = runner.invoke(cli.main, ["cache", "info", str(tmp_path / "c.h5")], catch_exceptions=False)
    assert "eager bf16: cosine to eager fp32" in info.output
    document = json.loads(
        runner.invoke(cli.main, [*command, "--json", "--quiet"], catch_exceptions=False).output
    )
    assert document["precision"] == "fp32"
    (rejected,) = document["check"]["rejected"]
    assert rejected.startswith("eager bf16: cosine")
