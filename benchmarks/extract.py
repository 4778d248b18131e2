"""Compare Frostline's extraction with the script that one would write, and with the limits of the machine.

python benchmarks/extract.py [--backbone efficientnet_lite0 ...] [--format jpeg ...] [--images 128] [--rounds 3]

The plain script is a DataLoader with one worker per core, Pillow, timm's own transform, and the fp32 eager NCHW model
without gradients. Both read the same files, use the same weights and take turns. The limits take turns as well: the
engine alone on a resident batch, decoding alone on all cores, and writing alone. Each figure is the median over the
rounds. Frostline's time includes the cache on the disk, synced. Work that is done once (imports, weights, converting the
network) counts for neither. On a CPU, decoding and the forward pass share the cores, so the limit of the whole is
1 / (1/engine + 1/decode).
"""

import argparse
import copy
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from frostline.commands.interface.terminal import print_table
from frostline.features import FeatureCache
from frostline.features.backbones import Backbone, load_backbone
from frostline.features.cache import CacheWriter, open_writer
from frostline.features.engines import choose_engine, plan_engines
from frostline.features.fidelity import Check
from frostline.features.images.batches import Batch, default_workers, load_batches
from frostline.features.sources import open_source
from frostline.pipeline.extraction.engine_choice import specify

BACKBONES = ("efficientnet_lite0", "timm:resnet18", "timm:resnet50", "timm:vit_small_patch16_224")
FORMATS = {"png": (32, 32), "jpeg": (500, 375)}
BATCH = 32  # of the plain script


@dataclass
class Result:
    """One backbone on one kind of image; rates in images per second.

    Attributes:
        plain: The plain script, in each round.
        ours: Frostline, cache included.
        engine: Its engine alone, on a batch in memory.
        decode: Its decoding alone.
        write_seconds: Its writing alone, of all images.
        sgemm: 10^9 floating-point operations a second in a large fp32 matrix product, right after the engine.
        check: Our stored features beside the plain script's.
        gflops: 10^9 floating-point operations for one image, a multiply-add being two.
    """

    backbone: str
    format: str
    name: str
    precision: str
    images: int
    prepare_seconds: float
    gflops: float
    check: Check | None = None
    plain: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    engine: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)
    write_seconds: list[float] = field(default_factory=list)
    sgemm: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How many times as fast as the plain script."""
        return statistics.median(ours / plain for ours, plain in zip(self.ours, self.plain, strict=True))

    @property
    def of_limit(self) -> float:
        """Share of what the engine and decoding alone allow."""
        rounds = zip(self.ours, self.engine, self.decode, strict=True)
        return statistics.median(ours * (1 / engine + 1 / decode) for ours, engine, decode in rounds)

    @property
    def writing(self) -> float:
        """Share of our time that writing alone takes."""
        rounds = zip(self.ours, self.write_seconds, strict=True)
        return statistics.median(seconds * ours / self.images for ours, seconds in rounds)

    @property
    def of_sgemm(self) -> float:
        """Share of the arithmetic that the matrix product reaches; FLOPs saved by a faster algorithm count too."""
        rounds = zip(self.engine, self.sgemm, strict=True)
        return statistics.median(self.gflops * engine / sgemm for engine, sgemm in rounds)

    def summary(self) -> dict[str, float]:
        """Medians over the rounds."""
        medians = {
            key: statistics.median(getattr(self, key)) for key in ("plain", "ours", "engine", "decode")
        }
        shares = {"of_limit": self.of_limit, "of_sgemm": self.of_sgemm, "writing": self.writing}
        return medians | {"ratio": self.ratio} | shares


class PlainImages(Dataset[torch.Tensor]):
    """What the plain script reads."""

    def __init__(self, paths: list[Path], transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB"))


class Contest:
    """Everything that takes turns for one backbone on one folder."""

    def __init__(self, backbone: Backbone, data: Path, scratch: Path, options: argparse.Namespace) -> None:
        self.net, self.scratch = backbone, scratch
        self.source = open_source(data)
        self.rows = np.arange(len(self.source.table.ids))
        self.layers = backbone.resolve_layers(["embedding"])
        config = resolve_model_data_config(backbone.module)  # type: ignore[no-untyped-call]
        self.plain_module = copy.deepcopy(backbone.module)
        paths = [Path(self.source.display_name(row)) for row in self.rows.tolist()]
        images = PlainImages(paths, create_transform(**config, is_training=False))
        self.loader = DataLoader(images, batch_size=BATCH, num_workers=default_workers())

        started = time.perf_counter()
        plans = plan_engines(
            backbone, engine=options.engine, precision=options.precision, images=options.assumed_images
        )
        self.choice = choose_engine(backbone, self.layers, plans, next(self.batches(8)).pixels)
        self.prepare_seconds = time.perf_counter() - started
        self.spec = specify(backbone, self.layers, self.choice.plan)
        self.loaded = list(self.batches(self.choice.engine.batch_size))
        self.written = 0

    def batches(self, size: int) -> Iterator[Batch]:
        """Decode every image."""
        return load_batches(self.source, self.rows, self.net.transform, batch_size=size, block_rows=256)

    def plain(self) -> np.ndarray:
        """Features (n, dim) as the plain script computes them."""
        network: Any = self.plain_module
        with torch.no_grad():
            return np.concatenate(
                [
                    network.forward_head(network.forward_features(images), pre_logits=True).numpy()
                    for images in self.loader
                ]
            )

    def writer(self) -> CacheWriter:
        """Begin an empty cache."""
        self.written += 1
        writer = open_writer(self.scratch / f"{self.written}.h5", self.spec, self.source)
        assert isinstance(writer, CacheWriter)  # noqa: S101  # a new name each time
        return writer

    def ours(self) -> FeatureCache:
        """Extract."""
        with self.writer() as writer:
            for batch, outputs in self.choice.engine.run(self.batches(self.choice.engine.batch_size)):
                put(writer, batch, outputs)
            return writer.finish()

    def engine(self) -> None:
        """Run the engine on what is decoded already."""
        for _ in self.choice.engine.run(self.loaded):
            pass

    def decode(self) -> None:
        """Decode, and compute nothing."""
        for _ in self.batches(self.choice.engine.batch_size):
            pass

    def write(self) -> None:
        """Write features that are there already."""
        outputs = [
            {layer.key: np.random.default_rng(0).random((len(batch.rows), 1, layer.dim), np.float32)
             for layer in self.layers}
            for batch in self.loaded
        ]  # fmt: skip
        started = time.perf_counter()
        with self.writer() as writer:
            for batch, values in zip(self.loaded, outputs, strict=True):
                put(writer, batch, values)
            writer.finish()
        self.write_seconds = time.perf_counter() - started

    def round(self, result: Result) -> None:
        """Let each have its turn."""
        seconds, plain = timed(self.plain)
        result.plain.append(len(self.rows) / seconds)
        seconds, cache = timed(self.ours)
        result.ours.append(len(self.rows) / seconds)
        seconds, _ = timed(self.engine)
        result.engine.append(len(self.rows) / seconds)
        result.sgemm.append(sgemm_gflops())
        seconds, _ = timed(self.decode)
        result.decode.append(len(self.rows) / seconds)
        self.write()
        result.write_seconds.append(self.write_seconds)
        result.check = Check.of({"embedding": cache.features().astype(np.float32)}, {"embedding": plain})


def put(writer: CacheWriter, batch: Batch, outputs: Any) -> None:
    writer.put(
        batch.rows,
        outputs,
        content=batch.content,
        stamps=batch.stamps,
        status=batch.status,
        errors=batch.errors,
    )


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    value = action()
    return time.perf_counter() - started, value


def write_images(folder: Path, kind: str, count: int) -> None:
    """Crops of scikit-learn's two sample photos, each from another place."""
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    width, height = FORMATS[kind]
    draw = np.random.default_rng(0)
    for index in range(count):
        photo = photos[index % 2]
        scale = draw.uniform(0.6, 0.78)
        box_width, box_height = int(photo.width * scale), int(photo.height * scale)
        left, top = (
            int(draw.integers(0, room)) for room in (photo.width - box_width, photo.height - box_height)
        )
        crop = photo.crop((left, top, left + box_width, top + box_height)).resize((width, height))
        target = folder / f"class-{index % 4}" / f"{index:06d}.{kind}"
        target.parent.mkdir(parents=True, exist_ok=True)
        crop.save(target, quality=90)  # of a JPEG


def flops(backbone: Backbone) -> float:
    """10^9 floating-point operations for one image."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        backbone.module(torch.zeros(1, 3, *backbone.transform.crop))
    return float(counter.get_total_flops()) / 1e9


def sgemm_gflops() -> float:
    """What this machine reaches now on what networks are made of: a large fp32 matrix product."""
    a = torch.rand(1536, 1536)
    return statistics.median(2 * 1536**3 / timed(lambda: a @ a)[0] / 1e9 for _ in range(8))


def machine() -> dict[str, Any]:
    """What the figures depend on; bf16 is of use only where the CPU computes in it."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    wanted = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16", "amx_fp16", "bf16", "neon")
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": default_workers(),
        "load": os.getloadavg()[0],
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "arithmetic": [name for name in wanted if capabilities.get(name)],
        "torch": torch.__version__,
    }


def contest(name: str, kind: str, options: argparse.Namespace) -> Result:
    backbone = load_backbone(name, weights=None if name == "efficientnet_lite0" else "random:0")
    with tempfile.TemporaryDirectory() as folder:
        data, scratch = Path(folder) / "data", Path(folder) / "caches"
        scratch.mkdir()
        write_images(data, kind, options.images)
        entrants = Contest(backbone, data, scratch, options)
        plan = entrants.choice.plan
        result = Result(
            name, kind, plan.name, plan.precision, options.images, entrants.prepare_seconds, flops(backbone)
        )
        for _ in range(options.rounds):
            entrants.round(result)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", action="append", help=f"default: {', '.join(BACKBONES)}")
    parser.add_argument("--format", action="append", choices=FORMATS, help="default: both")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument(
        "--assumed-images", type=int, default=100_000, help="size of set that auto chooses for"
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    about = machine()
    results = [
        contest(name, kind, options)
        for name in options.backbone or BACKBONES
        for kind in options.format or FORMATS
    ]
    print_results(about, results)
    report = {"machine": about, "results": [asdict(each) | each.summary() for each in results]}
    text = json.dumps(report, default=str)
    print(text)
    if options.json:
        options.json.write_text(text, encoding="utf-8")


def print_results(about: dict[str, Any], results: list[Result]) -> None:
    rows = []
    for each in results:
        rate = each.summary()
        rows.append(
            [
                each.backbone,
                each.format,
                f"{each.name} {each.precision}",
                *(f"{rate[key]:.1f}" for key in ("plain", "ours")),
                f"{rate['ratio']:.2f}",
                *(f"{rate[key]:.1f}" for key in ("engine", "decode")),
                f"{rate['of_limit']:.0%}",
                f"{rate['writing']:.1%}",
                f"{rate['of_sgemm']:.0%}",
                f"{each.check.min_cosine:.6f}" if each.check else "-",
                f"{each.prepare_seconds:.1f}",
            ]
        )
    headings = ["backbone", "images", "engine", "plain/s", "ours/s", "ratio", "engine/s", "decode/s", "of limit",
                "writing", "of sgemm", "min cosine", "prepare s"]  # fmt: skip
    print_table(headings, rows)
    native = [name for name in about["arithmetic"] if "bf16" in name]
    print(
        f"{about['cores']} cores, load {about['load']:.1f}; arithmetic {', '.join(about['arithmetic'])}; "
        f"fp32 matrix product {max(max(each.sgemm) for each in results):.0f} GFLOP/s. "
        + (
            f"bf16 by {', '.join(native)}."
            if native
            else "No bf16 arithmetic: fp32 is the fastest format here."
        )
    )


if __name__ == "__main__":
    main()
