"""What tables of images say, and manifests to read them from."""

import csv

import numpy as np
import pytest

from frostline.splits import SPLITS

NAMES = ["b/2.png", "a/1.jpg", "a/deep/er/3.png", "b/ü ñ.png", "a.c/1.png"]


def columns(source):
    """What the table says of each id: label, split, group, as text."""
    table = source.table
    return {
        id_.decode(): (table.classes[label] if label >= 0 else None, SPLITS[split], group.decode())
        for id_, label, split, group in zip(table.ids, table.labels, table.split, table.groups, strict=True)
    }


def stat_of(source, row):
    """Size and modification time behind the stamp of a file."""
    return source.table.stamps.view(np.int64)[row].tolist()


def write_manifest(path, *rows):
    """Write rows as CSV, or as TSV where the path says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows(rows)
    return path


def write_parquet(file, /, **cells):
    """Write columns as Parquet; the test is skipped without pyarrow."""
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra parquet")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(cells), file)
    return file
