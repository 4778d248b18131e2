"""Heads of scikit-learn. Its modules are imported when a head is built."""

from collections.abc import Mapping, Sequence
from typing import Any

from frostline.classifiers.heads.kinds import HeadKind
from frostline.classifiers.heads.parameters import (
    CLASS_WEIGHT,
    POSITIVE,
    Parameter,
    by_name,
    either,
    number,
    one_of,
    optional,
    whole,
)


def _scaled(classifier: Any) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), classifier)


def _build_logreg(params: Mapping[str, Any], _seed: int, _device: str) -> Any:
    from sklearn.linear_model import LogisticRegression

    return _scaled(LogisticRegression(**params))


LOGREG = HeadKind(
    name="logreg",
    summary="scikit-learn's LogisticRegression on standardised features",
    parameters=by_name(
        Parameter("C", 0.01, POSITIVE, "inverse strength of the penalty"),
        CLASS_WEIGHT,
        Parameter("tol", 1e-4, POSITIVE, "largest absolute gradient entry at convergence"),
        Parameter("max_iter", 1000, whole(1), "largest number of iterations"),
    ),
    build=_build_logreg,
    grid=lambda _: {"C": (1e-4, 1e-3, 1e-2, 1e-1, 1.0)},
)


def _build_ridge(params: Mapping[str, Any], seed: int, _device: str) -> Any:
    from sklearn.linear_model import RidgeClassifier

    return _scaled(RidgeClassifier(random_state=seed, **params))


RIDGE = HeadKind(
    name="ridge",
    summary="scikit-learn's RidgeClassifier on standardised features",
    parameters=by_name(Parameter("alpha", 1000.0, POSITIVE, "strength of the penalty"), CLASS_WEIGHT),
    build=_build_ridge,
    grid=lambda _: {"alpha": (1e5, 1e4, 1e3, 1e2, 10.0, 1.0)},
    scores="decision",
)


def _build_svm(params: Mapping[str, Any], seed: int, _device: str) -> Any:
    from sklearn.svm import SVC, LinearSVC

    options = dict(params)
    if options.pop("kernel") == "linear":
        del options["gamma"]
        return _scaled(LinearSVC(dual="auto", random_state=seed, **options))
    options["max_iter"] = -1  # libsvm counts iterations differently from liblinear, so that it has no limit
    return _scaled(SVC(kernel="rbf", **options))


def _svm_grid(fixed: Mapping[str, Any]) -> dict[str, Sequence[float]]:
    return {"C": (0.1, 1.0, 10.0, 100.0) if fixed.get("kernel") == "rbf" else (1e-5, 1e-4, 1e-3, 1e-2)}


SVM = HeadKind(
    name="svm",
    summary="scikit-learn's LinearSVC or, with kernel=rbf, SVC, on standardised features",
    parameters=by_name(
        Parameter("C", 1e-3, POSITIVE, "inverse strength of the penalty"),
        Parameter("kernel", "linear", one_of("linear", "rbf"), "linear, or radial basis functions"),
        Parameter(
            "gamma",
            "scale",
            either("scale", POSITIVE),
            "coefficient of the radial basis functions (kernel=rbf only)",
        ),
        CLASS_WEIGHT,
        Parameter("tol", 1e-3, POSITIVE, "stopping tolerance"),
        Parameter("max_iter", 1000, whole(1), "largest number of iterations (kernel=linear only)"),
    ),
    build=_build_svm,
    grid=_svm_grid,
    scores="decision",
)


def _build_centroid(params: Mapping[str, Any], _seed: int, _device: str) -> Any:
    from sklearn.neighbors import NearestCentroid
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    if params["metric"] == "euclidean":
        return _scaled(NearestCentroid())
    # Between vectors of length 1, Euclidean and cosine distances give the same ranking.
    return make_pipeline(Normalizer(), NearestCentroid())


CENTROID = HeadKind(
    name="centroid",
    summary="scikit-learn's NearestCentroid",
    parameters=by_name(
        Parameter("metric", "cosine", one_of("cosine", "euclidean"), "distance; euclidean standardises")
    ),
    build=_build_centroid,
    grid=lambda _: {"metric": ("cosine", "euclidean")},
    scores="distance",
)


def _build_lda(params: Mapping[str, Any], _seed: int, _device: str) -> Any:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    return _scaled(LinearDiscriminantAnalysis(solver="lsqr", **params))


LDA = HeadKind(
    name="lda",
    summary="scikit-learn's LinearDiscriminantAnalysis with a shrunk covariance",
    parameters=by_name(
        Parameter(
            "shrinkage",
            "auto",
            either("auto", number(0, 1 + 1e-12, closed=True)),
            "shrinkage towards a diagonal covariance; auto uses the Ledoit-Wolf estimate",
        ),
    ),
    build=_build_lda,
    grid=lambda _: {"shrinkage": (0.9, 0.5, 0.2, 0.05, 0.01)},
)


def _build_forest(params: Mapping[str, Any], seed: int, _device: str) -> Any:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline

    return make_pipeline(RandomForestClassifier(random_state=seed, **params))


FOREST = HeadKind(
    name="forest",
    summary="scikit-learn's RandomForestClassifier",
    parameters=by_name(
        Parameter("n_estimators", 200, whole(1), "number of trees"),
        Parameter("min_samples_leaf", 1, whole(1), "smallest number of rows per leaf"),
        Parameter(
            "max_features",
            "sqrt",
            either("sqrt", number(0, 1 + 1e-12)),
            "share of the features considered per split; sqrt uses the square root of their number",
        ),
        Parameter("max_depth", None, optional(whole(1)), "largest depth of a tree"),
        CLASS_WEIGHT,
    ),
    build=_build_forest,
    grid=lambda _: {"min_samples_leaf": (10, 3, 1)},
)


def _build_boosting(params: Mapping[str, Any], seed: int, _device: str) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline

    # Early stopping would hold out training rows without respect to duplicates and groups.
    return make_pipeline(HistGradientBoostingClassifier(random_state=seed, early_stopping=False, **params))


BOOSTING = HeadKind(
    name="boosting",
    summary="scikit-learn's HistGradientBoostingClassifier",
    parameters=by_name(
        Parameter("learning_rate", 0.1, POSITIVE, "shrinkage of the contribution of each tree"),
        Parameter("max_iter", 100, whole(1), "trees per class"),
        Parameter("max_leaf_nodes", 15, whole(2), "largest number of leaves per tree"),
        Parameter("min_samples_leaf", 20, whole(1), "smallest number of rows per leaf"),
        Parameter("l2_regularization", 1.0, number(0, closed=True), "L2 penalty on the leaf values"),
        Parameter("max_features", 0.3, number(0, 1 + 1e-12), "share of the features considered per split"),
        CLASS_WEIGHT,
    ),
    build=_build_boosting,
    grid=lambda _: {"max_leaf_nodes": (3, 15)},
)
