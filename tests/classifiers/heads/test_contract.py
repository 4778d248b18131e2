"""The built-in heads meet the contract of heads, and our own estimators that of scikit-learn."""

from typing import ClassVar

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from frostline.classifiers import HEADS, LinearHead, MLPHead
from frostline.classifiers.heads.knn import KNNHead
from frostline.testing import HeadContract
from tests.helpers.contracts import covered


class TestLinear(HeadContract):
    name = "linear"


class TestMLP(HeadContract):
    name = "mlp"
    params: ClassVar = {"hidden": (16,), "epochs": 15, "lr": 0.01}


class TestLogReg(HeadContract):
    name = "logreg"


class TestRidge(HeadContract):
    name = "ridge"


class TestSVM(HeadContract):
    name = "svm"


class TestSVMWithKernel(HeadContract):
    name = "svm"
    params: ClassVar = {"kernel": "rbf"}


class TestKNN(HeadContract):
    name = "knn"


class TestCentroid(HeadContract):
    name = "centroid"


class TestLDA(HeadContract):
    name = "lda"


class TestForest(HeadContract):
    name = "forest"
    params: ClassVar = {"n_estimators": 10}


class TestBoosting(HeadContract):
    name = "boosting"
    params: ClassVar = {"max_iter": 10}


class TestImportedClassifier(HeadContract):
    name = "sklearn.naive_bayes:GaussianNB"


def test_every_built_in_head_is_tested():
    assert set(HEADS.builtin) <= covered(globals(), HeadContract, "name")


ESTIMATORS = [
    LinearHead(tol=1e-19, device="cpu"),
    LinearHead(device="cpu", dtype="float32", scale="none", class_weight="balanced"),
    MLPHead((16,), dropout=0.0, lr=0.05, epochs=12, batch_size=64, device="cpu"),
    KNNHead(n_neighbors=3),
    KNNHead(n_neighbors=3, metric="euclidean", weights="softmax"),
]


def expected_failures(estimator):
    if isinstance(estimator, MLPHead):
        return {
            "check_sample_weight_equivalence_on_dense_data": (
                "Rows are drawn into mini-batches: a row with weight 2 is drawn once, two copies of it are drawn "
                "apart, so the steps taken differ though the objective is the same. scikit-learn's own stochastic "
                "estimators fail it likewise."
            )
        }
    if getattr(estimator, "dtype", "auto") == "float32":
        return {
            "check_sample_weight_equivalence_on_dense_data": (
                "The check asks for 7 equal digits; products in float32 have no more. It passes with dtype='auto'."
            )
        }
    return {}


# The checks feed degenerate data on purpose, and scikit-learn skips one for want of SCIPY_ARRAY_API.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failures)
def test_own_estimators_pass_all_checks_of_scikit_learn(estimator, check):
    check(estimator)
