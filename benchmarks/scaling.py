"""Measure time per image and peak memory as a data set grows: 1, 2, 4 and 8 times the images.

python benchmarks/scaling.py [--images 512] [--rounds 3] [--backbone efficientnet_lite0] [--format png]

Each extraction runs in a process of its own, and the sizes take turns. The time is that of the forward stage, which
reads, decodes, computes and writes. The memory is the largest resident set of the process. Every size uses the same
engine. On a machine that others share, use the CPU time. It covers the whole process with its start-up, so the cost of
an image is the difference from the smallest set.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from extract import FORMATS, write_images

from frostline.commands.interface.terminal import print_table
from frostline.pipeline import extract

FACTORS = (1, 2, 4, 8)


def child(data: Path, limit: int, options: argparse.Namespace) -> None:
    """Extract, and print what it cost."""
    with tempfile.TemporaryDirectory() as folder:
        result = extract(
            data,
            backbone=options.backbone,
            weights=options.weights,
            cache=Path(folder) / "c.h5",
            engine=options.engine,
            limit=limit,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    cost = {"ms": 1000 / result.images_per_second, "mib": peak / 2**20, "cpu": time.process_time()}
    print(json.dumps(cost | {"engine": result.engine}))


def measured(data: Path, limit: int) -> dict[str, float]:
    command = [sys.executable, __file__, *sys.argv[1:], "--child", str(data), str(limit)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=512, help="of the smallest set")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights")
    parser.add_argument("--format", choices=FORMATS, default="png")
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(Path(options.child[0]), int(options.child[1]), options)
        return
    sizes = [factor * options.images for factor in FACTORS]
    found: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), options.format, sizes[-1])
        for _ in range(options.rounds):
            for size in sizes:
                found[size].append(measured(Path(folder), size))
    medians = {
        size: {name: statistics.median(run[name] for run in runs) for name in ("ms", "mib", "cpu")}
        for size, runs in found.items()
    }
    first = medians[sizes[0]]
    rows = [
        [
            str(size),
            f"{each['ms']:.2f}",
            f"{each['ms'] / first['ms']:.3f}",
            f"{1000 * (each['cpu'] - first['cpu']) / (size - sizes[0]):.2f}" if size > sizes[0] else "-",
            f"{each['mib']:.0f}",
            f"{each['mib'] / first['mib']:.3f}",
        ]
        for size, each in medians.items()
    ]
    print_table(
        ["images", "ms/image", "of the first", "CPU ms/added image", "peak MiB", "of the first"], rows
    )
    print(json.dumps({"backbone": options.backbone, "runs": found}))


if __name__ == "__main__":
    main()
