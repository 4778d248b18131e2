"""Run `frostline extract` again on an unchanged set of 60,000 files, and report where its time goes.

python benchmarks/unchanged.py [--images 60000] [--rounds 5]

The files are real. The features in the cache are zeros, since they are never read.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from frostline.commands.interface.terminal import print_table
from frostline.features.cache import FeatureCache, open_writer
from frostline.features.content import file_content
from frostline.features.sources import open_source

LIMIT = 2.0  # seconds beyond import
CLASSES = 100
YESTERDAY = time.time() - 86_400  # a cache trusts the times only of files older than itself
UNWANTED = ("sklearn", "skops", "matplotlib", "pandas", "pyarrow", "openvino", "scipy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--measure", nargs=2, type=Path, metavar=("DATA", "CACHE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        data, cache = options.measure
        print(json.dumps(measure(data, cache, options.backbone)))
        return
    with tempfile.TemporaryDirectory() as folder:
        data, cache = Path(folder, "images"), Path(folder, "images.h5")
        write_images(data, options.images)
        write_cache(data, cache, options.backbone)
        arguments = ["--backbone", options.backbone]
        this = [sys.executable, __file__, "--measure", str(data), str(cache), *arguments]
        command = [sys.executable, "-m", "frostline", "extract", str(data), "--cache", str(cache), *arguments]
        rounds = []
        for _ in range(options.rounds):
            shares = json.loads(run(this))
            rounds.append(shares | {"the whole command": clock(lambda: run(command))})
    report({name: statistics.median(each[name] for each in rounds) for name in rounds[0]}, options.images)


def write_images(folder: Path, count: int) -> None:
    for name in range(CLASSES):
        (folder / f"{name:02}").mkdir(parents=True)
    for index in range(count):
        buffer = io.BytesIO()
        Image.new("RGB", (2, 2), (index & 255, index >> 8 & 255, index >> 16)).save(buffer, "PNG")
        path = folder / f"{index % CLASSES:02}" / f"{index:08}.png"
        path.write_bytes(buffer.getvalue())
        os.utime(path, (YESTERDAY, YESTERDAY))


def write_cache(data: Path, cache: Path, backbone: str) -> None:
    """Extract a few images for the specification, then write a cache of it for all of them."""
    few = cache.with_name("few.h5")
    run([sys.executable, "-m", "frostline", "extract", str(data), "--limit", "8", "--cache", str(few), "--backbone", backbone])  # fmt: skip
    made, source = FeatureCache.open(few), open_source(data)
    writer = open_writer(cache, made.spec, source)
    if isinstance(writer, FeatureCache):
        raise TypeError(f"{cache}: a cache was there already")
    with writer:
        for start in range(0, writer.rows, writer.block_rows):
            rows = writer.todo[start : start + writer.block_rows]
            content = b"".join(file_content(source.read(row)[0]) for row in rows.tolist())
            writer.put(
                rows,
                {layer.key: np.zeros((len(rows), 1, layer.dim), np.float32) for layer in made.layers},
                content=np.frombuffer(content, np.uint8).reshape(len(rows), -1),
                stamps=source.table.stamps[rows],
                status=np.ones(len(rows), np.uint8),
                errors=[""] * len(rows),
            )
        writer.finish()


def run(command: list[str]) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def clock(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(data: Path, cache: Path, backbone: str) -> dict[str, float]:
    """Seconds of each stage of one extraction, in a process that does nothing else."""
    shares: dict[str, float] = {}

    def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return work(*arguments, **options)
            finally:
                shares[name] = shares.get(name, 0) + time.perf_counter() - started

        return wrapper

    timed("import torch", lambda: __import__("torch"))()
    timed("import timm and torchvision", lambda: __import__("timm"))()
    timed("import Frostline", lambda: __import__("frostline.pipeline.extraction.extract"))()
    from frostline.features.backbones import Backbone
    from frostline.pipeline.extraction import compute, extract
    from frostline.pipeline.inputs import networks, sources

    for module, name in (
        (sources, "open_source"),
        (networks, "load_backbone"),
        (compute, "plan_computation"),
        (compute, "open_writer"),
    ):
        setattr(module, name, timed(name, getattr(module, name)))
    resolve = "resolve_layers"
    setattr(Backbone, resolve, timed(resolve, getattr(Backbone, resolve)))
    result: list[extract.ExtractResult] = []
    total = clock(lambda: result.append(extract.extract(data, cache=cache, backbone=backbone)))
    if not result[0].unchanged:
        sys.exit(f"not recognised as unchanged: {result[0]}")
    if loaded := [name for name in UNWANTED if name in sys.modules]:
        sys.exit(f"imported without need: {loaded}")
    rest = total - sum(seconds for name, seconds in shares.items() if not name.startswith("import"))
    return shares | {"the rest": rest, "beyond import": total}


def report(seconds: dict[str, float], images: int) -> None:
    rows = [[name, f"{value:.3f}"] for name, value in seconds.items()]
    print_table(["stage", "seconds"], rows, title=f"extract again, {images:,} unchanged images, medians")
    reached = seconds["beyond import"] < LIMIT
    print(json.dumps({"images": images, "seconds": seconds, "limit": LIMIT, "reached": reached}))
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
