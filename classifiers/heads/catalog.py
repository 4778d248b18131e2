"""The heads there are."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from frostline.classifiers.errors import HeadError
from frostline.classifiers.heads.foreign import find_estimator, plugin_names
from frostline.classifiers.heads.kinds import HeadKind, Parameter, Values, near


def find_head(name: str) -> HeadKind:
    """The kind of head of that name: one of `HEADS`, an installed plugin's, or ``module:Class``.

    Raises:
        HeadError: There is none; the message names near matches and all that there are.
    """
    if name in HEADS:
        return HEADS[name]
    plugins = plugin_names()
    if ":" in name or name in plugins:
        return find_estimator(name)
    names = (*HEADS, *plugins)
    raise HeadError(
        f"no head {name!r}{near(name, names)}; there are {', '.join(names)}, and any scikit-learn classifier "
        "as module:Class"
    )


def parse_params(head: str, texts: Iterable[str]) -> dict[str, Any]:
    """Parameters of a head from texts such as ``l2=1e-3`` or ``hidden=256,128``.

    Raises:
        HeadError: No such head or parameter (with near matches and defaults), a value that can't be, or one given twice.
    """
    kind = find_head(head)
    params: dict[str, str] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise HeadError(
                f"parameter {text!r}: expected NAME=VALUE, e.g. {next(iter(kind.parameters))}=..."
            )
        if name in params:
            raise HeadError(f"parameter {name!r} is given twice: {params[name]!r} and {value!r}")
        params[name] = value
    return kind.check(params)


def _number(low: float, high: float = float("inf"), *, closed: bool = False) -> Values:
    def parse(text: str) -> float:
        value = float(text)
        if not (low <= value if closed else low < value) or not value < high:
            raise ValueError
        return value

    bound = f"of at least {low:g}" if closed else f"above {low:g}"
    return Values(f"a number {bound}" + (f" and below {high:g}" if high < float("inf") else ""), parse)


def _whole(low: int) -> Values:
    def parse(text: str) -> int:
        value = int(text)
        if value < low:
            raise ValueError
        return value

    return Values(f"a whole number of at least {low}", parse)


def _either(word: str, values: Values) -> Values:
    def parse(text: str) -> Any:
        return text if text == word else values.parse(text)

    return Values(f"{word}, or {values.expects}", parse)


def _one_of(*names: str) -> Values:
    def parse(text: str) -> str:
        if text not in names:
            raise ValueError
        return text

    return Values(f"one of {', '.join(names)}", parse)


def _optional(values: Values) -> Values:
    def parse(text: str) -> Any:
        return None if text.lower() == "none" else values.parse(text)

    return Values(f"none, or {values.expects}", parse)


def _parse_flag(text: str) -> bool:
    flags = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in flags:
        raise ValueError
    return flags[text.lower()]


def _parse_widths(text: str) -> tuple[int, ...]:
    widths = tuple(int(part) for part in text.split(",") if part.strip())
    if any(width < 1 for width in widths):
        raise ValueError
    return widths


_FLAG = Values("true or false", _parse_flag)
_WIDTHS = Values("whole numbers with commas between, e.g. 256,128", _parse_widths)
_POSITIVE = _number(0)

# As many as Kornblith et al. 2019 ("Do Better ImageNet Models Transfer Better?") try, over nine decades.
_STRENGTHS = tuple(float(f"{10 ** (2 - 9 * step / 44):.3g}") for step in range(45))

_LINEAR_SCALE = Parameter(
    "scale",
    "standard",
    _one_of("standard", "none", "l2", "maxnorm"),
    "standardise the features, or divide each row by its norm, or neither",
)
_SCALE = Parameter("scale", "standard", _one_of("standard", "none"), "standardise the features or not")
_CLASS_WEIGHT = Parameter(
    "class_weight", None, _optional(_one_of("balanced")), "weigh classes by their inverse frequency"
)


def _kind(
    name: str,
    summary: str,
    parameters: Sequence[Parameter],
    build: Callable[[Mapping[str, Any], int, str], Any],
    grid: Callable[[Mapping[str, Any]], Mapping[str, Sequence[Any]]],
    **options: Any,
) -> HeadKind:
    by_name = MappingProxyType({parameter.name: parameter for parameter in parameters})
    return HeadKind(name, summary, by_name, build, grid, **options)


def _build_linear(params: Mapping[str, Any], _seed: int, device: str) -> Any:
    from frostline.classifiers.heads.linear import LinearHead

    return LinearHead(device=device, **params)


def _build_mlp(params: Mapping[str, Any], seed: int, device: str) -> Any:
    from frostline.classifiers.heads.mlp import MLPHead

    return MLPHead(device=device, random_state=seed, **params)


def _scaled(classifier: Any) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), classifier)


def _normalised(classifier: Any, metric: str) -> Any:
    """Euclidean distances rank as cosine ones do between vectors of length 1."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    return make_pipeline(Normalizer(), classifier) if metric == "cosine" else _scaled(classifier)


def _build_logreg(params: Mapping[str, Any], _seed: int, _device: str) -> Any:
    from sklearn.linear_model import LogisticRegression

    return _scaled(LogisticRegression(**params))


def _build_ridge(params: Mapping[str, Any], seed: int, _device: str) -> Any:
    from sklearn.linear_model import RidgeClassifier

    return _scaled(RidgeClassifier(random_state=seed, **params))


def _build_svm(params: Mapping[str, Any], seed: int, _device: str) -> Any:
    from sklearn.svm import SVC, LinearSVC

    options = dict(params)
    if options.pop("kernel") == "linear":
        del options["gamma"]
        return _scaled(LinearSVC(dual="auto", random_state=seed, **options))
    options["max_iter"] = -1  # libsvm counts other steps than liblinear: let it finish
    return _scaled(SVC(kernel="rbf", **options))


def _build_knn(params: Mapping[str, Any], _seed: int, device: str) -> Any:
    from sklearn.pipeline import make_pipeline

    from frostline.classifiers.heads.knn import KNNHead

    head = KNNHead(device=device, **params)
    return make_pipeline(head) if params["metric"] == "cosine" else _scaled(head)


def _build_lda(params: Mapping[str, Any], _seed: int, _device: str) -> Any:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    return _scaled(LinearDiscriminantAnalysis(solver="lsqr", **params))


def _build_forest(params: Mapping[str, Any], seed: int, _device: str) -> Any:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline

    return make_pipeline(RandomForestClassifier(random_state=seed, **params))


def _build_boosting(params: Mapping[str, Any], seed: int, _device: str) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline

    # Stopping early would set training rows aside without regard to duplicates and groups.
    return make_pipeline(HistGradientBoostingClassifier(random_state=seed, early_stopping=False, **params))


def _build_centroid(params: Mapping[str, Any], _seed: int, _device: str) -> Any:
    from sklearn.neighbors import NearestCentroid

    return _normalised(NearestCentroid(), params["metric"])


def _svm_grid(fixed: Mapping[str, Any]) -> dict[str, Sequence[float]]:
    return {"C": (0.1, 1.0, 10.0, 100.0) if fixed.get("kernel") == "rbf" else (1e-5, 1e-4, 1e-3, 1e-2)}


_KINDS = (
    _kind(
        "linear",
        "exact multinomial logistic regression by L-BFGS in torch",
        (
            Parameter("l2", 0.03, _POSITIVE, "strength of the penalty on the coefficients"),
            _LINEAR_SCALE,
            _CLASS_WEIGHT,
            Parameter("fit_intercept", True, _FLAG, "learn a constant per class"),
            Parameter("label_smoothing", 0.0, _number(0, 1, closed=True), "share of targets spread evenly"),
            Parameter("tol", 1e-5, _POSITIVE, "largest relative excess of the objective over its optimum"),
            Parameter("max_iter", 1000, _whole(1), "largest number of iterations"),
            Parameter(
                "dtype", "auto", _one_of("auto", "float32", "float64"), "number format of the products"
            ),
        ),
        _build_linear,
        lambda _: {"l2": _STRENGTHS},
        search="path",
        streams=True,
    ),
    _kind(
        "mlp",
        "fully connected layers, trained on mini-batches in torch",
        (
            Parameter("hidden", (512,), _WIDTHS, "widths of the hidden layers"),
            Parameter(
                "activation", "relu", _one_of("relu", "gelu", "silu", "tanh"), "after each hidden layer"
            ),
            Parameter(
                "dropout", 0.5, _number(0, 1, closed=True), "share of hidden units dropped in training"
            ),
            Parameter("batch_norm", False, _FLAG, "normalise before each activation"),
            Parameter("optimizer", "adamw", _one_of("adamw", "adam", "sgd"), "how weights are stepped"),
            Parameter("lr", 1e-3, _POSITIVE, "peak learning rate"),
            Parameter("momentum", 0.9, _number(0, 1, closed=True), "of sgd"),
            Parameter("nesterov", True, _FLAG, "whether the momentum of sgd looks ahead"),
            Parameter("weight_decay", 0.01, _number(0, closed=True), "on weights, not on biases"),
            Parameter(
                "schedule",
                "cosine",
                _one_of("cosine", "onecycle", "step", "constant"),
                "of the learning rate after warm-up",
            ),
            Parameter(
                "warmup",
                "auto",
                _either("auto", _number(0, 1, closed=True)),
                "share of the steps that warms up; auto is 0.3 for onecycle, else 0.05",
            ),
            Parameter("batch_size", 128, _whole(1), "rows per step"),
            Parameter("epochs", 40, _whole(1), "largest number of passes"),
            Parameter("patience", 8, _whole(1), "epochs without a lower validation loss before stopping"),
            _SCALE,
            _CLASS_WEIGHT,
        ),
        _build_mlp,
        lambda _: {"weight_decay": (1.0, 0.01), "lr": (3e-4, 1e-3)},
        search="epochs",
        together=("lr", "weight_decay", "momentum", "dropout"),
    ),
    _kind(
        "logreg",
        "scikit-learn's LogisticRegression on standardised features",
        (
            Parameter("C", 0.01, _POSITIVE, "inverse strength of the penalty"),
            _CLASS_WEIGHT,
            Parameter("tol", 1e-4, _POSITIVE, "largest gradient entry at the end"),
            Parameter("max_iter", 1000, _whole(1), "largest number of iterations"),
        ),
        _build_logreg,
        lambda _: {"C": (1e-4, 1e-3, 1e-2, 1e-1, 1.0)},
    ),
    _kind(
        "ridge",
        "scikit-learn's RidgeClassifier on standardised features",
        (Parameter("alpha", 1000.0, _POSITIVE, "strength of the penalty"), _CLASS_WEIGHT),
        _build_ridge,
        lambda _: {"alpha": (1e5, 1e4, 1e3, 1e2, 10.0, 1.0)},
        scores="decision",
    ),
    _kind(
        "svm",
        "scikit-learn's LinearSVC or, with kernel=rbf, SVC, on standardised features",
        (
            Parameter("C", 1e-3, _POSITIVE, "inverse strength of the penalty"),
            Parameter("kernel", "linear", _one_of("linear", "rbf"), "linear, or radial basis functions"),
            Parameter("gamma", "scale", _either("scale", _POSITIVE), "width of the radial functions"),
            _CLASS_WEIGHT,
            Parameter("tol", 1e-3, _POSITIVE, "stopping tolerance"),
            Parameter("max_iter", 1000, _whole(1), "largest number of iterations of the linear one"),
        ),
        _build_svm,
        _svm_grid,
        scores="decision",
    ),
    _kind(
        "knn",
        "k nearest neighbours, by exact search in torch",
        (
            Parameter("n_neighbors", 10, _whole(1), "training rows that vote"),
            Parameter("metric", "cosine", _one_of("cosine", "euclidean"), "distance; euclidean standardises"),
            Parameter("weights", "uniform", _one_of("uniform", "distance", "softmax"), "how neighbours vote"),
            Parameter("temperature", 0.07, _POSITIVE, "of softmax weights"),
        ),
        _build_knn,
        lambda _: {"n_neighbors": (50, 20, 10, 5, 3, 1)},
    ),
    _kind(
        "centroid",
        "scikit-learn's NearestCentroid",
        (Parameter("metric", "cosine", _one_of("cosine", "euclidean"), "distance; euclidean standardises"),),
        _build_centroid,
        lambda _: {"metric": ("cosine", "euclidean")},
        scores="distance",
    ),
    _kind(
        "lda",
        "scikit-learn's LinearDiscriminantAnalysis with a shrunk covariance",
        (
            Parameter(
                "shrinkage",
                "auto",
                _either("auto", _number(0, 1 + 1e-12, closed=True)),
                "towards a diagonal covariance; auto is Ledoit and Wolf's",
            ),
        ),
        _build_lda,
        lambda _: {"shrinkage": (0.9, 0.5, 0.2, 0.05, 0.01)},
    ),
    _kind(
        "forest",
        "scikit-learn's RandomForestClassifier",
        (
            Parameter("n_estimators", 200, _whole(1), "trees"),
            Parameter("min_samples_leaf", 1, _whole(1), "least rows in a leaf"),
            Parameter(
                "max_features",
                "sqrt",
                _either("sqrt", _number(0, 1 + 1e-12)),
                "share of the features looked at per branch; sqrt of their number",
            ),
            Parameter("max_depth", None, _optional(_whole(1)), "largest depth of a tree"),
            _CLASS_WEIGHT,
        ),
        _build_forest,
        lambda _: {"min_samples_leaf": (10, 3, 1)},
    ),
    _kind(
        "boosting",
        "scikit-learn's HistGradientBoostingClassifier",
        (
            Parameter("learning_rate", 0.1, _POSITIVE, "how much each tree adds"),
            Parameter("max_iter", 100, _whole(1), "trees per class"),
            Parameter("max_leaf_nodes", 15, _whole(2), "largest number of leaves of a tree"),
            Parameter("min_samples_leaf", 20, _whole(1), "least rows in a leaf"),
            Parameter("l2_regularization", 1.0, _number(0, closed=True), "penalty on the leaves' values"),
            Parameter("max_features", 0.3, _number(0, 1 + 1e-12), "share of the features per branch"),
            _CLASS_WEIGHT,
        ),
        _build_boosting,
        lambda _: {"max_leaf_nodes": (3, 15)},
    ),
)

HEADS: Mapping[str, HeadKind] = MappingProxyType({kind.name: kind for kind in _KINDS})
"""Every kind of head, by name."""
