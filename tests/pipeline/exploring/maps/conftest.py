"""Photos of classes with hostile names, one of which vanishes, and their map."""

import json
import re

import pytest
from PIL import Image

from frostline.features.cache import FeatureCache
from frostline.pipeline import extract, train_head
from tests.helpers.images import copy_digits
from tests.helpers.network import BACKBONE

CLASSES = ("<!--<script>alert(1)", 'o"ne & <b>more', "two \u202e owt")


@pytest.fixture(scope="session")
def hostile(whole_digits, tmp_path_factory):
    """A cache of sixty digits, a run on it, and the folder of the images, of which one can't be read any more."""
    home = tmp_path_factory.mktemp("hostile")
    copy_digits(whole_digits, home / "digits", classes=3, each=20, names=CLASSES)
    first = min((home / "digits" / CLASSES[1]).iterdir())
    Image.open(first).save(first.with_name("<img src=x onerror=alert(2)>.png"))
    done = extract(home / "digits", cache=home / "digits.h5", engine="eager", precision="fp32", **BACKBONE)
    run = train_head(done.cache, "ridge", params={"alpha": 1e9}, run=home / "run").run
    gone = min((home / "digits" / CLASSES[0]).iterdir())
    gone.write_bytes(b"no image")
    return FeatureCache.open(done.cache), run, f"{CLASSES[0]}/{gone.name}"


def data_of(page):
    """The data in a page."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)
