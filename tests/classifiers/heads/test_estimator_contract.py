"""scikit-learn's own checks on our estimators."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from frostline.classifiers import LinearHead, MLPHead

ESTIMATORS = [
    LinearHead(tol=1e-19, device="cpu"),
    LinearHead(device="cpu", dtype="float32", scale="none", class_weight="balanced"),
    MLPHead((16,), dropout=0.0, lr=0.05, epochs=12, batch_size=64, device="cpu"),
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
    if estimator.dtype == "float32":
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
def test_scikit_learn_estimator_contract(estimator, check):
    check(estimator)
