"""Few-shot accuracies: k different images of each class, the same draws for every seed, and evaluation on validation rows alone."""

import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid

from frostline.classifiers import FitOptions, LabelledRows
from frostline.classifiers.errors import HeadError, SplitError
from frostline.classifiers.experiments import subsets
from frostline.classifiers.experiments.few_shot import few_shot
from tests.classifiers.fits import take_options

TRAIN, VAL, TEST = np.arange(150), np.arange(150, 230), np.arange(230, 300)


@pytest.fixture(scope="module")
def data(make_blobs):
    return make_blobs(300, 12, 3, separation=1.0)


def images(n=300):
    return np.random.default_rng(5).integers(0, 256, (n, 16), np.uint8)


def run(data, head="centroid", **options):
    options = {"shots": (1, 4), "episodes": 12, "content": images(), **options}
    X, y = options.pop("X", data.X), options.pop("y", data.y)
    rows = LabelledRows(X, y, TRAIN, VAL, data.classes)
    return few_shot(head, rows, take_options(options), **options)


def test_episode_fits_head_to_k_rows_per_class(data):
    class Watching:
        shape, dtype, asked = data.X.shape, data.X.dtype, []

        def __getitem__(self, rows):
            self.asked.append(rows)
            return data.X[rows]

    spy = Watching()
    found = run(data, X=spy, params={"metric": "euclidean"}, episodes=3)
    fits = [rows for rows in spy.asked if len(rows) in {3, 12}]
    assert [len(rows) for rows in fits] == [3] * 3 + [12] * 3
    for few, more in zip(fits[:3], fits[3:], strict=True):
        assert np.bincount(data.y[few]).tolist() == [1] * 3
        assert np.bincount(data.y[more]).tolist() == [4] * 3
        assert set(few.tolist()) < set(more.tolist())
    for rows, accuracy in zip(fits[3:], found.scores[1].episodes, strict=True):
        scale = data.X[rows].std(axis=0)
        expected = NearestCentroid().fit(data.X[rows] / scale, data.y[rows])
        assert accuracy == pytest.approx(expected.score(data.X[VAL] / scale, data.y[VAL]))


def test_interval_is_student_t_and_wide_interval_contains_it(data):
    for score in run(data).scores:
        accuracies = np.array(score.episodes)
        assert score.accuracy == pytest.approx(accuracies.mean())
        reach = 2.200985 * accuracies.std(ddof=1) / np.sqrt(12)  # t of 11 degrees
        assert (score.low, score.high) == pytest.approx((score.accuracy - reach, score.accuracy + reach))
        assert score.wide_low < score.low
        assert score.wide_high > score.high
    one, four = run(data).scores
    assert four.accuracy > one.accuracy + 0.05


def test_the_wide_interval_covers_the_accuracy_on_all_images(make_blobs):
    covered = 0
    for seed in range(12):
        data = make_blobs(2000, 6, 2, seed=seed, separation=0.6)
        options = {"content": images(2000), "shots": [3], "episodes": 8}
        some = LabelledRows(data.X, data.y, np.arange(100), np.arange(100, 200), data.classes)
        all_others = some.divided(some.train, np.arange(200, 2000))
        (small,) = few_shot("centroid", some, FitOptions(device="cpu"), **options).scores
        (large,) = few_shot("centroid", all_others, FitOptions(device="cpu"), **options).scores
        covered += small.wide_low <= large.accuracy <= small.wide_high
    assert covered >= 10


def test_seed_determines_results(data):
    assert run(data) == run(data)
    assert run(data).scores != run(data, seed=1).scores


def test_neighbouring_seeds_share_neither_images_nor_head_seeds(data, monkeypatch):
    """4 of some 50 images of each of 3 classes: two of 60 independent draws are equal with probability 1e-13."""
    evaluate, drawn = subsets._evaluate, []

    def watched(trial, subset):
        drawn.append((subset.rows.tobytes(), trial.options_of(subset).seed))
        return evaluate(trial, subset)

    monkeypatch.setattr(subsets, "_evaluate", watched)
    for seed in range(5):
        run(data, shots=[4], seed=seed)
    images, seeds = zip(*drawn, strict=True)
    assert (len(set(images)), len(set(seeds))) == (60, 60)
    run(data, shots=[4], seed=2)
    assert drawn[60:] == drawn[24:36]


def test_journal_of_other_head_seeds_is_not_resumed(data, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(subsets.Trial, "head_seed", lambda trial, subset: trial.options.seed + subset.draw)
        run(data, journal=tmp_path / "episodes")
    found = run(data, journal=tmp_path / "episodes")
    assert found.resumed == 0
    assert run(data, journal=tmp_path / "episodes").resumed == 24


def test_copies_count_once(data):
    content = images()
    y = data.y.copy()
    copies = TRAIN[y[TRAIN] == 0][1:]
    content[copies] = content[copies[0]]
    with pytest.raises(SplitError, match="'class 0' has only 2 different training images"):
        run(data, content=content)
    assert run(data, content=content, shots=[2]).scores


def test_invalid_arguments_raise(data):
    with pytest.raises(SplitError, match="shots: got 80, but 'class"):
        run(data, shots=[80])
    with pytest.raises(HeadError, match="expected one or more numbers"):
        run(data, shots=[0])
    with pytest.raises(HeadError, match="at least 2"):
        run(data, episodes=1)
    with pytest.raises(HeadError, match="has no parameter"):
        run(data, params={"nonsense": 1})
    with pytest.raises(SplitError, match="no validation rows"):
        few_shot("ridge", LabelledRows(data.X, data.y, TRAIN, VAL[:0], data.classes), content=images())
