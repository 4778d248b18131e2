"""Runs as earlier versions wrote them."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from frostline.pipeline.inputs.labelled_images import divide_rows
from frostline.splits import Split


def as_of_version_3(run, cache):
    """Rewrite the record of a run as version 3 would have written it; returns the names of the test images.

    It divided by the hash alone, and did not record the test images.
    """
    run = Path(run)
    record = json.loads((run / "run.json").read_text())
    codes = divide_rows(cache, tuple(record["split"]["fractions"]), rule=1)
    del record["split"]["rule"]
    record["format_version"] = 3
    (run / "run.json").write_text(json.dumps(record))
    kept = np.flatnonzero((codes == Split.TRAIN) | (codes == Split.VAL))
    save_file({"content": cache.content[kept], "split": codes[kept]}, run / "split.safetensors")
    return {str(name) for name in cache.ids[codes == Split.TEST]}
