"""List the images of a manifest of a million rows, of files that are there and of files that are missing.

python benchmarks/manifest.py [--rows 1000000] [--rounds 3] [--against CHECKOUT]

With another checkout of Frostline, the two list the same manifests in turn, each in a process of its own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from frostline.commands.interface.terminal import print_table

FOLDERS = 1_000
KINDS = {"present": "images", "missing": "gone", "missing, with accents": "été"}
LIMIT = 100.0  # seconds for a million missing files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", type=Path, help="another checkout of Frostline")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(measure(options.measure))
        return
    checkouts = {"this": Path(__file__).parents[1]}
    if options.against:
        checkouts["other"] = options.against.resolve()
    seconds: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in checkouts} for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), options.rows)
        for _ in range(options.rounds):
            for kind, measured in seconds.items():
                for name, checkout in checkouts.items():
                    measured[name].append(listed(checkout, Path(folder, f"{kind}.csv")))
    medians = {
        kind: {name: statistics.median(each) for name, each in measured.items()}
        for kind, measured in seconds.items()
    }
    report(medians, options.rows)


def write_files(folder: Path, rows: int) -> None:
    names = [f"{index % FOLDERS:03}/{index:07}.jpg" for index in range(rows)]
    for index in range(min(FOLDERS, rows)):
        (folder / "images" / f"{index:03}").mkdir(parents=True)
    for name in names:
        (folder / "images" / name).touch()
    for kind, parent in KINDS.items():
        lines = [f"{parent}/{name},{name[:3]}\n" for name in names[1:]]
        text = f"path,label\nimages/{names[0]},000\n" + "".join(lines)
        (folder / f"{kind}.csv").write_text(text, encoding="utf-8")


def listed(checkout: Path, manifest: Path) -> float:
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    command = [sys.executable, __file__, "--measure", str(manifest)]
    return float(subprocess.check_output(command, env=environment, text=True))


def measure(manifest: Path) -> float:
    from frostline.features.sources import open_source

    started = time.perf_counter()
    open_source(manifest)
    return time.perf_counter() - started


def report(medians: dict[str, dict[str, float]], rows: int) -> None:
    names = list(next(iter(medians.values())))
    cells = [[kind, *(f"{found[name]:.1f}" for name in names)] for kind, found in medians.items()]
    print_table(["files", *(f"{name}, s" for name in names)], cells, title=f"list {rows:,} rows, medians")
    reached = medians["missing"]["this"] * 1e6 / rows < LIMIT
    print(json.dumps({"rows": rows, "seconds": medians, "limit": LIMIT, "reached": reached}))
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
