"""Images that are read with a doubt: one sentence from every stage that reads images, and a field of the result."""

import numpy as np
import pytest
from PIL import Image

from frostline.features.sources import open_source
from frostline.features.spec import Transform
from frostline.pipeline import extract, predict, train_head
from frostline.pipeline.inputs.scanned_images import check_images
from frostline.pipeline.progress import SILENT
from frostline.testing.images import photo

EXACT = {"engine": "eager", "precision": "fp32", "device": "cpu"}
WORDS = "below 1/16 of white"


class Reporter(type(SILENT)):
    def __init__(self):
        self.warnings = []

    def warn(self, message):
        self.warnings.append(message)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sixteen photos in two classes, of which two are of 12 bits in 16-bit files that don't say so."""
    root = tmp_path_factory.mktemp("images")
    for n in range(16):
        path = root / "ab"[n % 2] / f"{n:02}.png"
        path.parent.mkdir(exist_ok=True)
        image = photo(20, 20, seed=n)
        if n in {3, 8}:
            image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) << 4)
        image.save(path)
    return root


def test_extract_says_so_once_for_all_and_names_each_in_its_result(folder, tmp_path):
    report = Reporter()
    options = {"backbone": "timm:test_resnet", "weights": "random", "cache": tmp_path / "c.h5", **EXACT}
    result = extract(folder, report=report, **options)
    assert list(result.remarks) == ["a/08.png", "b/03.png"]
    assert all(WORDS in text for text in result.remarks.values())
    assert result.failed == 0
    (warning,) = report.warnings
    assert warning.startswith(
        "2 images were read with a doubt, for example a/08.png: all of its 16-bit values are"
    )
    assert not extract(folder, **options).remarks


def test_images_that_are_trained_on_and_predicted(folder, tmp_path):
    report = Reporter()
    transform = Transform(24, "shortest", (24, 24), "bilinear", (0.5,) * 3, (0.5,) * 3)
    check_images(open_source(folder), transform, report=report)
    assert WORDS in report.warnings[0]

    cache = extract(
        folder, backbone="timm:test_resnet", weights="random", cache=tmp_path / "c.h5", **EXACT
    ).cache
    run = train_head(cache, "ridge", run=tmp_path / "run").run
    report = Reporter()
    predict(run, folder / "b" / "03.png", report=report)
    (warning,) = report.warnings
    assert warning.startswith("1 image was read with a doubt ")
    assert WORDS in warning
