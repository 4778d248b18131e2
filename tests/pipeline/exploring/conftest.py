"""A folder of photos with planted copies and odd ones, and its cache by a pretrained network."""

import shutil

import numpy as np
import pytest
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_images

from frostline.features.cache import FeatureCache
from frostline.pipeline import extract

COPIES = ("equal", "jpeg", "resized", "cropped")
ODD = {"noise", "black", "blurred", "wide", "large", "wrong"}


def _cut(image, rng, count):
    """Cut squares without overlap, which are different photos."""
    side = 80
    places = [(x, y) for x in range(0, image.width - side, side) for y in range(0, image.height - side, side)]
    for i in rng.permutation(len(places))[:count]:
        x, y = places[i]
        yield image.crop((x, y, x + side, y + side))


def write_photos(folder):
    """Photos of two classes; ``NAME_KIND.png`` is a copy of ``NAME.png``, and `ODD` are in the class china."""
    rng = np.random.default_rng(0)
    for name, pixels in zip(("china", "flower"), load_sample_images().images, strict=True):
        (folder / name).mkdir(parents=True)
        whole = Image.fromarray(pixels)
        # the flower itself, without the blurred ground
        whole = (
            whole.crop((130, 40, 450, 400)).resize((640, 640))
            if name == "flower"
            else whole.crop((0, 150, 640, 427))
        )
        for number, photo in enumerate(_cut(whole, rng, 20)):
            path = folder / name / f"{number:02d}.png"
            photo.save(path)
            if number < 8:
                copy = path.with_name(f"{number:02d}_{COPIES[number % 4]}")
                _copy(path, photo, copy)
    china = folder / "china"
    photo = Image.open(china / "15.png").convert("RGB")
    Image.fromarray(rng.integers(0, 256, (80, 80, 3), np.uint8)).save(china / "noise.png")
    Image.new("RGB", (80, 80)).save(china / "black.png")
    photo.filter(ImageFilter.GaussianBlur(6)).save(china / "blurred.png")
    photo.resize((400, 40)).save(china / "wide.png")
    Image.open(china / "16.png").resize((800, 800)).save(china / "large.png")
    Image.open(folder / "flower" / "17.png").save(china / "wrong.jpg", quality=90)
    return folder


def _copy(path, photo, copy):
    kind = copy.name.rpartition("_")[2]
    if kind == "equal":
        shutil.copy(path, copy.with_suffix(".png"))
    elif kind == "jpeg":
        photo.save(copy.with_suffix(".jpg"), quality=92)
    elif kind == "resized":
        photo.resize((120, 120), Image.Resampling.BICUBIC).save(copy.with_suffix(".png"))
    else:
        photo.crop((1, 1, 79, 79)).save(copy.with_suffix(".png"))


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("exploring") / "photos")


@pytest.fixture(scope="session")
def planted(photos):
    """Cache of the photos."""
    made = extract(photos, cache=photos.with_suffix(".h5"), engine="eager", precision="fp32", batch_size=31)
    return FeatureCache.open(made.cache)
