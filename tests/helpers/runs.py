"""Runs as earlier versions wrote them."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from frostline.files.checksums import SUMS_FILE
from frostline.pipeline.inputs.labelled_images import divide_rows
from frostline.splits import Split


def rewrite_record(run, record, name="run.json"):
    """Replace a record of a run, whose digests are then no longer listed, as in runs of earlier versions."""
    (run / name).write_text(json.dumps(record))
    (run / SUMS_FILE).unlink(missing_ok=True)


def as_of_version_3(run, cache):
    """Rewrite the record of a run as version 3 would have written it; returns the names of the test images.

    It divided by the hash alone, and did not record the test images.
    """
    run = Path(run)
    record = json.loads((run / "run.json").read_text())
    codes = divide_rows(cache, tuple(record["split"]["fractions"]), rule=1)
    del record["split"]["rule"]
    for name, code in {"train": Split.TRAIN, "val": Split.VAL, "test": Split.TEST}.items():
        record["split"]["counts"][name] = int((codes == code).sum())
    record["format_version"] = 3
    rewrite_record(run, record)
    kept = np.flatnonzero((codes == Split.TRAIN) | (codes == Split.VAL))
    save_file({"content": cache.content[kept], "split": codes[kept]}, run / "split.safetensors")
    return {str(name) for name in cache.ids[codes == Split.TEST]}
