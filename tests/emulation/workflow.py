"""One of each thing that starts processes or writes files, on a few small images, for test_systems.

Called there as it is, and in a process of its own under an emulated system.
"""

import hashlib
import json
import sys
from pathlib import Path

import torch

from frostline.features import FeatureCache
from frostline.features.cache import Part, merge_parts, open_writer
from frostline.pipeline import (
    Recipe,
    batch,
    evaluate,
    extract,
    few_shot,
    finetune,
    learning_curve,
    train_head,
)
from frostline.pipeline.runs.run import load_run
from tests.features.cache.synthetic import SPEC, fill, interrupted, source
from tests.features.cache.synthetic import extract as extract_synthetic

NETWORK = {"backbone": "timm:test_resnet", "weights": "random:1", "image_size": 32}
EXACT = {"engine": "eager", "precision": "fp32", "device": "cpu", "store": "float32", "workers": 1}
STUDY = """
[batch]
data = '{data}'
out = '{out}'
[[extract]]
backbone = "timm:test_resnet"
weights = "random:1"
image-size = 32
"""


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


def contents(path):
    """What a cache says of its images, but for what it took to compute them."""
    cache = FeatureCache.open(path)
    assert cache.verify().ok
    measured = {"seconds", "joules", "blocks"}  # the last has checksums of the others
    kept = sorted(set(cache.file.layout.extents) - measured)
    return {name: digest(cache.file.array(name).tobytes()) for name in kept}


def files(folder, *endings):
    """What files of a run hold."""
    found = sorted(path for path in Path(folder).rglob("*") if path.name.endswith(endings))
    return {path.relative_to(folder).as_posix(): digest(path.read_bytes()) for path in found}


def refused(call):
    """Message of the OSError of a call; empty where there was none."""
    try:
        call()
    except OSError as error:
        return str(error)
    return ""


def write_caches(folder):
    """Resumed, set aside, copied from, in parts, merged: with made-up features."""
    folder.mkdir()
    found = {}
    path = folder / "resumed.h5"
    interrupted(path, SPEC, source(600), batches=10)
    cache, found["computed"] = extract_synthetic(path, SPEC, source(600))
    interrupted(path, SPEC, source(900), batches=10)
    cache.close()
    cache, found["computed after a salvage"] = extract_synthetic(path, SPEC, source(1000))
    found["resumed"] = contents(path)
    found["tensor"] = float(cache.features("embedding", as_torch=True).add_(1).double().sum())
    found["file unchanged"] = cache.verify().ok
    for number in (1, 2):
        with open_writer(folder / "merged.h5", SPEC, source(600), part=Part(number, 2)) as writer:
            fill(writer, SPEC, writer.source)
            writer.finish()
    merge_parts(sorted(folder.glob("merged.h5.part-*")), delete_parts=True)
    found["merged"] = contents(folder / "merged.h5")
    with open_writer(folder / "busy.h5", SPEC, source(300)) as writer:
        fill(writer, SPEC, writer.source)
        found["busy"] = "is writing this cache" in refused(
            lambda: open_writer(folder / "busy.h5", SPEC, source(300))
        )
        writer.finish()
    return found


def replace_read(folder, data):
    """Extract to where a cache is that this process reads: how that was refused, if it was, and what was then computed."""
    path = folder / "digits.h5"
    options = {**NETWORK, **EXACT, "cache": path, "layers": ["embedding", "layer1:avg"], "overwrite": True}
    held = FeatureCache.open(path)
    rows = held.features()
    before = rows.tobytes()
    message = refused(lambda: extract(data, **options))
    assert rows.tobytes() == before
    del rows
    held.close()
    return message, extract(data, **options).computed if message else 0


def run(folder, data, *, jobs):
    """Everything; decoding for training, and the batch, in so many processes. joblib's own never fork anyway."""
    torch.set_num_threads(1)
    found = {"caches": write_caches(folder)}
    cache = extract(data, cache=folder / "digits.h5", **NETWORK, **EXACT).cache
    found["digits"] = contents(cache)
    trained = train_head(
        cache,
        "linear",
        search="random",
        trials=3,
        cv=2,
        seed=3,
        run=folder / "head",
        device="cpu",
    )
    evaluated = evaluate(trained.run)
    found["head"] = files(trained.run, ".safetensors")
    found["accuracy"] = evaluated.metrics.top1
    found["evaluations"] = len(load_run(trained.run).ledger.entries())
    shots = few_shot(cache, "centroid", shots=[1], episodes=4, out=folder / "shots")
    curve = learning_curve(cache, "centroid", points=2, draws=2, out=folder / "curve")
    found["sizes"] = files(shots.folder, ".csv") | files(curve.folder, ".csv")
    refusal, recomputed = replace_read(folder, data)
    found["replaced"] = contents(cache)
    recipe = Recipe(epochs=1, augment="flip", statistics="batch", precision="fp32", seed=5)
    tuned = finetune(
        data,
        **NETWORK,
        recipe=recipe,
        cached=False,
        run=folder / "tuned",
        device="cpu",
        workers=jobs - 1,
        caches=folder,
    )
    found["tuned"] = files(tuned.run, ".safetensors")
    study = folder / "study.toml"
    study.write_text(STUDY.format(data=data, out=folder / "out"), encoding="utf-8")
    done = batch(study, jobs=jobs)
    found["batch"] = [(job.name, job.state, job.error) for job in done.jobs]
    found["batch caches"] = [contents(job.path) for job in done.jobs]
    found["unfinished"] = [path.name for path in folder.rglob("*") if ".partial" in path.name]
    return {"found": found, "refusal": refusal, "recomputed": recomputed}


def main():
    """Print what came of everything, as one JSON document."""
    json.dump(run(*map(Path, sys.argv[1:]), jobs=2), sys.stdout)
