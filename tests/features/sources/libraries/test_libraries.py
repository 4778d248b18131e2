"""Data sets of torchvision and of Hugging Face by name, from local files."""

import sys

import numpy as np
import pytest

from frostline import pipeline
from frostline.features.errors import SourceError
from frostline.features.images.decoding import upright_rgb
from frostline.features.sources import open_source
from frostline.splits import Split
from frostline.testing.images import encode, photo
from tests.features.sources.arrays.test_array import GREY, write_idx
from tests.helpers.needs import needs_datasets
from tests.helpers.network import BACKBONE

PICTURES = [photo(12, 10, seed=n) for n in range(6)]


def pixels(source, row):
    return np.asarray(upright_rgb(source.read(row)[0]))


@pytest.fixture
def mnist(tmp_path):
    """The root of a torchvision data set of the MNIST family, of six and two images."""
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part, images, labels in (("train", GREY, [5, 0, 4, 1, 9, 2]), ("t10k", GREY[:2], [7, 2])):
        write_idx(raw / f"{part}-images-idx3-ubyte", images)
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.array(labels, np.uint8))
    return tmp_path / "data"


class TestTorchvision:
    def test_both_splits_are_listed_with_the_names_of_the_classes(self, mnist):
        source = open_source(f"tv:FashionMNIST:{mnist}")
        table = source.table
        assert [id_.decode() for id_ in table.ids] == [
            *(f"test/{n:08}" for n in range(2)),
            *(f"train/{n:08}" for n in range(6)),
        ]
        assert table.split.tolist() == [Split.TEST] * 2 + [Split.TRAIN] * 6
        assert [table.classes[label] for label in table.labels[:3]] == ["Sneaker", "Pullover", "Sandal"]
        np.testing.assert_array_equal(pixels(source, 4)[..., 0], GREY[2])
        assert source.root == f"tv:FashionMNIST:{mnist}"

    def test_the_default_folder_is_data(self, mnist, monkeypatch):
        monkeypatch.chdir(mnist.parent)
        assert open_source("tv:FashionMNIST").root == f"tv:FashionMNIST:{mnist}"

    def test_features_are_kept(self, mnist, tmp_path):
        name = f"tv:FashionMNIST:{mnist}"
        assert pipeline.extract(name, cache=tmp_path / "c.h5", **BACKBONE).computed == 8
        assert pipeline.extract(name, cache=tmp_path / "c.h5", **BACKBONE).computed == 0

    def test_a_set_that_is_not_there_says_where_it_was_looked_for(self, tmp_path):
        with pytest.raises(
            SourceError, match=rf"tv:CIFAR10:{tmp_path}: torchvision can't read CIFAR10 in {tmp_path}"
        ):
            open_source(f"tv:CIFAR10:{tmp_path}")

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("tv:CIFAR01", r"has no data set 'CIFAR01' \(did you mean 'CIFAR10'"),
            ("tv:", "expected a name after tv:"),
            ("tv:wrap_dataset_for_transforms_v2", "has no data set"),
        ],
    )
    def test_other_names_are_refused(self, name, message):
        with pytest.raises(SourceError, match=message):
            open_source(name)


@needs_datasets
class TestHuggingFace:
    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        """A data set as the hub holds it: a Parquet file per split."""
        import datasets

        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        kinds = datasets.Features(
            {
                "image": datasets.Image(),
                "label": datasets.ClassLabel(names=["cat", "dog"]),
                "kind": datasets.Value("string"),
            }
        )
        (tmp_path / "set" / "data").mkdir(parents=True)
        for split, rows in (("train", range(4)), ("test", range(4, 6))):
            columns = {
                "image": [{"bytes": encode(PICTURES[row]), "path": None} for row in rows],
                "label": [row % 2 for row in rows],
                "kind": ["x"] * len(rows),
            }
            datasets.Dataset.from_dict(columns, kinds).to_parquet(
                tmp_path / "set" / "data" / f"{split}-00000-of-00001.parquet"
            )
        return tmp_path / "set"

    def test_bytes_labels_and_splits(self, folder):
        source = open_source(f"hf:{folder}")
        table = source.table
        assert table.ids.tolist() == [
            b"test/00000000",
            b"test/00000001",
            *(f"train/{n:08}".encode() for n in range(4)),
        ]
        assert table.classes == ("cat", "dog")
        assert table.labels.tolist() == [0, 1, 0, 1, 0, 1]
        assert table.split.tolist() == [Split.TEST] * 2 + [Split.TRAIN] * 4
        assert [source.read(row)[0] for row in range(6)] == [encode(PICTURES[n]) for n in (4, 5, 0, 1, 2, 3)]
        assert not source.unsettled(2**62).any()

    def test_it_has_the_features_of_its_parquet_files(self, folder, tmp_path):
        pipeline.extract(f"hf:{folder}", cache=tmp_path / "c.h5", **BACKBONE)
        result = pipeline.extract(folder / "data" / "*.parquet", cache=tmp_path / "c.h5", **BACKBONE)
        assert (result.computed, result.rows) == (0, 6)

    def test_columns_are_chosen(self, folder):
        assert open_source(f"hf:{folder}", label_column="kind").table.classes == ("x",)
        assert open_source(f"hf:{folder}", label_column="none").table.classes == ()
        with pytest.raises(SourceError, match="got no column of images called 'label' among"):
            open_source(f"hf:{folder}", path_column="label")

    def test_what_can_t_be_loaded_is_one_line(self, tmp_path):
        with pytest.raises(SourceError, match=r"hf:.*nowhere: can't be loaded: \w+: ") as caught:
            open_source(f"hf:{tmp_path / 'nowhere'}")
        assert len(str(caught.value).splitlines()) == 1


def test_the_library_is_named_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(SourceError, match=r"pip install 'frostline\[datasets\]'"):
        open_source("hf:cifar10")
