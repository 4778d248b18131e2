"""Memory and time of `frostline cache export` by rows, against what a script with other libraries does (Linux).

python benchmarks/export.py [--rows 10000 200000] [--dim 256] [--formats parquet csv ...] [--folder DIR] [--json FILE]

The caches are synthetic float16 ones. Each export is a process of its own, and so is its contender, which reads all
features into memory and calls the usual function of its library. Memory is the peak of the resident memory of the whole
process (VmHWM of /proc/PID/status). Contenders take turns with the exports.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from large_cache import write

from frostline.commands.interface.terminal import print_table
from frostline.pipeline.exporting.exporters import EXPORTERS

READ = """
import sys, numpy as np
from frostline import FeatureCache
cache, out = FeatureCache.open(sys.argv[1]), sys.argv[2]
X, ids, y = np.array(cache.features()), cache.ids, cache.labels
"""

TABLE = """
import pyarrow as pa
table = pa.table({"id": ids, "label": y, "embedding": pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), X.shape[1])})
"""

CONTENDERS = {
    "parquet": TABLE + "import pyarrow.parquet as pq; pq.write_table(table, out, compression='zstd')",
    "arrow": TABLE
    + "import pyarrow.feather as feather; feather.write_feather(table, out, compression='uncompressed')",
    "csv": "import pandas as pd; frame = pd.DataFrame(X.astype('f4')); frame.insert(0, 'id', ids); frame.to_csv(out, index=False)",
    "npz": "np.savez(out, ids=ids, labels=y, embedding=X)",
    "npy": "np.save(out, X)",
    "safetensors": "from safetensors.numpy import save_file; save_file({'embedding': X, 'labels': y}, out)",
    "anndata": "import anndata, pandas as pd; anndata.AnnData(X, pd.DataFrame({'label': y}, index=ids)).write_h5ad(out)",
    "faiss": "import faiss; X = X.astype('f4'); faiss.normalize_L2(X); index = faiss.IndexFlatIP(X.shape[1]); index.add(X);"
    "faiss.write_index(index, out)",
    "lancedb": TABLE + "import lancedb; lancedb.connect(out).create_table('vectors', table)",
}
"""The script one would write, by format; None of them writes the provenance."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 200_000])
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--formats", nargs="+", choices=EXPORTERS.builtin, default=EXPORTERS.builtin)
    parser.add_argument("--folder", type=Path, help="where the files go; by default the temporary folder")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        caches = {rows: Path(folder) / f"{rows}.h5" for rows in options.rows}
        for rows, path in caches.items():
            write(path, rows, options.dim, 10)
        for name in options.formats:
            for rows, path in caches.items():
                out = Path(folder) / f"{name}-{rows}"
                arguments = ["cache", "export", str(path), "--to", name, "--out", str(out), "--quiet"]
                measured = watch([sys.executable, "-m", "frostline", *arguments])
                if name in CONTENDERS:
                    script = READ + CONTENDERS[name]
                    other = watch([sys.executable, "-c", script, str(path), f"{out}-other"])
                    measured |= {f"{key} of the other": value for key, value in other.items()}
                found[f"{name}, {rows} rows"] = measured
                subprocess.run(["rm", "-r", *map(str, Path(folder).glob(f"{name}-*"))], check=True)  # noqa: S607
    show(found, options.rows, options.formats)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


def show(found: dict[str, dict[str, float]], rows: list[int], formats: list[str]) -> None:
    """Print the peaks and times, and their ratios."""
    lines = []
    for name in formats:
        few, many = (found[f"{name}, {count} rows"] for count in (min(rows), max(rows)))
        other = "MB of the other" in many
        lines.append(
            [
                name,
                f"{few['MB']:.0f}",
                f"{many['MB']:.0f}",
                f"{many['MB'] / few['MB']:.2f}",
                f"{many['s']:.1f}",
                f"{many['MB'] / many['MB of the other']:.2f}" if other else "",
                f"{many['s'] / many['s of the other']:.2f}" if other else "",
            ]
        )
    headings = ["format", f"MB, {min(rows)}", f"MB, {max(rows)}", "ratio", "s", "MB / other's", "s / other's"]
    print_table(headings, lines, title="frostline cache export")


def watch(command: list[str]) -> dict[str, float]:
    """Seconds that a command takes, and the peak of its resident memory in MB."""
    peak = 0.0
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            for line in status.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    peak = max(peak, int(line.split()[1]) / 1e3)
            time.sleep(0.005)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: exit status {process.returncode}")
    return {"s": time.perf_counter() - started, "MB": peak}


if __name__ == "__main__":
    main()
