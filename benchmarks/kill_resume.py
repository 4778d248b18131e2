"""Kill an extraction with SIGKILL at random moments, resume it each time, and compare with an uninterrupted one.

python benchmarks/kill_resume.py [--kills 20] [--backbone timm:test_resnet --weights random]
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from frostline.features import FeatureCache
from frostline.pipeline.demo import write_digits


def extract(data: Path, cache: Path, backbone: list[str]) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "frostline",
        "extract",
        str(data),
        "--cache",
        str(cache),
        "--json",
        *backbone,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def whole_run(data: Path, cache: Path, backbone: list[str]) -> dict[str, int]:
    output, errors = (process := extract(data, cache, backbone)).communicate()
    if process.returncode:
        sys.exit(errors.decode())
    return dict(json.loads(output))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--backbone", default="timm:test_resnet")
    parser.add_argument("--weights", default="random")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    backbone = ["--backbone", options.backbone, *(["--weights", options.weights] if options.weights else [])]
    draw = random.Random(options.seed)  # noqa: S311  # moments, not secrets

    with tempfile.TemporaryDirectory() as folder:
        data, killed, whole = (Path(folder) / name for name in ("digits", "killed.h5", "whole.h5"))
        write_digits(data)
        started = time.perf_counter()
        whole_run(data, whole, backbone)
        span = time.perf_counter() - started
        kills = starts = 0
        while kills < options.kills:
            starts += 1
            process = extract(data, killed, backbone)
            partial = Path(f"{killed}.partial")
            while process.poll() is None and not partial.exists():
                time.sleep(0.005)
            # Most kills fall into the rows' writing, some into what comes before and after it.
            time.sleep(draw.uniform(0, span / 4))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
                print(f"kill {kills:2}: finished file {'there' if killed.exists() else 'not there'}")
            process.communicate()
            if process.returncode == 0 and kills < options.kills:
                killed.unlink()  # it ended before the kill: begin again
        last = whole_run(data, killed, backbone)
        print(
            f"{kills} kills in {starts} starts; the last run resumed {last['resumed']} rows and computed {last['computed']}"
        )
        compare(killed, whole)


def compare(one: Path, other: Path) -> None:
    a, b = FeatureCache.open(one), FeatureCache.open(other)
    same = {
        "ids": bool((a.ids == b.ids).all()),
        "labels": bool((a.labels == b.labels).all()),
        "content": a.content.tobytes() == b.content.tobytes(),
        "features": all(
            a.features(layer.key).tobytes() == b.features(layer.key).tobytes() for layer in a.layers
        ),
        "checksums": a.verify().ok and b.verify().ok,
    }
    print("byte for byte equal:", json.dumps(same))
    sys.exit(0 if all(same.values()) else 1)


if __name__ == "__main__":
    main()
