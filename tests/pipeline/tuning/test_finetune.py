"""Fine-tuning from end to end: what is frozen, what is cached, and what a run holds."""

import csv
import dataclasses
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from frostline.classifiers import FitOptions, LabelledRows, fit_head
from frostline.errors import OptionError
from frostline.features.backbones import load_backbone, trunk
from frostline.features.cache import FeatureCache
from frostline.features.errors import LayerError
from frostline.features.images.batches import load_batches
from frostline.features.sources import open_source
from frostline.pipeline import Recipe, evaluate, extract, finetune, predict, train_head
from frostline.pipeline.errors import FinetuneError
from frostline.pipeline.inputs.joined_caches import image_digests
from frostline.pipeline.inputs.labelled_images import split_rows
from frostline.pipeline.runs.predictions import Predictions
from frostline.pipeline.runs.run import load_run
from frostline.pipeline.studies.html_report.commands import repeating_commands
from frostline.pipeline.tuning.inputs import _Images
from frostline.pipeline.tuning.trainer.network import FrostLine, Network
from frostline.splits import Split
from tests.helpers.network import BACKBONE
from tests.helpers.runs import as_of_version_3
from tests.helpers.sources import DigestSource
from tests.pipeline.tuning.training import FP32, QUIET, SMALL, KillsAt, curve, environment, state

EXACT = {"engine": "eager", "precision": "fp32", "device": "cpu"}
LINE = "layer2"
LAYERS, LONGEST = 16, 1728  # of the small network: matrices in a row, and terms of their longest sum
ABOVE = 10  # of the layers, above the line


def test_whole_network_trains_and_run_is_usable(digits):
    recipe = Recipe(
        **FP32, epochs=8, batch_size=16, lr=0.05, augment="none", backbone_lr=1, statistics="batch"
    )
    result = finetune(digits, recipe=recipe, run="runs/full", **QUIET)
    assert result.frost_line == "none"
    assert result.frozen == 0
    assert result.cache is None
    assert len(result.history) == 8
    assert result.history[-1].train_loss < result.history[0].train_loss / 2
    assert result.validation["accuracy"] > 0.8
    assert not Path("runs/.full.tuning").exists()

    judged = evaluate("runs/full")
    assert judged.metrics.top1.value > 0.8
    assert judged.cache == Path("runs/full/features.h5").resolve()
    image = min((digits / "1").iterdir())
    (said,) = predict("runs/full", [image], **EXACT)
    assert said.label in {"0", "1", "2"}
    # the head reads what the tuned backbone gives: cache and image agree
    with (Path("runs/full") / "test_predictions.csv").open() as file:
        lines = {line["id"]: line for line in csv.DictReader(file)}
    name, line = next(iter(lines.items()))
    (again,) = predict("runs/full", [digits / name], **EXACT)
    assert again.label == line["predicted"]
    # in batches of other sizes, sums may be taken in another order
    rounding = LAYERS * LONGEST * 2**-24
    assert again.probability == pytest.approx(float(line["probability"]), rel=0, abs=rounding)

    frozen = extract(digits, backbone="run:runs/full", cache="tuned.h5", **EXACT)
    assert (
        FeatureCache.open(frozen.cache).spec.weights_sha256 == load_backbone("run:runs/full").weights_sha256
    )
    head = train_head("tuned.h5", "logreg", run="runs/head")
    assert head.validation["accuracy"] > 0.8


def test_frozen_stages_stay_bitwise_equal(digits):
    before = load_backbone(BACKBONE["backbone"], weights=BACKBONE["weights"])
    result = finetune(
        digits, recipe=Recipe(**SMALL, frost_line=LINE), run="run", fractions=(0.8, 0, 0.2), **QUIET
    )
    assert (result.best_epoch, result.validation) == (
        3,
        {},
    )  # without validation images the last epoch is kept
    after, own = state("run"), before.module.state_dict()
    stages = {stage.name: stage for stage in before.stages()}
    below = [
        name
        for name in after
        if stages["stem"].owns(name) or stages["layer1"].owns(name) or stages[LINE].owns(name)
    ]
    above = [name for name in after if stages["layer3"].owns(name)]
    assert any("running_mean" in name for name in below)  # statistics are frozen, too
    assert all(torch.equal(after[name], own[name]) for name in below)
    assert not any(torch.equal(after[name], own[name]) for name in above if "num_batches" not in name)
    assert result.frozen == sum(stages[name].parameters for name in ("stem", "layer1", LINE))
    assert result.trained > stages["layer3"].parameters


@pytest.mark.parametrize("cached", [True, False])
def test_images_in_memory_train_like_files(digits, cached):
    files = {path.relative_to(digits).as_posix(): path.read_bytes() for path in digits.glob("*/*")}
    recipe = Recipe(**(SMALL | {"augment": "none"}), frost_line=LINE)
    options = {"recipe": recipe, "cached": cached, "workers": 1}
    of_files = finetune(digits, run="files", **(QUIET | options))
    of_memory = finetune(DigestSource(files), run="memory", **(QUIET | options))
    assert [epoch.train_loss for epoch in of_memory.history] == [
        epoch.train_loss for epoch in of_files.history
    ]
    assert of_memory.validation == of_files.validation


def test_batch_norm_keeps_pretrained_statistics_unless_from_scratch(digits):
    recipe = Recipe(**FP32, epochs=1, batch_size=24, lr=0.1, warmup=0)
    names = [
        name
        for name in load_backbone(BACKBONE["backbone"], weights="random:1").module.state_dict()
        if "running" in name
    ]
    finetune(digits, recipe=recipe, run="tuned", **QUIET)
    finetune(digits, recipe=recipe, run="scratch", from_scratch=True, **(QUIET | {"weights": None}))
    fresh = load_backbone(BACKBONE["backbone"], weights="random:0").module.state_dict()
    own = load_backbone(BACKBONE["backbone"], weights="random:1").module.state_dict()
    tuned, scratch = state("tuned"), state("scratch")
    assert all(torch.equal(tuned[name], own[name]) for name in names)
    assert not torch.equal(tuned["bn1.weight"], own["bn1.weight"])
    assert not any(torch.equal(scratch[name], fresh[name]) for name in names)


def test_training_on_cached_activations_equals_training_on_images(digits):
    recipe = Recipe(**SMALL, frost_line=LINE, augment="none")
    cached = finetune(digits, recipe=recipe, run="cached", **QUIET)
    plain = finetune(digits, recipe=recipe, run="plain", cached=False, **QUIET)
    assert cached.cache is not None
    assert plain.cache is None
    # Activations are kept as float16: each layer hands the error on, and each update adds that of its gradient.
    updates = 3 * (cached.counts["train"] // 24)
    bound = updates * ABOVE * 2**-11
    for ours, theirs in zip(cached.history, plain.history, strict=True):
        assert ours.lr == theirs.lr
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=bound)
        assert ours.val_loss == pytest.approx(theirs.val_loss, rel=bound)
    ours, theirs = state("cached"), state("plain")
    assert ours.keys() == theirs.keys()
    for name in ours:
        moved = SMALL["lr"] * updates  # by gradients of about 1
        assert torch.allclose(ours[name].double(), theirs[name].double(), rtol=bound, atol=moved * bound), (
            name
        )
    again = finetune(digits, recipe=recipe, run="again", **QUIET)
    assert curve(again) == curve(cached)


@pytest.mark.parametrize(
    ("processor", "asked", "computed"),
    [({}, "auto", "fp32"), ({"amx_bf16": True}, "auto", "fp32"), ({"amx_bf16": True}, "bf16", "bf16")],
    ids=["without bf16", "with bf16", "bf16 asked for"],
)
def test_activations_use_training_precision_and_features_that_of_the_head(
    digits, monkeypatch, processor, asked, computed
):
    """Whatever is fastest for features on this processor."""
    monkeypatch.setattr("frostline.features.engines.plan._cpu_capabilities", lambda: processor)
    recipe = Recipe(epochs=1, batch_size=48, frost_line=LINE, augment="none", precision=asked)
    result = finetune(digits, recipe=recipe, run="run", **QUIET)
    spec = FeatureCache.open(result.cache).spec
    assert (spec.precision, spec.device, spec.dtype) == (computed, "cpu", "float16")
    evaluate("run")
    assert FeatureCache.open("run/features.h5").spec.precision == "fp32"


def test_cached_views_vary_between_epochs(digits):
    recipe = Recipe(**SMALL, frost_line=LINE, views=3)
    result = finetune(digits, recipe=recipe, run="varied", **QUIET)
    cache = FeatureCache.open(result.cache)
    assert cache.spec.views == 3
    plain = finetune(digits, recipe=Recipe(**SMALL, frost_line=LINE, augment="none"), run="plain", **QUIET)
    assert plain.cache != result.cache
    assert curve(plain) != curve(result)
    own = FeatureCache.open(plain.cache)
    assert np.array_equal(cache.features(view=0), own.features())
    assert not np.array_equal(cache.features(view=1), cache.features(view=2))
    with pytest.raises(FinetuneError, match="views > 1 needs a cache"):
        finetune(digits, recipe=Recipe(**SMALL, views=2), run="x", **QUIET)


def test_head_alone_trains_on_cached_embeddings(digits):
    recipe = Recipe(**SMALL, frost_line="all", augment="none")
    result = finetune(digits, recipe=recipe, run="run", **QUIET)
    dim = load_backbone(BACKBONE["backbone"], weights="random:1").layers()["embedding"].dim
    assert result.trained == 3 * dim + 3
    assert FeatureCache.open(result.cache).layers[0].key == "embedding"
    tuned = load_backbone("run:run")
    own = load_backbone(BACKBONE["backbone"], weights="random:1").module.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in tuned.module.state_dict().items())


def test_frost_line_moves_down(digits):
    recipe = Recipe(**(SMALL | {"epochs": 4}), frost_line=LINE, unfreeze_every=2)
    result = finetune(digits, recipe=recipe, run="run", fractions=(0.8, 0, 0.2), **QUIET)
    assert [epoch.frost_line for epoch in result.history] == [LINE, LINE, "layer1", "layer1"]
    own = load_backbone(BACKBONE["backbone"], weights="random:1").module.state_dict()
    after = state("run")
    assert not torch.equal(after["layer2.0.conv1.weight"], own["layer2.0.conv1.weight"])
    assert torch.equal(after["layer1.0.conv1.weight"], own["layer1.0.conv1.weight"])


def test_lp_ft_starts_from_head_fitted_on_training_rows(digits):
    extract(digits, cache="plain.h5", **BACKBONE, **EXACT)
    train_head("plain.h5", "linear", run="linear")
    recipe = Recipe(**FP32, epochs=1, batch_size=24, lr=1e-8, augment="none", warmup=0, frost_line="all")
    started = finetune(digits, recipe=recipe, run="tuned", from_run="linear", cached=False, **QUIET)
    cache = FeatureCache.open("plain.h5")
    run = load_run("linear")
    split, _ = split_rows(cache)
    train, val = np.flatnonzero(split == Split.TRAIN), np.flatnonzero(split == Split.VAL)
    params = run.record.head.params
    alone = fit_head(
        "linear",
        LabelledRows(cache.features(), cache.labels, train, val, cache.classes),
        FitOptions(params),
        refit=False,
    )
    assert started.validation["accuracy"] == pytest.approx(alone.validation["accuracy"], abs=0.04)
    assert started.validation["log_loss"] == pytest.approx(alone.validation["log_loss"], rel=0.1)
    on_from = finetune(digits, recipe=recipe, run="further", from_run="tuned", workers=0, device="cpu")
    assert on_from.backbone == started.backbone
    with pytest.raises(FinetuneError, match="trained with transform"):
        finetune(
            digits,
            recipe=recipe,
            run="x",
            from_run="linear",
            workers=0,
            backbone=BACKBONE["backbone"],
            weights="random:1",
        )
    train_head("plain.h5", "mlp", run="mlp", params={"epochs": 2})
    with pytest.raises(FinetuneError, match="has a 'mlp' head"):
        finetune(digits, recipe=recipe, run="x", from_run="mlp", **QUIET)


def trained_names(run, cache):
    """Names of the images that a run was trained or selected on."""
    return {
        str(name) for name in cache.ids[np.isin(image_digests(cache.content), load_run(run).split.trained)]
    }


@pytest.mark.parametrize("route", ["from a head", "from a network", "a head on the network"])
def test_what_a_run_held_out_stays_held_out_in_training_that_starts_from_it(digits, route):
    """Also if the run was divided by the rule of version 3."""
    recipe = Recipe(**FP32, epochs=1, batch_size=24, lr=1e-8, augment="none", warmup=0, frost_line="all")
    cache = FeatureCache.open(extract(digits, cache="plain.h5", **BACKBONE, **EXACT).cache)
    if route == "from a head":
        train_head("plain.h5", "linear", run="first", params={"l2": 0.1})
    else:
        finetune(digits, recipe=recipe, run="first", **QUIET)
    by_class = trained_names("first", cache)
    as_of_version_3("first", cache)
    held_out = {*map(str, cache.ids)} - trained_names("first", cache)
    assert held_out & by_class  # the rules differ
    if route == "a head on the network":
        tuned = extract(digits, backbone="run:first", cache="tuned.h5", **EXACT).cache
        train_head(tuned, "linear", run="second", params={"l2": 0.1})
    elif route == "from a head":
        finetune(digits, recipe=recipe, run="second", from_run="first", cached=False, **QUIET)
    else:
        finetune(digits, recipe=recipe, run="second", from_run="first", workers=0, device="cpu")
    assert not held_out & trained_names("second", cache)
    assert load_run("second").record.split.rule == 1


def test_a_head_whose_cache_was_moved_is_asked_for(digits):
    extract(digits, cache="plain.h5", **BACKBONE, **EXACT)
    train_head("plain.h5", "linear", run="linear", params={"l2": 0.1})
    Path("plain.h5").rename("moved.h5")
    recipe = Recipe(**FP32, epochs=1, batch_size=24, augment="none", frost_line="all")
    with pytest.raises(
        FinetuneError, match=r"linear was trained on .*plain\.h5, which does not exist.*train-head"
    ):
        finetune(digits, recipe=recipe, run="x", from_run="linear", cached=False, **QUIET)


def test_patience_stops_early_and_keeps_best_epoch(digits):
    recipe = Recipe(
        **FP32, epochs=30, batch_size=24, lr=1e-7, patience=2, augment="none", schedule="constant", warmup=0
    )
    result = finetune(digits, recipe=recipe, run="run", **QUIET)
    assert len(result.history) < 30
    assert len(result.history) == result.best_epoch + 2
    best = max(result.history, key=lambda epoch: (epoch.val_accuracy, -epoch.val_loss))
    assert result.best_epoch == best.epoch
    assert result.validation["accuracy"] == best.val_accuracy


def test_layer_decay_sets_learning_rates():
    net = load_backbone(BACKBONE["backbone"], weights="random:1")
    whole = trunk(net)
    network = Network(whole, torch.nn.Linear(net.layers()["embedding"].dim, 3), net.transform, 0.0)
    line = FrostLine(whole, net.stages(), 1)
    recipe = Recipe(**FP32, lr=1.0, layer_decay=0.5, backbone_lr=0.1, frost_line="stem")
    groups = line.groups(network, recipe, from_scratch=False)
    rate = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    names = dict(network.named_parameters())
    depth = {stage.name: len(net.stages()) - index for index, stage in enumerate(net.stages())}
    assert rate[id(network.head.weight)] == (1.0, recipe.decay())
    assert rate[id(network.head.bias)] == (1.0, 0.0)
    weight = names["body.layer2.0.conv1.weight"]
    assert rate[id(weight)] == (0.1 * 0.5 ** depth["layer2"], recipe.decay())
    assert rate[id(names["body.layer2.0.bn1.weight"])] == (0.1 * 0.5 ** depth["layer2"], 0.0)
    frozen = [p for name, p in names.items() if net.stages()[0].owns(name.removeprefix("body."))]
    assert frozen
    assert not any(id(p) in rate for p in frozen)


@pytest.mark.parametrize(
    ("options", "recipe", "error", "message"),
    [
        ({"cached": True}, {"frost_line": LINE}, FinetuneError, "can't be cached: images are augmented anew"),
        ({"cached": True}, {"augment": "none"}, FinetuneError, "can't be cached: nothing is frozen"),
        ({}, {"frost_line": "layer9"}, LayerError, r"layer9.*did you mean"),
        ({"from_scratch": True}, {}, FinetuneError, "excludes --weights"),
        (
            {"from_scratch": True, "weights": None},
            {"frost_line": LINE},
            FinetuneError,
            "freezing needs pretrained weights",
        ),
        ({}, {"batch_size": 4096, "accumulate": 128}, FinetuneError, "can't be divided"),
        ({"log_to": "wandb"}, {}, OptionError, "expected one of tensorboard, mlflow, or None"),
        ({"device": "tpu"}, {}, OptionError, "device: got 'tpu', expected one of auto, cpu, cuda, mps"),
        ({"device": "cuda"}, {}, FinetuneError, "device 'cuda' isn't available"),
        ({}, {"precision": "fp16"}, FinetuneError, "fp16' trains on CUDA only"),
    ],
)
@pytest.mark.usefixtures("cpu")
def test_incompatible_options_are_refused(digits, options, recipe, error, message):
    with pytest.raises(error, match=message):
        finetune(digits, recipe=Recipe(**(SMALL | recipe)), run="run", **(QUIET | options))
    assert not Path("run").exists()


def test_recipe_of_another_type_is_refused(digits):
    with pytest.raises(OptionError, match=r"recipe: got {'epochs': 3}, expected a Recipe"):
        finetune(digits, recipe={"epochs": 3})


@pytest.mark.parametrize(
    ("batch", "accumulate", "size", "fits"),
    [(1, 1, 8, False), (4, 4, 8, False), (4, 2, 8, True), (1, 1, 64, True)],
)
def test_steps_of_one_image_are_refused_where_batch_norm_sees_one_value(
    digits, batch, accumulate, size, fits
):
    recipe = Recipe(**FP32, epochs=1, batch_size=batch, accumulate=accumulate, statistics="batch")
    options = {**QUIET, "image_size": size, "recipe": recipe, "limit": 24}
    if fits:
        assert finetune(digits, run="run", **options).best_epoch == 1
        return
    with pytest.raises(
        FinetuneError, match=r"one image, and batch normalisation \(body\.\S+.*Raise --batch-size"
    ):
        finetune(digits, run="run", **options)
    assert not Path("runs").exists()
    frozen = dataclasses.replace(recipe, statistics="frozen")  # the statistics of the weights need no batch
    assert finetune(digits, run="run", **(options | {"recipe": frozen})).best_epoch == 1


def test_divergence_raises(digits):
    recipe = Recipe(**FP32, epochs=5, batch_size=24, lr=1e38, augment="none", warmup=0, frost_line="all")
    with pytest.raises(FinetuneError, match="diverged"):
        finetune(digits, recipe=recipe, run="run", **QUIET)


def test_unreadable_images_are_skipped_and_named(digits, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(digits, data)
    (data / "1" / "broken.png").write_bytes(b"\x89PNG not")
    said = []

    class Listener(KillsAt):
        def warn(self, message):
            said.append(message)

    result = finetune(data, recipe=Recipe(**SMALL), run="run", max_bad=0.1, report=Listener(10**9), **QUIET)
    assert sum(result.counts.values()) == 120
    assert any("1/broken.png" in message for message in said)


def test_frozen_images_are_decoded_once(digits, monkeypatch):
    """Training on cached activations reads no image after the first pass."""
    recipe = Recipe(**SMALL, frost_line=LINE, augment="none")
    reads = []
    source = open_source(digits)
    own = type(source).read
    monkeypatch.setattr(type(source), "read", lambda self, row: reads.append(row) or own(self, row))
    finetune(digits, recipe=recipe, run="run", **QUIET)
    assert len(reads) <= 2 * 120 + 32  # looked over, extracted, and some to compare engines


def test_epochs_are_logged_to_tensorboard(digits):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs the extra tensorboard"
    )
    result = finetune(digits, recipe=Recipe(**SMALL), run="run", log_to="tensorboard", **QUIET)
    events = accumulator.EventAccumulator("run/tensorboard")
    events.Reload()
    logged = [event.value for event in events.Scalars("val/accuracy")]
    assert logged == pytest.approx([epoch.val_accuracy for epoch in result.history])


def test_validation_predictions_are_those_of_the_kept_epoch(digits):
    result = finetune(digits, recipe=Recipe(**SMALL), run="run", **QUIET)
    with Path("run/validation_predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == result.counts["val"]
    right = np.mean([row["label"] == row["predicted"] for row in rows])
    assert right == pytest.approx(result.validation["accuracy"])


def test_validation_predictions_are_those_of_the_saved_network(digits):
    """Also with averaged weights, which are in another network while the epochs run."""
    recipe = Recipe(**FP32, epochs=2, batch_size=16, lr=0.05, augment="none", ema=0.5, statistics="batch")
    run = finetune(digits, recipe=recipe, run="averaged", **QUIET).run
    evaluate(run)
    cache = FeatureCache.open(run / "features.h5")
    saved = Predictions.read(run / "validation_predictions.csv")
    rows = {str(name): row for row, name in enumerate(cache.ids)}
    features = np.asarray(cache.features(cache.layers[0].key))[[rows[str(name)] for name in saved.ids]]
    probability = load_run(run).head().predict_proba(features).max(axis=1)
    assert saved.probability == pytest.approx(probability, abs=1e-3)


def test_test_images_are_never_trained_on(digits, monkeypatch):
    """Each batch that is trained on or judged by is made of train and val rows."""
    seen = set()
    own = _Images.__getitem__
    monkeypatch.setattr(_Images, "__getitem__", lambda self, key: seen.add(key[1]) or own(self, key))
    finetune(digits, recipe=Recipe(**SMALL), run="run", **QUIET)
    trained = {bytes(row).ljust(16, b"\0") for row in load_run("run").split.trained}
    source = open_source(digits)
    net = load_backbone(BACKBONE["backbone"], weights="random:1")
    content = {
        int(row): digest.tobytes()
        for batch in load_batches(source, np.arange(120), net.transform, batch_size=40, block_rows=120)
        for row, digest in zip(batch.rows, batch.content, strict=True)
    }
    assert {content[row] for row in seen} <= trained


def test_repeating_commands_reproduce_the_run(digits):
    recipe = Recipe(**SMALL, frost_line=LINE, augment="none", nesterov=False)
    finetune(digits, recipe=recipe, run="run", **QUIET)
    (line,) = repeating_commands(load_run("run"))
    program, *words = shlex.split(line)
    assert program == "frostline"
    subprocess.check_call(
        [sys.executable, "-m", "frostline", *words, "--quiet", "--workers", "0"], env=environment()
    )
    ours, theirs = state("run"), state("run-again")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
