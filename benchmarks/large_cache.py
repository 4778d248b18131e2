"""Train a head, by one command, on a cache that is larger than the memory allowed, and measure its memory (Linux).

python benchmarks/large_cache.py [--rows 1000000] [--dim 1280] [--classes 10] [--memory 2GB] [--param l2=0.01] [--folder DIR] [--json FILE]

The cache is synthetic, float16, and written by Frostline's own writer. The command makes its own splits. Memory is the
process's own anonymous memory: RssAnon of /proc/PID/status, read every 20 ms. The system can drop the pages of the mapped
cache when it needs them, so RssFile is shown separately. The interpreter's own memory is that of `python -c "import torch"`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from cache_io import specification

from frostline.commands.interface.terminal import print_table
from frostline.features.cache import FeatureCache, open_writer
from frostline.features.table import ImageSource, ImageTable
from frostline.pipeline import load_run

CENTRES, NOISE = 64, 1 << 20
LIMIT = 2e9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--memory", default="2GB")
    parser.add_argument("--param", action="append", default=[], help="fixed, as for train-head")
    parser.add_argument("--folder", type=Path, help="where the cache goes; by default the temporary folder")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch_alone = watch([sys.executable, "-c", "import torch, time; time.sleep(0.2)"])
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        cache, run = Path(folder) / "large.h5", Path(folder) / "run"
        write(cache, options.rows, options.dim, options.classes)
        command = [
            sys.executable,
            "-m",
            "frostline",
            "train-head",
            str(cache),
            "--run",
            str(run),
            "--memory",
            options.memory,
        ]
        command += [word for param in options.param for word in ("--param", param)]
        training = watch([*command, "--device", "cpu", "--quiet"])
        record = load_run(run).record
        size = cache.stat().st_size
    own = training["RssAnon"] - torch_alone["RssAnon"]
    result = {
        "rows": options.rows,
        "cache, bytes": size,
        "train rows": record.split.counts.train,
        "seconds": training["seconds"],
        "RssAnon above the interpreter's, bytes": own,
        "RssAnon of the interpreter with torch, bytes": torch_alone["RssAnon"],
        "RssFile, bytes": training["RssFile"],
        "validation": msgspec.structs.asdict(record.metrics.validation),
        "trials": len(record.trials),
        "all converged": all(trial["converged"] for trial in record.trials),
    }
    lines = [
        [name, f"{value:,.4g}" if isinstance(value, float) else str(value)] for name, value in result.items()
    ]
    print_table(["", "value"], lines, title="frostline " + " ".join(command[3:]))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))
    if own > LIMIT:
        sys.exit(f"RssAnon grew by {own / 1e9:.2f} GB, expected at most {LIMIT / 1e9:.0f} GB")


class Images(ImageSource):
    """Labelled images that are never read."""

    root = "/images"

    def __init__(self, labels: Any, classes: int) -> None:
        count = len(labels)
        self.table = ImageTable(
            ids=np.array([b"%09d.jpg" % row for row in range(count)], "S13"),
            labels=labels,
            classes=tuple(f"class {number:04d}" for number in range(classes)),
            split=np.zeros(count, np.uint8),
            groups=np.zeros(count, "S1"),
            stamps=np.zeros((count, 16), np.uint8),
        )

    def read(self, row: int) -> tuple[bytes, bytes]:
        """Never asked for."""
        raise OSError(f"row {row} has no image")


def write(path: Path, rows: int, dim: int, classes: int) -> None:
    """A cache of correlated features, of very different scales, in classes that overlap."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, rows)
    centres = 0.6 * rng.standard_normal((classes, CENTRES), np.float32)
    mixing = (
        rng.standard_normal((CENTRES, dim), np.float32)
        * np.geomspace(1, 0.1, CENTRES, dtype=np.float32)[:, None]
    )
    scale = np.geomspace(0.1, 10, dim, dtype=np.float32)
    noise = 0.7 * rng.standard_normal(NOISE, np.float32)
    writer = open_writer(path, specification(dim), Images(labels, classes))
    if isinstance(writer, FeatureCache):
        raise TypeError("the folder is not empty")
    with writer:
        for start in range(0, rows, 16 * writer.block_rows):
            block = writer.todo[start : start + 16 * writer.block_rows]
            hidden = centres[labels[block]] + 1.5 * rng.standard_normal((len(block), CENTRES), np.float32)
            features = hidden @ mixing
            features += np.resize(np.roll(noise, int(rng.integers(NOISE))), features.shape)
            features *= scale
            writer.put(
                block,
                {"embedding": features[:, None]},
                content=rng.integers(0, 256, (len(block), 16), np.uint8),
                stamps=np.zeros((len(block), 16), np.uint8),
                status=np.ones(len(block), np.uint8),
                errors=[""] * len(block),
            )
        writer.finish()


def watch(command: list[str]) -> dict[str, float]:
    """Seconds that a command takes, and the most memory it has of each sort, in bytes."""
    most = {"RssAnon": 0.0, "RssFile": 0.0}
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            for line in status.read_text().splitlines():
                field, _, value = line.partition(":")
                if field in most:
                    most[field] = max(most[field], 1024.0 * int(value.split()[0]))
            time.sleep(0.02)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: exit status {process.returncode}")
    return {"seconds": time.perf_counter() - started, **most}


if __name__ == "__main__":
    main()
