"""Compare transfer learning, fine-tuning and training from scratch, and measure what caching below the frost line saves.

python benchmarks/finetune.py [DATA] [--image-size 96] [--frost-line blocks.5] [--epochs 5] [--seeds 3] [--scratch-epochs 5]

On the same images and splits it trains: a linear head on cached features; the upper part of the network on activations
cached below its frost line, and the same on images, one after the other for each seed; the whole network, started from
the linear head (LP-FT); and a small network from scratch. Accuracy is on the validation images. The last table is on the
test images, which are evaluated once at the end. Without DATA, scikit-learn's scanned digits are used.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from frostline.commands.interface.terminal import TerminalReporter, print_table
from frostline.pipeline import FinetuneResult, Recipe, evaluate, extract, finetune, load_run, train_head
from frostline.pipeline.demo import write_digits

BACKBONE = "efficientnet_lite0"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--frost-line", default="blocks.5")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scratch", default="small:resnet18")
    parser.add_argument("--scratch-epochs", type=int, default=5)
    parser.add_argument(
        "--only-partial", action="store_true", help="measure the cache below the frost line alone"
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        data = options.data
        if data is None:
            data = scratch / "digits"
            write_digits(data)
        report = compare(data, scratch, options)
    print(json.dumps(report))
    if options.json:
        options.json.write_text(json.dumps(report), encoding="utf-8")


def compare(data: Path, scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    partial = partial_trainings(data, scratch, options)
    if options.only_partial:
        return {"partial": partial}
    return {"partial": partial, "methods": methods(data, scratch, options)}


def partial_trainings(data: Path, scratch: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The same training with and without the cache, in turn."""
    found: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        recipe = Recipe(epochs=options.epochs, frost_line=options.frost_line, augment="none", seed=seed)
        line: dict[str, Any] = {"seed": seed}
        for name, cached in (("cached", True), ("images", False)):
            result = finetune(
                data,
                backbone=BACKBONE,
                image_size=options.image_size,
                recipe=recipe,
                cached=cached,
                caches=scratch,
                run=scratch / f"{name}-{seed}",
            )
            # the first epoch of all warms caches up
            line[name] = statistics.median(epoch.seconds for epoch in result.history[1:] or result.history)
            line[f"{name} accuracy"] = result.validation["accuracy"]
        found.append(line)
    rows = [
        [
            str(line["seed"]),
            *(f"{line[name]:.1f}" for name in ("images", "cached")),
            f"{line['images'] / line['cached']:.2f}",
            *(f"{line[f'{name} accuracy']:.4f}" for name in ("images", "cached")),
        ]
        for line in found
    ]
    headings = ["seed", "images s/epoch", "cached s/epoch", "ratio", "accuracy on images", "accuracy cached"]
    print_table(
        headings, rows, title=f"{BACKBONE} at {options.image_size} px, trained above {options.frost_line}"
    )
    ratio = statistics.median(line["images"] / line["cached"] for line in found)
    print(f"From the cache an epoch is {ratio:.2f} times as fast.\n")
    return found


def methods(data: Path, scratch: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Each way to a classifier, and what it costs from the images on."""
    tell = TerminalReporter()
    size = {"backbone": BACKBONE, "image_size": options.image_size}
    common = {"epochs": options.epochs}
    started = time.perf_counter()
    cache = extract(data, cache=scratch / "features.h5", report=tell, **size)
    train_head(cache.cache, "linear", run=scratch / "linear", report=tell)
    lines = [judged("linear head on cached features", scratch / "linear", time.perf_counter() - started)]

    def tune(name: str, run: str, recipe: Recipe, **more: Any) -> None:
        began = time.perf_counter()
        result: FinetuneResult = finetune(data, recipe=recipe, run=scratch / run, report=tell, **more)
        lines.append(judged(name, result.run, time.perf_counter() - began))

    tune(
        f"above {options.frost_line}, cached below, from the linear head",
        "partial",
        Recipe(**common, frost_line=options.frost_line, augment="none"),
        from_run=scratch / "linear",
        caches=scratch / "fresh",  # what it costs from the images on: not the cache that is there already
        **size,
    )
    tune(
        "the whole network, from the linear head (LP-FT)",
        "lp-ft",
        Recipe(**common, augment="flip"),
        from_run=scratch / "linear",
        **size,
    )
    tune(
        f"{options.scratch} from scratch, {options.scratch_epochs} epochs",
        "scratch",
        Recipe(epochs=options.scratch_epochs, augment="shift"),
        backbone=options.scratch,
        from_scratch=True,
    )
    rows = [
        [line["name"], f"{line['seconds']:.0f}", f"{line['validation']:.4f}", line["test"]] for line in lines
    ]
    print_table(["method", "seconds", "validation", "test (95 % interval)"], rows, title=str(data))
    return lines


def judged(name: str, run: Path, seconds: float) -> dict[str, Any]:
    record = load_run(run).record
    top1 = evaluate(run).metrics.top1
    return {
        "name": name,
        "seconds": seconds,
        "validation": record.metrics.validation.accuracy,
        "test": f"{top1.value:.4f} ({top1.low:.4f} - {top1.high:.4f})",
    }


if __name__ == "__main__":
    main()
