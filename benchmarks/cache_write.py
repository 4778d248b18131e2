"""Measure what writing a cache costs beside a fast forward pass, and what a million rows take in time and memory.

python benchmarks/cache_write.py [--rows 100000] [--many 1000000]

A simulated engine gives 5,000 images per second, sleeps in between, and hands its rows to a cache. The cost is the time
that `put` and `finish` add, and the CPU time of all writing as a share of the time of all cores. The million small rows
are written as fast as the cache takes them.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from cache_io import NoImages, specification

from frostline.commands.interface.terminal import print_table
from frostline.features.cache import CacheWriter, FeatureCache, open_writer

RATE = 5_000  # images a second, of a fast engine on one GPU
BATCH = 256
LIMIT = 0.03


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the files go; by default the temporary folder")
    parser.add_argument(
        "--measure", nargs=3, type=int, metavar=("ROWS", "DIM", "RATE"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.measure:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            print(json.dumps(measure(Path(folder), *options.measure)))
        return
    found = {
        "many": in_a_process(options.many, 16, 0, options.folder),
        "wide": in_a_process(options.rows, 1280, RATE, options.folder),
    }
    report(found, options.many, options.rows)


def in_a_process(rows: int, dim: int, rate: int, folder: Path | None) -> dict[str, float]:
    place = ["--folder", str(folder)] if folder else []
    command = [sys.executable, __file__, "--measure", str(rows), str(dim), str(rate), *place]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def measure(folder: Path, rows: int, dim: int, rate: int) -> dict[str, float]:
    import torch  # as every extraction has

    torch.set_num_threads(1)
    path, source = folder / "c.h5", NoImages(rows)
    features = np.random.default_rng(0).standard_normal((BATCH, 1, dim), np.float32)
    found = {"memory before, MB": peak()}
    started = time.perf_counter()
    writer = opened(open_writer(path, specification(dim), source))
    found["open_writer"] = time.perf_counter() - started
    working, started, computing = time.process_time(), time.perf_counter(), 0.0
    with writer:
        for start in range(0, rows, BATCH):
            computing += compute(rate)
            put(writer, writer.todo[start : start + BATCH], features)
        writer.finish()
    found["computing"] = computing
    found["put and finish"] = time.perf_counter() - started - computing
    found["CPU of put and finish"] = time.process_time() - working
    found["memory at most, MB"] = peak()
    started = time.perf_counter()
    cache = FeatureCache.open(path)
    found["FeatureCache.open"] = time.perf_counter() - started
    started = time.perf_counter()
    len(cache.ids)
    found["ids as str"] = time.perf_counter() - started
    del cache
    started = time.perf_counter()
    if not isinstance(open_writer(path, specification(dim), source), FeatureCache):
        raise TypeError("the cache is not recognised")
    found["open_writer, unchanged"] = time.perf_counter() - started
    found["file, MB"] = path.stat().st_size / 1e6
    return found


def compute(rate: int) -> float:
    """Wait for as long as a batch takes; returns how long that was."""
    started = time.perf_counter()
    if rate:
        time.sleep(BATCH / rate)
    return time.perf_counter() - started


def opened(writer: CacheWriter | FeatureCache) -> CacheWriter:
    if isinstance(writer, FeatureCache):
        raise TypeError("the folder is not empty")
    return writer


def put(writer: CacheWriter, rows: Any, features: Any) -> None:
    count = len(rows)
    writer.put(
        rows,
        {"embedding": features[:count]},
        content=np.ones((count, 16), np.uint8),
        stamps=np.zeros((count, 16), np.uint8),
        status=np.ones(count, np.uint8),
        errors=[""] * count,
    )


def peak() -> float:
    """Largest memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(found: dict[str, dict[str, float]], many: int, rows: int) -> None:
    table = [[name, f"{value:,.2f}", f"{found['wide'][name]:,.2f}"] for name, value in found["many"].items()]
    print_table(["seconds, or MB", f"{many:,} x 16", f"{rows:,} x 1280"], table)
    wide, cores = found["wide"], len(os.sched_getaffinity(0))
    shares = {
        "time": wide["put and finish"] / wide["computing"],
        "CPU": wide["CPU of put and finish"] / wide["computing"] / cores,
    }
    print(
        f"at {RATE:,} images a second: {shares['time']:.1%} more time, {shares['CPU']:.1%} of {cores} cores"
    )
    reached = shares["time"] < LIMIT
    print(json.dumps({"seconds": found, "shares": shares, "limit": LIMIT, "reached": reached}))


if __name__ == "__main__":
    main()
