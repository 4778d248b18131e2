"""The resident memory of an export does not depend on the number of rows."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from frostline.features.cache import open_writer
from frostline.features.spec import Layer
from frostline.features.table import OK
from frostline.pipeline.exporting.exporters import EXPORTERS
from tests.features.cache import synthetic

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc"),
]

DIM, FEW, MANY = 512, 16_384, 131_072
CODE = """
import sys, frostline
frostline.export_cache(sys.argv[1], to=sys.argv[2], out=sys.argv[3])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    found = {}
    for count in (FEW, MANY):
        path = tmp_path_factory.mktemp("caches") / f"{count}.h5"
        source = synthetic.source(count)
        specification = synthetic.spec(layers=(Layer("embedding", "none", DIM),))
        rng = np.random.default_rng(0)
        with open_writer(path, specification, source) as writer:
            for start in range(0, count, 4096):
                rows = writer.todo[start : start + 4096]
                writer.put(
                    rows,
                    {"embedding": rng.standard_normal((len(rows), 1, DIM), np.float32)},
                    content=np.ones((len(rows), 16), np.uint8),
                    stamps=source.table.stamps[rows],
                    status=np.full(len(rows), OK, np.uint8),
                    errors=[""] * len(rows),
                )
            writer.finish()
        found[count] = path
    return found


@pytest.mark.parametrize("name", EXPORTERS.builtin)
def test_eight_times_the_rows_need_about_the_same_memory(caches, name, tmp_path):
    if problem := EXPORTERS.missing(name):
        pytest.skip(problem)
    peaks = {}
    for count, path in caches.items():
        out = tmp_path / f"{count}{EXPORTERS[name].suffix}"
        done = subprocess.run(
            [sys.executable, "-c", CODE, path, name, out], check=True, capture_output=True, text=True
        )
        peaks[count] = int(done.stdout) * 1024
    vectors = (MANY - FEW) * DIM * 4
    assert peaks[MANY] - peaks[FEW] < vectors / 5  # some libraries collect a few blocks
