"""Contract of exporters, which write the vectors of a cache for other programs."""

import json
import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from frostline.features.cache import FeatureCache, open_writer
from frostline.features.cache import selection as selections
from frostline.features.cache.arrow_rows import column_names
from frostline.features.columns import Column
from frostline.features.spec import Dtype, FeatureSpec, Layer, Transform
from frostline.features.table import FAILED, OK, ImageSource, ImageTable
from frostline.pipeline import ExportError, export_cache
from frostline.pipeline.exporting.exporters import EXPORTERS, Exporter
from frostline.splits import SPLITS

LAYERS = (Layer("embedding", "none", 12), Layer("blocks.4", "avg", 5))
_NAMES = (
    "=1+1.jpg", "-2", "'=3", "0007", "1e5", "NaN", "a,b.jpg", 'a"b.jpg', "a\tb", "a\nb", "a\r\nb", " blanks ",
    "a/b.c.d/e.jpg", "back\\slash", "Größe é.png", "猫/😀.jpg", "עברית", "\u2028line", "\x1b[31mred", "<b>&amp;</b>", "x" * 300,
)  # fmt: skip
_CLASSES = ("=SUM(A1)", "Ü 猫", 'with "quotes", and\ncommas', "zebra")
_NOTES = ("", "=2", "a,\n\t b", "猫")
_GROUPS = ("", "patient 1", "=g", "猫\t2")


@dataclass(frozen=True)
class Exported:
    """What a reader found in an export; all sequences are of the rows in order.

    Attributes:
        description: Provenance, as parsed JSON.
        rows: Rows in the cache.
        ids: Names of the images.
        labels: Class names, None for unknown.
        codes: Numbers of the classes, -1 for unknown.
        splits: Declared splits, None for none.
        groups: Groups, None for none.
        content: Digests of the image files, 32 hexadecimal digits.
        columns: Values of the side columns by their name in the cache, None for a missing one.
        features: (n, dim) vectors by key of the layer.
    """

    description: Mapping[str, Any]
    rows: Sequence[int]
    ids: Sequence[str]
    labels: Sequence[str | None]
    codes: Sequence[int]
    splits: Sequence[str | None]
    groups: Sequence[str | None]
    content: Sequence[str]
    columns: Mapping[str, Sequence[Any]]
    features: Mapping[str, NDArray[Any]]


@dataclass(eq=False)
class _Images(ImageSource):
    """Images that are never read, and the features of each."""

    count: int
    layers: tuple[Layer, ...]
    root: str = "/images"
    table: ImageTable = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        names = sorted({*_NAMES, *(f"class/{number:05d}.jpg" for number in range(self.count - len(_NAMES)))})
        self.names = sorted(names, key=str.encode)
        self.table = ImageTable(
            ids=np.array([name.encode() for name in self.names]),
            labels=rng.integers(-1, len(_CLASSES), self.count),
            classes=_CLASSES,
            split=rng.integers(0, 4, self.count).astype(np.uint8),
            groups=np.array([group.encode() for group in _GROUPS])[rng.integers(0, len(_GROUPS), self.count)],
            stamps=np.zeros((self.count, 16), np.uint8),
            columns=(
                Column(
                    "weight", np.where(rng.random(self.count) < 0.1, np.nan, rng.standard_normal(self.count))
                ),
                Column("row", np.array([note.encode() for note in _NOTES])[rng.integers(0, 4, self.count)]),
            ),
        )
        self.content = rng.integers(0, 256, (self.count, 16), np.uint8)
        self.status = np.where(rng.random(self.count) < 0.02, FAILED, OK).astype(np.uint8)
        self.features = {
            layer.key: (rng.standard_normal((self.count, layer.dim)) * 10.0 ** rng.integers(-3, 3)).astype(
                np.float32
            )
            for layer in self.layers
        }

    def read(self, row: int) -> tuple[bytes, bytes]:
        """Fail."""
        raise OSError(f"row {row} is never read")

    def write(self, path: Path, dtype: Dtype) -> FeatureCache:
        """Write the cache of the images."""
        spec = FeatureSpec(
            backbone="test:net",
            weights_sha256="0" * 64,
            transform=Transform(36, "shortest", (32, 32), "bicubic", (0.5,) * 3, (0.25,) * 3),
            layers=self.layers,
            precision="fp32",
            dtype=dtype,
            engine="none",
            device="cpu",
            decoder="none 1.0",
            versions={"numpy": "2"},
        )
        writer = open_writer(path, spec, self)
        if isinstance(writer, FeatureCache):
            return writer
        with writer:
            writer.put(
                writer.todo,
                {key: values[:, None] for key, values in self.features.items()},
                content=self.content,
                stamps=self.table.stamps,
                status=self.status,
                errors=["not an image" if status == FAILED else "" for status in self.status],
            )
            return writer.finish()


class ExporterContract:
    """Tests of an exporter; see `frostline.pipeline.exporting.exporters.Exporter`.

    A subclass defines `read` with a reader of the format that is not its writer.

    Attributes:
        name: Name of the format in the registry.
        tolerance: Largest accepted difference of a number, relative to the largest of all.
        typed: Whether the format says how numbers are stored.

    Example:
        >>> class TestTable(ExporterContract):
        ...     name = "table"
        ...
        ...     def read(self, path, names):
        ...         return Exported(...)
    """

    name: ClassVar[str]
    tolerance: ClassVar[float] = 0
    typed: ClassVar[bool] = True

    def read(self, path: Path, names: Mapping[str, str]) -> Exported:
        """Read an export.

        Args:
            path: The file or folder.
            names: Name of each layer in the format, by key.
        """
        raise NotImplementedError

    def expected_text(self, text: str) -> str:
        """Return the text that the format holds for a name of an image, class or group."""
        return text

    def expected_vectors(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the vectors that the format holds for those of the cache."""
        return values

    def exported(
        self, images: _Images, folder: Path, dtype: Dtype = "float32", **options: Any
    ) -> tuple[Exported, FeatureCache]:
        """Export a cache of images and read it back."""
        cache = images.write(folder / "cache.h5", dtype)
        out = folder / f"out{EXPORTERS[self.name].suffix}"
        export_cache(cache, to=self.name, out=out, **options)
        keys = [layer.key for layer in images.layers]
        return self.read(out, self._names(options.get("layer") or keys)), cache

    def _names(self, keys: Sequence[str]) -> dict[str, str]:
        exporter = EXPORTERS[self.name]
        return column_names(keys, taken=exporter.taken, forbidden=exporter.forbidden)

    def compare(self, found: Exported, images: _Images, dtype: Dtype, rows: NDArray[np.int64]) -> None:
        """Compare what was read with the images, row by row."""

        def texts(values: Sequence[str]) -> list[str | None]:
            return [self.expected_text(value) if value else None for value in values]

        labels = images.table.labels[rows].tolist()
        assert list(found.rows) == rows.tolist()
        assert list(found.ids) == texts([images.names[row] for row in rows])
        assert list(found.codes) == labels
        assert list(found.labels) == texts([_CLASSES[label] if label >= 0 else "" for label in labels])
        assert list(found.splits) == texts([SPLITS[code] for code in images.table.split[rows]])
        assert list(found.groups) == texts([group.decode() for group in images.table.groups[rows].tolist()])
        assert list(found.content) == [digest.tobytes().hex() for digest in images.content[rows]]
        weight, note = images.table.columns
        assert list(found.columns) == ["weight", "row"]
        assert found.columns["weight"] == [None if x != x else x for x in weight.values[rows].tolist()]  # noqa: PLR0124
        assert found.columns["row"] == texts([text.decode() for text in note.values[rows].tolist()])
        for key, values in found.features.items():
            expected = self.expected_vectors(_rounded(images.features[key][rows], dtype))
            assert values.shape == expected.shape
            difference = np.abs(values.astype(np.float64) - expected.astype(np.float64)).max()
            assert difference <= self.tolerance * np.abs(expected).max()

    def test_name_has_an_implementation(self) -> None:
        """Check that the registry has the format, and messages can describe it."""
        assert self.name in list(EXPORTERS)
        assert isinstance(EXPORTERS[self.name], Exporter)
        assert EXPORTERS[self.name].summary.strip()

    @pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
    def test_rows_are_read_back_as_they_were(
        self, tmp_path: Path, dtype: Literal["float32", "float16", "bfloat16"]
    ) -> None:
        """Check names of all kinds, side columns and several layers; rows without features are left out."""
        images = _Images(600, LAYERS)
        found, _ = self.exported(images, tmp_path, dtype)
        assert found.features.keys() == {layer.key for layer in LAYERS}
        self.compare(found, images, dtype, np.flatnonzero(images.status == OK))

    @pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
    def test_numbers_have_the_declared_format(
        self, tmp_path: Path, dtype: Literal["float32", "float16", "bfloat16"]
    ) -> None:
        """Check that float16 stays float16, and all else that the exporter says."""
        found, _ = self.exported(_Images(60, LAYERS[:1]), tmp_path, dtype)
        declared = EXPORTERS[self.name].dtypes[dtype]
        assert found.description["dtype"] == declared
        if self.typed and declared != "bfloat16":
            assert {values.dtype.name for values in found.features.values()} == {declared}

    def test_one_layer_and_one_split_can_be_chosen(self, tmp_path: Path) -> None:
        """Check an export of a part of a cache."""
        images = _Images(300, LAYERS)
        found, _ = self.exported(images, tmp_path, layer=["blocks.4:avg"], split=["val"])
        assert found.features.keys() == {"blocks.4:avg"}
        rows = np.flatnonzero((images.status == OK) & (images.table.split == SPLITS.index("val")))
        self.compare(found, images, "float32", rows)

    def test_the_description_says_what_the_vectors_are(self, tmp_path: Path) -> None:
        """Check that the specification, the key, the source and the classes can be read."""
        found, cache = self.exported(_Images(300, LAYERS), tmp_path)
        known = found.description
        assert known["key"] == cache.key
        assert FeatureSpec.from_json(_canonical(known["specification"])) == cache.spec
        assert known["source"] == "/images"
        assert known["classes"] == list(_CLASSES)
        assert known["frostline"]
        assert known["failed"] == int((~cache.ok).sum()) > 0
        assert known["rows"] == int(cache.ok.sum())

    def test_the_memory_does_not_grow_with_the_rows(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Check what Python and NumPy allocate: six times the rows need less than half of their vectors more."""
        monkeypatch.setattr(selections, "BLOCK_BYTES", 1)  # the smallest blocks
        layer = Layer("embedding", "none", 96)
        few, many = 256, 1536
        peaks = []
        for number, count in enumerate((few, few, many)):  # the first imports what is needed
            images = _Images(count, (layer,))
            (tmp_path / str(number)).mkdir()
            cache = images.write(tmp_path / str(number) / "cache.h5", "float32")
            images.features.clear()
            out = tmp_path / str(number) / f"out{EXPORTERS[self.name].suffix}"
            tracemalloc.start()
            export_cache(cache, to=self.name, out=out)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert peaks[2] - peaks[1] < (many - few) * 96 * 4 / 2

    def test_what_exists_is_kept_unless_it_is_to_be_replaced(self, tmp_path: Path) -> None:
        """Check that an earlier export is refused, and replaced as a whole if that is asked for."""
        first, second = _Images(300, LAYERS), _Images(60, LAYERS[:1])
        cache = first.write(tmp_path / "first.h5", "float32")
        out = tmp_path / f"out{EXPORTERS[self.name].suffix}"
        export_cache(cache, to=self.name, out=out)
        other = second.write(tmp_path / "second.h5", "float32")
        with pytest.raises(ExportError, match="exists already; pass --overwrite"):
            export_cache(other, to=self.name, out=out)
        found = self.read(out, self._names([layer.key for layer in LAYERS]))
        self.compare(found, first, "float32", np.flatnonzero(first.status == OK))
        export_cache(other, to=self.name, out=out, overwrite=True)
        found = self.read(out, self._names(["embedding"]))
        self.compare(found, second, "float32", np.flatnonzero(second.status == OK))

    def test_a_failure_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Check that an export that is cut short leaves no file."""
        cache = _Images(600, LAYERS).write(tmp_path / "cache.h5", "float32")
        check, before = cache.check_features, sorted(tmp_path.iterdir())
        monkeypatch.setattr(selections, "BLOCK_BYTES", 1)

        def failing(layer: str | None = None, blocks: NDArray[np.int64] | None = None) -> None:
            if blocks is not None and blocks.max() > 0:
                raise KeyboardInterrupt
            check(layer, blocks)

        monkeypatch.setattr(cache, "check_features", failing)
        with pytest.raises(KeyboardInterrupt):
            export_cache(cache, to=self.name, out=tmp_path / f"out{EXPORTERS[self.name].suffix}")
        assert sorted(tmp_path.iterdir()) == before


def _rounded(values: NDArray[np.float32], dtype: Dtype) -> NDArray[Any]:
    """Return the values of a number format nearest to those given."""
    if dtype == "bfloat16":
        import torch

        return torch.from_numpy(values).bfloat16().float().numpy()
    return values.astype(dtype)


def _canonical(specification: Mapping[str, Any]) -> str:
    return json.dumps(specification, sort_keys=True, separators=(",", ":"))
