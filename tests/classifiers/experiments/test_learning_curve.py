"""Learning curves: nested subsets, parameters never chosen on the rows of the evaluation, an honest forecast, and resumption."""

import numpy as np
import pytest

from frostline.classifiers import FitOptions, LabelledRows
from frostline.classifiers.errors import HeadError, SplitError
from frostline.classifiers.experiments import subsets
from frostline.classifiers.experiments.few_shot import few_shot
from frostline.classifiers.experiments.learning_curve import CurvePoint, _forecast, learning_curve
from frostline.classifiers.heads.catalog import find_head
from tests.classifiers.fits import take_options

TRAIN, VAL, TEST = np.arange(160), np.arange(160, 240), np.arange(240, 300)
CONTENT = np.random.default_rng(5).integers(0, 256, (300, 16), np.uint8)
GROUPS = np.full(300, "")


@pytest.fixture(scope="module")
def data(make_blobs):
    return make_blobs(300, 12, 3, separation=0.8)


def run(data, head="ridge", *, X=None, y=None, **options):
    options = {"points": 4, "draws": 3, "content": CONTENT, "groups": GROUPS, **options}
    X, y = data.X if X is None else X, data.y if y is None else y
    return learning_curve(head, rows_of(data, X, y), take_options(options), **options)


def rows_of(data, X, y):
    return LabelledRows(X, y, TRAIN, VAL, data.classes)


class Spy:
    """Features of which no test row can be read, and nothing but by explicit rows."""

    def __init__(self, X):
        self._X, self.shape, self.dtype, self.asked = X, X.shape, X.dtype, []

    def __getitem__(self, rows):
        assert isinstance(rows, np.ndarray)
        assert rows.dtype == np.int64
        if np.isin(rows, TEST).any():
            raise AssertionError(f"test rows were read: {np.intersect1d(rows, TEST)}")
        self.asked.append(rows)
        return self._X[rows]

    def __array__(self, *_args, **_kwargs):
        raise AssertionError("the whole array was read")


@pytest.mark.parametrize("head", ["ridge", "mlp"])
def test_no_test_row_is_read_and_no_test_label_matters(head, data):
    spy, poisoned = Spy(data.X), data.y.copy()
    poisoned[TEST] = 99
    params = {"epochs": 3, "hidden": (4,), "lr": 0.01} if head == "mlp" else {}
    curve = run(data, head, X=spy, y=poisoned, params=params)
    assert spy.asked
    assert curve == run(data, head, params=params)
    options = FitOptions(params, device="cpu")
    watched = few_shot(head, rows_of(data, Spy(data.X), poisoned), options, content=CONTENT, episodes=2)
    assert watched == few_shot(head, rows_of(data, data.X, data.y), options, content=CONTENT, episodes=2)


def test_subsets_halve_nest_and_keep_the_classes_shares(data):
    spy = Spy(data.X)
    curve = run(data, X=spy)
    fits = [rows for rows in spy.asked if np.isin(rows, TRAIN).all()]
    assert [len(rows) for rows in fits[::3]] == [point.images for point in curve.points]
    assert curve.points[-1].images == 160
    assert len(fits) == 3 * 3 + 1  # all images are one subset, whatever the order
    for draw in range(3):
        for small, large in zip(fits[draw:9:3], fits[draw + 3 : 9 : 3], strict=False):
            assert set(small.tolist()) < set(large.tolist())
    whole = np.bincount(data.y[TRAIN])
    for rows in fits[6:9]:
        assert np.abs(np.bincount(data.y[rows]) - whole / 2).max() <= 0.5


def test_validation_rows_do_not_score_heads_chosen_on_them(data):
    """Labels of one half decide which candidate judges the other: they change nothing in their own half."""
    fold = np.arange(len(VAL)) % 2
    one, other = VAL[fold == 0], VAL[fold == 1]
    y = data.y.copy()
    y[one] = (y[one] + 1) % 3
    trial = trial_of(data, data.y, ((other, one), (one, other)))
    changed = trial_of(data, y, ((other, one), (one, other)))
    subset = subsets.Subset(len(TRAIN), 0, TRAIN)
    labels = subsets.predict_candidates("ridge", trial.rows, trial.options_of(subset))
    for each, wanted in ((trial, data.y), (changed, y)):
        right = subsets.evaluate_subsets(each, [subset]).correct[0]
        best = (labels[:, fold == 0] == wanted[one]).sum(axis=1).argmax()
        assert np.array_equal(right[fold == 1], labels[best, fold == 1] == wanted[other])


def trial_of(data, y, sides):
    return subsets.Trial(find_head("ridge"), rows_of(data, data.X, y), sides, FitOptions(device="cpu"))


def test_interrupted_curve_resumes(data, tmp_path, monkeypatch):
    whole, evaluate, calls = run(data), subsets._evaluate, []

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return evaluate(*arguments)

    monkeypatch.setattr(subsets, "_evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        run(data, journal=tmp_path / "curve")
    again = run(data, journal=tmp_path / "curve")
    assert again.points == whole.points
    assert (again.resumed, len(calls)) == (4, 5 + 6)
    assert list(tmp_path.iterdir()) == [again.journal]
    assert run(data, journal=tmp_path / "curve", key="other features").resumed == 0
    assert (
        run(data, journal=tmp_path / "curve", draws=4).resumed == 10
    )  # what is the same is not computed again


def test_the_answer_follows_from_the_forecast(make_blobs):
    steep, flat = make_blobs(900, 40, 6, separation=0.35), make_blobs(900, 2, 2, separation=5)
    for data, start in (
        (steep, ("More data would help", "It is uncertain")),
        (flat, ("More data would hardly help",)),
    ):
        content = np.random.default_rng(0).integers(0, 256, (900, 16), np.uint8)
        curve = learning_curve(
            "ridge",
            LabelledRows(data.X, data.y, np.arange(500), np.arange(500, 900), data.classes),
            FitOptions({"alpha": 10}),
            content=content,
            groups=np.full(900, ""),
            points=6,
        )
        assert curve.answer.startswith(start)
        assert curve.forecast.low <= curve.forecast.gain <= curve.forecast.high
        assert all(point.low <= point.accuracy <= point.high for point in curve.points)
    few = run(steep, points=3)
    assert few.forecast is None
    assert "too few" in few.answer


def test_invalid_arguments_raise(data):
    with pytest.raises(HeadError, match="at least 2"):
        run(data, points=1)
    with pytest.raises(SplitError, match="expected at least 4 per class"):
        run(data, content=np.zeros((300, 16), np.uint8))
    rows = LabelledRows(data.X, data.y, TRAIN, VAL[:0], data.classes)
    with pytest.raises(SplitError, match="no validation rows"):
        learning_curve("ridge", rows, content=CONTENT, groups=GROUPS)


def test_forecast_covers_curve_that_is_not_a_power_law():
    """Ridge on Gaussian classes, whose gains by doubling first rise and then fall; from 320 to 640 images it gains 0.018."""
    images, accuracies = (10, 20, 40, 80, 160, 320), np.array([0.332, 0.385, 0.444, 0.510, 0.563, 0.596])
    rng = np.random.default_rng(0)
    # As validation rows do, chance moves all sizes together, and each a little.
    samples = accuracies + 0.03 * rng.normal(size=(1000, 1)) + 0.008 * rng.normal(size=(1000, 6))
    points = [CurvePoint(n, a, a, a, (a,)) for n, a in zip(images, accuracies.tolist(), strict=True)]
    forecast = _forecast(points, samples, 0.95)
    assert forecast.low <= 0.018 <= forecast.high
    assert forecast.low <= forecast.gain <= forecast.high < 0.06
