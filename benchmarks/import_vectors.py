"""Time and memory of imports of vectors, beside plain NumPy and h5py: ``python benchmarks/import_vectors.py``.

Each import runs in a process of its own, whose peak memory is compared with that of a process which imports the same
modules and ten rows.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

DIM = 512
FORMATS = ("npy", "npz", "h5", "safetensors", "pt", "parquet", "csv")
_CHILD = "import sys; from benchmarks.import_vectors import import_one; import_one(*sys.argv[1:])"


def write(folder: Path, rows: int, name: str) -> Path:
    """Write random vectors in a format, in blocks."""
    path = folder / f"{rows}.{name}"
    if path.exists():
        return path
    draw = np.random.default_rng(0)
    X = draw.standard_normal((rows, DIM), np.float32)
    if name == "npy":
        np.save(path, X)
    elif name == "npz":
        np.savez(path, x=X)
    elif name == "h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=X, chunks=(min(rows, 256), DIM), compression="lzf")
    elif name == "safetensors":
        from safetensors.numpy import save_file

        save_file({"x": X}, path)
    elif name == "pt":
        import torch

        torch.save(torch.from_numpy(X), path)
    elif name == "parquet":
        import pyarrow as pa
        from pyarrow import parquet

        lists = pa.FixedSizeListArray.from_arrays(X.reshape(-1), DIM)
        parquet.write_table(pa.table({"x": lists}), path, row_group_size=4096)
    else:
        header = ",".join(f"f{column}" for column in range(DIM))
        np.savetxt(path, X, fmt="%.9g", delimiter=",", header=header, comments="")
    return path


def import_one(path: str, out: str) -> None:
    """Import a file in this process, and print seconds and peak memory as JSON."""
    from frostline import import_vectors

    started = time.perf_counter()
    import_vectors(path, name="benchmark", out=out)
    seconds = time.perf_counter() - started
    status = Path(
        "/proc/self/status"
    ).read_text()  # the peak of rusage is that of the parent, if it was larger
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    print(json.dumps({"seconds": seconds, "megabytes": peak}))


def plain(path: Path, out: Path) -> float:
    """Return the seconds that NumPy and h5py take to copy an array into a synced file."""
    import os

    started = time.perf_counter()
    X = np.load(path, mmap_mode="r")
    with h5py.File(out, "w") as file:
        made = file.create_dataset("x", X.shape, X.dtype)
        for start in range(0, len(X), 4096):
            made[start : start + 4096] = X[start : start + 4096]
        file.flush()
    with out.open("rb") as stream:
        os.fsync(stream.fileno())
    return time.perf_counter() - started


def measured(path: Path, folder: Path) -> dict[str, float]:
    """Import a file in a process of its own."""
    out = folder / "out.h5"
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, path, out], check=True, capture_output=True, text=True
    )
    out.unlink()
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description="Time and memory of imports.")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 200_000])
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=FORMATS)
    parser.add_argument("--folder", type=Path, help="folder for the files; by default a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        print("| format | rows | seconds | MB above ten rows | x plain |")
        print("|---|---:|---:|---:|---:|")
        for kind in given.formats:
            base = measured(write(folder, 10, kind), folder)["megabytes"]
            for rows in given.rows:
                path = write(folder, rows, kind)
                found = measured(path, folder)
                copied = plain(write(folder, rows, "npy"), folder / "plain.h5")
                ratio = found["seconds"] / copied
                print(
                    f"| {kind} | {rows:,} | {found['seconds']:.2f} | {found['megabytes'] - base:.0f} | {ratio:.1f} |"
                )
                if kind != "npy":
                    path.unlink()


if __name__ == "__main__":
    main()
