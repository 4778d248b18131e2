"""Demonstration of the main workflow on real images, from an empty folder to an evaluated classifier."""

import io
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from frostline.pipeline.extraction.extract import ExtractResult, extract
from frostline.pipeline.judging.evaluate import EvaluationResult, evaluate
from frostline.pipeline.progress import SILENT, Reporter
from frostline.pipeline.runs.directory import default_run_path, new_run_path
from frostline.pipeline.training.train_head import TrainResult, train_head
from frostline.system.atomic import replace_file


@dataclass(frozen=True)
class DemoResult:
    """Results of each stage of the demonstration.

    Attributes:
        images: The image folder.
        extraction: Result of the extract stage.
        training: Result of the train-head stage.
        evaluation: Result of the evaluate stage.
        seconds: Wall time of all stages.
    """

    images: Path
    extraction: ExtractResult
    training: TrainResult
    evaluation: EvaluationResult
    seconds: float


def write_digits(folder: Path) -> None:
    """Write scikit-learn's 1,797 scanned digits (8 x 8 pixels, 10 classes) as ``folder/DIGIT/NNNN.png``.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
    """
    digits = load_digits()
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / str(label) / f"{number:04}.png"
        image = io.BytesIO()
        Image.fromarray(np.round(pixels * (255 / 16)).astype(np.uint8)).save(image, format="png")
        if (
            not path.exists() or path.read_bytes() != image.getvalue()
        ):  # rewriting would change its time stamp
            replace_file(path, image.getvalue(), durable=False)


def run_demo(folder: str | Path = "frostline-demo", *, report: Reporter = SILENT) -> DemoResult:
    """Write the digits into `folder`, extract features, train a linear head and evaluate it on the test split."""
    started = time.perf_counter()
    folder = Path(folder)
    images = folder / "digits"
    with report.task("Writing images", None):
        write_digits(images)
    extraction = extract(images, cache=folder / "digits.h5", report=report)
    training = train_head(
        extraction.cache,
        "linear",
        run=new_run_path(default_run_path(extraction.cache, "linear", folder)),
        report=report,
    )
    evaluation = evaluate(training.run, report=report)
    return DemoResult(images, extraction, training, evaluation, time.perf_counter() - started)
