"""What a run keeps of the rows that it was trained on."""

from pathlib import Path
from typing import Any

import numpy as np

from frostline.classifiers.fitting.fitted import FittedHead
from frostline.pipeline.inputs.learning_rows import LearningRows
from frostline.pipeline.runs.directory import save_split
from frostline.pipeline.runs.predictions import VALIDATION_FILE, Judgements
from frostline.splits import Split


def save_learned(rows: LearningRows[Any], head: FittedHead, folder: Path) -> None:
    """Write which images were read, and what the head predicts for those that it was chosen on.

    Args:
        rows: The training and validation rows.
        head: The head that was fitted to them.
        folder: The run's directory.
    """
    images, val = rows.images, rows.val
    codes = np.repeat([Split.TRAIN, Split.VAL], [len(rows.train), len(val)]).astype(np.uint8)
    save_split(folder, images.content[np.concatenate([rows.train, val])], codes)
    if head.verdicts and len(val):
        judged = (images.labels[val], head.verdicts.predicted, head.verdicts.probability)
        Judgements.of(images.ids[val], *judged, images.classes).write(folder / VALIDATION_FILE)
