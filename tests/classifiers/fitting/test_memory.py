"""Rows that don't fit into memory are read in blocks, or refused by heads that need them all."""

import numpy as np
import pytest

from frostline.classifiers import HEADS, FitOptions, LabelledRows, LinearHead, fit_head
from frostline.classifiers.errors import HeadError
from frostline.classifiers.fitting.search import SearchPlan, search_head
from frostline.classifiers.numerics.selected_rows import SelectedRows
from tests.classifiers.fits import take_options

TRAIN, VAL = np.arange(0, 1200, 2), np.arange(1, 600, 2)


class Lazy:
    """Features that can only be read some at a time, and remember the most that was asked for at once."""

    def __init__(self, X):
        self._X, self.most = X, 0
        self.shape, self.dtype = X.shape, X.dtype

    def __getitem__(self, rows):
        self.most = max(self.most, len(rows))
        return self._X[rows]

    def __array__(self, *_args, **_kwargs):
        raise AssertionError("the whole array was read")


@pytest.fixture(scope="module")
def data(make_blobs):
    return make_blobs(1200, 10, 3)


def fit(data, X, **options):
    rows = LabelledRows(X, data.y, TRAIN, VAL, data.classes)
    return fit_head(options.pop("name", "linear"), rows, take_options(options), **options)


def test_a_head_from_streamed_rows_is_that_from_rows_in_memory(data, monkeypatch):
    narrow = data.X.astype(np.float16)
    whole = fit(data, narrow)
    for place in (
        "frostline.classifiers.numerics.matrices._BLOCK_BYTES",
        "frostline.classifiers.numerics.selected_rows._CHUNK_BYTES",
    ):
        monkeypatch.setattr(place, 20 * 4 * 10)
    lazy = Lazy(narrow)
    streamed = fit(data, lazy, memory=1)
    assert lazy.most <= 256 < len(TRAIN)
    assert streamed.params == whole.params
    assert streamed.validation == pytest.approx(whole.validation, abs=1e-3)
    assert streamed.predict_proba(data.X) == pytest.approx(whole.predict_proba(data.X), abs=5e-3)


def test_selected_rows_give_the_head_of_their_copy(blobs):
    rows = np.random.default_rng(0).permutation(len(blobs.y))[:200]
    weights = np.random.default_rng(1).integers(0, 3, 200)
    copied = LinearHead(device="cpu").fit(blobs.X[rows], blobs.y[rows], weights)
    for memory in (None, 1):
        selected = LinearHead(device="cpu", memory=memory, tol=1e-9, max_iter=9999)
        selected.fit(SelectedRows(blobs.X, rows), blobs.y[rows], weights)
        assert selected.n_features_in_ == 12
        assert selected.objective_ == pytest.approx(copied.objective_, rel=2e-5)


def test_selecting_never_changes_the_source(blobs):
    before = blobs.X.copy()
    for memory in (None, 1):
        LinearHead(device="cpu", memory=memory).fit(SelectedRows(blobs.X, np.arange(300)), blobs.y)
    assert np.array_equal(blobs.X, before)


def test_rows_that_are_not_finite_are_named_by_their_place_in_the_cache(data):
    broken = data.X.copy()
    broken[130, 2] = np.inf
    with pytest.raises(HeadError, match=r"features of row 130 \(and 0 more\) are not finite"):
        fit(data, broken, memory=1)


@pytest.mark.parametrize("name", sorted(name for name in HEADS.builtin if not HEADS[name].streams))
def test_heads_without_streaming_raise_above_memory_limit(name, data):
    needed = 2 * 900 * 10 * 4
    with pytest.raises(
        HeadError, match=rf"{name}' needs all of its rows in memory: 900 x 10 .*; use linear, which"
    ):
        fit(data, data.X, name=name, memory=needed - 1)


def test_rows_that_just_fit_are_taken(data):
    assert fit(data, data.X, name="ridge", memory=2 * 900 * 10 * 4).params["alpha"]


@pytest.mark.long
def test_processes_of_a_search_share_the_memory(data):
    rows = LabelledRows(data.X, data.y, TRAIN, VAL, data.classes)
    options = FitOptions(device="cpu", memory=2 * 900 * 10 * 4)
    found = search_head("ridge", rows, SearchPlan("grid", jobs=1), options)
    assert found.params["alpha"]
    with pytest.raises(HeadError, match="needs all of its rows in memory"):
        search_head("ridge", rows, SearchPlan("grid", jobs=2), options)
