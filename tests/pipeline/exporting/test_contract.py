"""Every format is read back by its own reader, and compared row by row."""

import csv
import io
import json
import tarfile
import zipfile

import numpy as np
import torch
from safetensors import safe_open

from frostline.csv_cells import from_cell
from frostline.escapes import visible
from frostline.pipeline.exporting.exporters import EXPORTERS
from frostline.splits import SPLITS
from frostline.testing import Exported, ExporterContract
from tests.helpers.contracts import covered
from tests.helpers.needs import (
    needs_anndata,
    needs_faiss,
    needs_lancedb,
    needs_pyarrow,
    needs_tensorboard,
)


def provenance(path):
    return json.loads((path / "provenance.json").read_text())


def cells(values):
    """Values of a side column, None for a missing one."""
    return [None if value is None or value != value or value == "" else value for value in values]  # noqa: PLR0124


def of_table(table, names):
    """What an Arrow table holds."""
    columns = table.to_pydict()
    known = json.loads(table.schema.metadata[b"frostline"])
    features = {
        key: np.stack(table[name].combine_chunks().to_numpy(zero_copy_only=False))
        for key, name in names.items()
    }
    return Exported(
        known,
        columns["row"],
        columns["id"],
        columns["label"],
        columns["label_code"],
        columns["split"],
        columns["group"],
        columns["content"],
        {each["key"]: columns[each["name"]] for each in known["columns"]},
        features,
    )


def of_records(description, records, features):
    """What a table of texts holds, in which an empty text is none."""
    columns = {name: [record[name] for record in records] for name in records[0]}
    return Exported(
        description,
        [int(text) for text in columns["row"]],
        columns["id"],
        [text or None for text in columns["label"]],
        [int(text) for text in columns["label_code"]],
        [text or None for text in columns["split"]],
        [text or None for text in columns["group"]],
        columns["content"],
        {
            each["key"]: [
                float(value) if each["kind"] == "number" and value is not None else value
                for value in cells(columns[each["name"]])
            ]
            for each in description["columns"]
        },
        features,
    )


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return [{from_cell(k): from_cell(v) for k, v in row.items()} for row in csv.DictReader(file)]


@needs_pyarrow
class TestParquet(ExporterContract):
    name = "parquet"

    def read(self, path, names):
        from pyarrow import parquet

        return of_table(parquet.read_table(path), names)


@needs_pyarrow
class TestArrow(ExporterContract):
    name = "arrow"

    def read(self, path, names):
        import pyarrow as pa

        with pa.ipc.open_file(path.read_bytes()) as file:
            return of_table(file.read_all(), names)


class TestCsv(ExporterContract):
    name = "csv"
    typed = False

    def read(self, path, names):
        records = read_csv(path)
        features = {}
        for key, name in names.items():
            columns = [column for column in records[0] if column.rpartition("_")[0] == name]
            assert columns == [f"{name}_{number}" for number in range(len(columns))]
            features[key] = np.array(
                [[record[column] for column in columns] for record in records], np.float32
            )
        return of_records(json.loads(path.with_name(f"{path.name}.json").read_text()), records, features)


class TestNpz(ExporterContract):
    name = "npz"

    def read(self, path, names):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
        with np.load(path, allow_pickle=False) as arrays:
            labels = arrays["labels"].tolist()
            classes = (*arrays["classes"].tolist(), None)
            known = json.loads(str(arrays["provenance"]))
            return Exported(
                known,
                arrays["rows"].tolist(),
                arrays["ids"].tolist(),
                [classes[label] for label in labels],
                labels,
                [split or None for split in arrays["split"].tolist()],
                [group or None for group in arrays["groups"].tolist()],
                [row.tobytes().hex() for row in arrays["content"]],
                {each["key"]: cells(arrays[each["name"]].tolist()) for each in known["columns"]},
                {key: arrays[name] for key, name in names.items()},
            )


class TestNpy(ExporterContract):
    name = "npy"

    def read(self, path, names):
        features = {
            key: np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for key, name in names.items()
        }
        return of_records(provenance(path), read_csv(path / "rows.csv"), features)


class TestSafetensors(ExporterContract):
    name = "safetensors"

    def read(self, path, names):
        with safe_open(path, "pt") as file:
            known = json.loads(file.metadata()["frostline"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        for name in names.values():
            assert str(tensors[name].dtype) == f"torch.{known['dtype']}"
        labels = tensors["labels"].tolist()
        classes = (*known["classes"], None)

        def texts(name):
            return [bytes(row).rstrip(b"\0").decode() for row in tensors[name].numpy()]

        return Exported(
            known,
            tensors["rows"].tolist(),
            texts("ids"),
            [classes[label] for label in labels],
            labels,
            [SPLITS[code] or None for code in tensors["split"].tolist()],
            [group or None for group in texts("groups")],
            [bytes(row).hex() for row in tensors["content"].numpy()],
            {
                each["key"]: cells(
                    tensors[each["name"]].tolist() if each["kind"] == "number" else texts(each["name"])
                )
                for each in known["columns"]
            },
            {
                key: tensors[name].numpy()
                if tensors[name].dtype != torch.bfloat16
                else tensors[name].float().numpy()
                for key, name in names.items()
            },
        )


@needs_anndata
class TestAnnData(ExporterContract):
    name = "anndata"

    def read(self, path, names):
        import anndata

        data = anndata.read_h5ad(path)
        obs = data.obs
        keys = list(names)
        assert list(data.var_names) == [str(number) for number in range(data.n_vars)]
        assert obs.index.name == "id"

        def texts(name):
            return [None if value != value else value for value in obs[name].astype(object)]  # noqa: PLR0124  # NaN

        known = json.loads(data.uns["frostline"])
        return Exported(
            known,
            obs["row"].tolist(),
            obs.index.tolist(),
            texts("label"),
            obs["label_code"].tolist(),
            texts("split"),
            [group or None for group in obs["group"]],
            obs["content"].tolist(),
            {each["key"]: cells(obs[each["name"]].tolist()) for each in known["columns"]},
            {keys[0]: data.X, **{key: data.obsm[names[key]] for key in keys[1:]}},
        )


class FaissContract(ExporterContract):
    name = "faiss"

    def read(self, path, names):
        import faiss

        features = {}
        for key, name in names.items():
            index = faiss.read_index(str(path / f"{name}.faiss"))
            vectors = features[key] = index.reconstruct_n(0, index.ntotal)
            assert index.is_trained
            found = index.search(vectors[:20], 1)[1][:, 0]
            np.testing.assert_array_equal(vectors[found], vectors[:20])  # each is nearest to itself
        return of_records(provenance(path), read_csv(path / "rows.csv"), features)


@needs_faiss
class TestFaiss(FaissContract):
    tolerance = 1e-7

    def expected_vectors(self, values):
        vectors = values.astype(np.float64)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@needs_faiss
class TestFaissEuclidean(FaissContract):
    def exported(self, images, folder, dtype="float32", **options):
        return super().exported(images, folder, dtype, metric="euclidean", **options)

    test_what_exists_is_kept_unless_it_is_to_be_replaced = None  # exports without the option


@needs_lancedb
class TestLanceDb(ExporterContract):
    name = "lancedb"
    test_the_memory_does_not_grow_with_the_rows = (
        None  # its library collects some MB first; see test_memory.py
    )

    def read(self, path, names):
        import lancedb

        table = lancedb.connect(path).open_table("vectors")
        assert table.schema.metadata[b"frostline"].decode() == (path / "provenance.json").read_text()
        return of_table(table.to_arrow(), names)


@needs_tensorboard
class TestTensorBoard(ExporterContract):
    name = "tensorboard"

    def expected_text(self, text):
        return visible(text)

    def read(self, path, names):
        from google.protobuf import text_format
        from tensorboard.plugins.projector import projector_plugin
        from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

        config = text_format.Parse((path / "projector_config.pbtxt").read_text(), ProjectorConfig())
        features = {}
        for each in config.embeddings:
            assert each.tensor_path == f"{names[each.tensor_name]}.bytes"
            features[each.tensor_name] = projector_plugin._read_tensor_binary_file(
                str(path / each.tensor_path), each.tensor_shape
            )
        head, *lines = (path / each.metadata_path).read_text("utf-8").removesuffix("\n").split("\n")
        records = [dict(zip(head.split("\t"), line.split("\t"), strict=True)) for line in lines]
        return of_records(provenance(path), records, features)


class TestWebDataset(ExporterContract):
    name = "webdataset"

    def exported(self, images, folder, dtype="float32", **options):
        found = super().exported(images, folder, dtype, shard_rows=100, **options)
        shards = [path.name for path in (folder / "out-webdataset").glob("*.tar")]
        assert len(shards) == -(-len(found[0].rows) // 100)
        return found

    def read(self, path, names):
        samples = {}
        for shard in sorted(path.glob("vectors-*.tar")):
            with tarfile.open(shard) as archive:
                for member in archive:
                    key, _, suffix = member.name.partition(".")
                    samples.setdefault(key, {})[suffix] = archive.extractfile(member).read()
        records = [json.loads(sample["json"]) for sample in samples.values()]
        for record, sample in zip(records, samples.values(), strict=True):
            assert sample.get("cls", b"-1") == str(record["label_code"]).encode()
        suffixes = {key: f"{name}.npy" if len(names) > 1 else "npy" for key, name in names.items()}
        features = {
            key: np.stack([np.load(io.BytesIO(sample[suffix])) for sample in samples.values()])
            for key, suffix in suffixes.items()
        }
        return of_records(provenance(path), records, features)


def test_every_format_is_covered():
    assert set(EXPORTERS.builtin) == covered(globals(), ExporterContract, "name")
