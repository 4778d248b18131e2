"""A folder of photos with planted copies and odd ones, and its cache by a pretrained network."""

import shutil

import numpy as np
import pytest
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_images

from frostline.features.cache import FeatureCache
from frostline.pipeline import extract

SIDE = 64
COPIES = {
    "equal": lambda photo: photo,
    "jpeg": lambda photo: photo,
    "resized": lambda photo: photo.resize((96, 96), Image.Resampling.BICUBIC),
    "cropped": lambda photo: photo.crop((1, 1, SIDE - 1, SIDE - 1)),
}
"""Copies by the end of their names: ``03_cropped.png`` is one of ``03.png``."""


def _cut(image, count):
    """Cut the sharpest squares, which do not overlap, and so are different photos."""
    places = [(x, y) for x in range(0, image.width - SIDE, SIDE) for y in range(0, image.height - SIDE, SIDE)]
    cuts = [image.crop((x, y, x + SIDE, y + SIDE)) for x, y in places]
    edges = [np.abs(np.diff(np.asarray(cut.convert("L"), float), axis=1)).mean() for cut in cuts]
    return [cuts[i] for i in np.argsort(edges)[::-1][:count]]


def write_photos(folder):
    """Photos of two classes with copies; and six odd ones in the class china, one of which is a flower."""
    for name, pixels in zip(("china", "flower"), load_sample_images().images, strict=True):
        (folder / name).mkdir(parents=True)
        for number, photo in enumerate(_cut(Image.fromarray(pixels), 16)):
            path = folder / name / f"{number:02d}.png"
            photo.save(path)
            for kind, change in list(COPIES.items())[number : number + 1]:
                if kind == "equal":
                    shutil.copy(path, folder / name / f"{number:02d}_equal.png")
                end = "jpg" if kind == "jpeg" else "png"
                quality = {"quality": 92} if kind == "jpeg" else {}
                change(photo).save(folder / name / f"{number:02d}_{kind}.{end}", **quality)
    china, noise = folder / "china", np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    photo = Image.open(china / "15.png").convert("RGB")
    Image.fromarray(noise).save(china / "noise.png")
    Image.new("RGB", (SIDE, SIDE)).save(china / "black.png")
    photo.filter(ImageFilter.GaussianBlur(6)).save(china / "blurred.png")
    photo.resize((400, 40)).save(china / "wide.png")
    Image.open(china / "14.png").resize((800, 800)).save(china / "large.png")
    Image.open(folder / "flower" / "14.png").rotate(90).save(china / "wrong.png")
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("exploring") / "photos")


@pytest.fixture(scope="session")
def planted(photos):
    """Cache of the photos."""
    made = extract(photos, cache=photos.with_suffix(".h5"), engine="eager", precision="fp32", image_size=128)
    return FeatureCache.open(made.cache)
