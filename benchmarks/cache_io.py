"""Read a cache against np.load, np.memmap and plain h5py: whole, in shuffled minibatches, and in single rows.

python benchmarks/cache_io.py [--rows 200000] [--dim 1280] [--rounds 7]

All contenders read the same values from files in the page cache, in turn, in every round. On the first use of a layer
Frostline also verifies its checksums, once per process. This is reported on a line of its own.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from frostline.commands.interface.terminal import print_table
from frostline.features.cache import FeatureCache, open_writer
from frostline.features.spec import FeatureSpec, Layer, Transform
from frostline.features.table import ImageSource, ImageTable

Reader = Callable[[], Any]

SEQUENTIAL, SHUFFLED, SINGLE = "sequential", "shuffled minibatches", "single rows"
TARGETS = {SEQUENTIAL: ("np.load", 0.9), SHUFFLED: ("np.memmap", 0.9)}
BATCH, SINGLES = 256, 2_000
PERIOD = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where the files go; by default the temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        paths = write_files(Path(folder), options.rows, options.dim)
        seconds = compare(paths, options.rows, options.rounds)
    report(seconds, options.rows, options.dim)


class NoImages(ImageSource):
    """A source whose images are never read."""

    def __init__(self, rows: int) -> None:
        self.root = "/none"
        self.table = ImageTable(
            ids=np.char.mod(b"%09d", np.arange(rows)).astype("S"),
            labels=np.arange(rows, dtype=np.int64) % 10,
            classes=tuple("abcdefghij"),
            split=np.zeros(rows, np.uint8),
            groups=np.zeros(rows, "S1"),
            stamps=np.zeros((rows, 16), np.uint8),
        )

    def read(self, row: int) -> tuple[bytes, bytes]:
        """Never asked for."""
        raise OSError(f"{row}: no image")


def specification(dim: int) -> FeatureSpec:
    return FeatureSpec(
        backbone="benchmark:none",
        weights_sha256="0" * 64,
        transform=Transform(224, "shortest", (224, 224), "bicubic", (0.5,) * 3, (0.5,) * 3),
        layers=(Layer("embedding", "none", dim),),
        precision="bf16",
        dtype="float16",
        engine="none",
        device="cpu",
        decoder="none",
        versions={},
    )


def write_files(folder: Path, rows: int, dim: int) -> dict[str, Path]:
    paths = {name: folder / f"features.{name}" for name in ("h5", "npy", "plain")}
    values = np.random.default_rng(0).standard_normal(PERIOD, np.float32)
    plain = np.lib.format.open_memmap(paths["npy"], "w+", np.float16, (rows, dim))
    writer = open_writer(paths["h5"], specification(dim), NoImages(rows))
    if isinstance(writer, FeatureCache):
        raise TypeError("the folder is not empty")
    with writer, h5py.File(paths["plain"], "w") as file:
        dataset = file.create_dataset("features", (rows, dim), np.float16)
        for start in range(0, rows, writer.block_rows):
            block = writer.todo[start : start + writer.block_rows]
            shift = start * 7919 % PERIOD
            features = np.resize(np.roll(values, shift), (len(block), dim))
            plain[block[0] : block[-1] + 1] = dataset[block[0] : block[-1] + 1] = features
            writer.put(
                block,
                {"embedding": features[:, None]},
                content=np.ones((len(block), 16), np.uint8),
                stamps=np.zeros((len(block), 16), np.uint8),
                status=np.ones(len(block), np.uint8),
                errors=[""] * len(block),
            )
        writer.finish()
    plain.flush()
    return paths


def compare(paths: dict[str, Path], rows: int, rounds: int) -> dict[str, dict[str, float]]:
    draw = np.random.default_rng(1)
    cache = FeatureCache.open(paths["h5"])
    cache.features()  # verified now, as in any epoch but the first
    with h5py.File(paths["plain"], "r") as file:
        arrays = {
            "Frostline": cache.features(),
            "np.memmap": np.load(paths["npy"], mmap_mode="r"),
            "np.load": np.load(paths["npy"]),
            "h5py": file["features"],
        }
        contenders = {SEQUENTIAL: whole_readers(paths, cache)}
        for what in (SHUFFLED, SINGLE):
            contenders[what] = {name: row_reader(array, what, draw, rows) for name, array in arrays.items()}
        return {what: race(readers, rounds) for what, readers in contenders.items()}


def whole_readers(paths: dict[str, Path], cache: FeatureCache) -> dict[str, Reader]:
    """Each puts all features into memory, from opening the file on; "verified" only where the name says so."""

    def plain_h5py() -> Any:
        with h5py.File(paths["plain"], "r") as file:
            return file["features"][:]

    return {
        "Frostline": lambda: np.array(cache.features()),
        "Frostline, opened and verified": lambda: np.array(FeatureCache.open(paths["h5"]).features()),
        "Frostline, opened and verified, in place": lambda: FeatureCache.open(paths["h5"]).features(),
        "np.load": lambda: np.load(paths["npy"]),
        "np.memmap": lambda: np.array(np.load(paths["npy"], mmap_mode="r")),
        "h5py": plain_h5py,
    }


def row_reader(array: Any, what: str, draw: np.random.Generator, rows: int) -> Reader:
    def batches() -> None:
        order = draw.permutation(rows)[: max(rows // 4, BATCH)]
        for start in range(0, len(order) - BATCH + 1, BATCH):
            take(array, order[start : start + BATCH])

    def singles() -> None:
        for row in draw.integers(0, rows, SINGLES).tolist():
            np.array(array[row])

    return batches if what == SHUFFLED else singles


def take(array: Any, rows: NDArray[np.int64]) -> Any:
    if isinstance(array, h5py.Dataset):  # it wants them in order, and gives them one by one
        order = np.argsort(rows)
        return array[rows[order]][np.argsort(order)]
    return array[rows]


def race(readers: dict[str, Reader], rounds: int) -> dict[str, float]:
    """Median seconds of each, of several rounds in which all take their turn, each time in another order."""
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    names = list(readers)
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            started = time.perf_counter()
            readers[name]()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}  # the first round warms up


def report(seconds: dict[str, dict[str, float]], rows: int, dim: int) -> None:
    reached = {}
    for what, times in seconds.items():
        rival, target = TARGETS.get(what, ("np.memmap", None))
        table = [[name, f"{time:.4f}", f"{times[rival] / time:.2f}"] for name, time in times.items()]
        print_table(
            ["reader", "seconds", f"speed / {rival}"], table, title=f"{what}, {rows:,} x {dim} float16"
        )
        print()
        if target:
            reached[what] = times[rival] / times["Frostline"] >= target
    print(json.dumps({"rows": rows, "dim": dim, "seconds": seconds, "reached": reached}))
    sys.exit(0 if all(reached.values()) else 1)


if __name__ == "__main__":
    main()
