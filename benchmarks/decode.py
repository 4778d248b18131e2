"""Decode JPEGs in several ways: images per second and core, and the distance of pixels and features from the reference.

python benchmarks/decode.py [--rounds 5]

Every contender produces the 224 x 224 pixels of efficientnet_lite0's transform. torchvision, simplejpeg and torchcodec
are measured if they are installed. Then Frostline's own loading is measured, in threads and in processes.
"""

import argparse
import functools
import io
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from importlib.util import find_spec
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frostline.commands.interface.terminal import print_table
from frostline.features.images.decoding import decode
from frostline.features.spec import Transform

Pixels = NDArray[np.uint8]
Decoder = Callable[[bytes], Pixels]

SIZES = ((500, 375), (2000, 1500))
EXACT = "Frostline, exact"
CROPS = 6  # of each photo
TRANSFORM = Transform(256, "shortest", (224, 224), "bicubic", (0.5,) * 3, (0.5,) * 3)
SIDE = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found: dict[str, dict[str, Any]] = {"decoders": {}, "pools": {}}
    for size in SIZES:
        files, name = photos(size), f"{size[0]}x{size[1]} JPEG"
        found["decoders"][name] = compare(files, options.rounds)
        show(found["decoders"][name], name)
    small = [encoded(Image.fromarray(tile), "PNG") for tile in np.split(digits(), 64)]
    for name, files in {"500x375 JPEG": photos(SIZES[0]), "32x32 PNG": small}.items():
        found["pools"][name] = {
            kind: pool_rate(kind, files, options.rounds) for kind in ("threads", "processes")
        }
    rows = [[name, *(f"{rate:,.0f}" for rate in rates.values())] for name, rates in found["pools"].items()]
    print_table(["images a second, all cores", "threads", "processes"], rows)
    print(json.dumps(found))


def digits() -> Pixels:
    """64 images of 32 x 32, one above the other."""
    return np.random.default_rng(0).integers(0, 256, (64 * 32, 32, 3), np.uint8)


@functools.cache
def photos(size: tuple[int, int]) -> list[bytes]:
    """Crops of scikit-learn's two sample photos at a size, as cameras and web pages have them: 4:2:0, quality 90."""
    from sklearn.datasets import load_sample_images

    draw = np.random.default_rng(0)
    made = []
    for photo in map(Image.fromarray, load_sample_images().images):
        for _ in range(CROPS):
            width = int(draw.integers(400, photo.width + 1))
            height = width * 3 // 4
            left, top = (
                int(draw.integers(0, photo.width - width + 1)),
                int(draw.integers(0, max(1, photo.height - height + 1))),
            )
            crop = photo.crop((left, top, left + width, min(top + height, photo.height)))
            made.append(encoded(crop.resize(size, Image.Resampling.LANCZOS), "JPEG", quality=90))
    return made


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def ours(data: bytes, decoder: str = "exact") -> Pixels:
    out = np.empty((224, 224, 3), np.uint8)
    decode(data, TRANSFORM, out, decoder=decoder)
    return out


def finished(image: Image.Image) -> Pixels:
    scale = SIDE / min(image.size)
    size = round(image.width * scale), round(image.height * scale)
    image = image.resize(size, Image.Resampling.BICUBIC) if image.size != size else image
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    return np.asarray(image.crop((left, top, left + 224, top + 224)))


def drafted(data: bytes, margin: int) -> Pixels:
    """JPEG decoded at 1/2, 1/4 or 1/8, as long as `margin` times the target's size is left."""
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (margin * SIDE, margin * SIDE))
    return finished(image.convert("RGB"))


def reduced(data: bytes) -> Pixels:
    """Averages whole pixels down to three times the target's size before the bicubic filter."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    factor = max(1, min(image.size) // (3 * SIDE))
    return finished(image.reduce(factor) if factor > 1 else image)


def by_torchvision(data: bytes) -> Pixels:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    return resized(decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB))


def by_torchcodec(data: bytes) -> Pixels:
    import torch
    from torchcodec.decoders import decode_jpeg

    return resized(decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8)))


def resized(image: Any) -> Pixels:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    image = functional.resize(image, [SIDE], InterpolationMode.BICUBIC, antialias=True)
    pixels: Pixels = functional.center_crop(image, [224, 224]).permute(1, 2, 0).contiguous().numpy()
    return pixels


def by_simplejpeg(data: bytes) -> Pixels:
    import simplejpeg

    return finished(Image.fromarray(simplejpeg.decode_jpeg(data, min_height=SIDE, min_width=SIDE)))


def by_simplejpeg_whole(data: bytes) -> Pixels:
    import simplejpeg

    return finished(Image.fromarray(simplejpeg.decode_jpeg(data)))


def decoders() -> dict[str, Decoder]:
    listed: dict[str, tuple[str, Decoder]] = {
        EXACT: ("PIL", ours),
        "Frostline, fast": ("torch", functools.partial(ours, decoder="fast")),
        "Pillow, reduce": ("PIL", reduced),
        "Pillow, draft": ("PIL", functools.partial(drafted, margin=1)),
        "Pillow, draft to twice the size": ("PIL", functools.partial(drafted, margin=2)),
        "Pillow, draft to three times the size": ("PIL", functools.partial(drafted, margin=3)),
        "torchvision": ("torchvision", by_torchvision),
        "torchcodec": ("torchcodec", by_torchcodec),
        "simplejpeg": ("simplejpeg", by_simplejpeg_whole),
        "simplejpeg, scaled": ("simplejpeg", by_simplejpeg),
    }
    return {name: decoder for name, (package, decoder) in listed.items() if find_spec(package)}


def compare(files: list[bytes], rounds: int) -> dict[str, dict[str, float]]:
    import torch

    torch.set_num_threads(1)
    contenders, embed = decoders(), embedder()
    pixels = {name: np.stack([decoder(data) for data in files]) for name, decoder in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, decoder in contenders.items():
            started = time.thread_time()  # of this core, whoever shares it
            for data in files:
                decoder(data)
            seconds[name].append(time.thread_time() - started)
    reference = pixels[EXACT]
    vectors = {name: embed(each) for name, each in pixels.items()}
    return {
        name: {
            "rate": len(files) / statistics.median(seconds[name]),
            "mean difference": float(np.abs(each.astype(int) - reference).mean()),
            "largest difference": int(np.abs(each.astype(int) - reference).max()),
            "smallest cosine": float((vectors[name] * vectors[EXACT]).sum(1).min()),
        }
        for name, each in pixels.items()
    }


@functools.cache
def embedder() -> Callable[[Pixels], NDArray[np.float32]]:
    """Pixels to embeddings of length 1."""
    import torch

    from frostline.features.backbones import load_backbone

    module: Any = load_backbone("efficientnet_lite0").module

    def embed(pixels: Pixels) -> NDArray[np.float32]:
        images = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
        with torch.inference_mode():
            vectors = module.forward_head(module.forward_features(images), pre_logits=True)
        result: NDArray[np.float32] = torch.nn.functional.normalize(vectors).numpy()
        return result

    return embed


def work(files: list[bytes], repeats: int) -> None:
    for _ in range(repeats):
        for data in files:
            ours(data)


def pool_rate(kind: str, files: list[bytes], rounds: int) -> float:
    workers, repeats = len(os.sched_getaffinity(0)), max(1, 500_000 // sum(map(len, files)))
    pool: Executor = (
        ThreadPoolExecutor(workers)
        if kind == "threads"
        else ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
    )
    with pool:
        rates = []
        for _ in range(rounds + 1):
            started = time.perf_counter()
            list(pool.map(work, repeat(files, workers), repeat(repeats, workers)))
            rates.append(workers * repeats * len(files) / (time.perf_counter() - started))
    return statistics.median(rates[1:])


def show(found: dict[str, dict[str, float]], title: str) -> None:
    slow = found[EXACT]["rate"]
    rows = [
        [
            name,
            f"{each['rate']:,.0f}",
            f"{each['rate'] / slow:.2f}",
            f"{each['mean difference']:.2f}",
            f"{each['largest difference']:.0f}",
            f"{each['smallest cosine']:.4f}",
        ]
        for name, each in found.items()
    ]
    headings = ["decoder", "images/s a core", "speed", "mean difference", "largest", "smallest cosine"]
    print_table(headings, rows, title=title)
    print()


if __name__ == "__main__":
    main()
