"""Registry of the heads. A new built-in head is a module with a `HeadKind`, and one entry in `HEADS`."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from frostline.classifiers.errors import HeadError
from frostline.classifiers.heads.kinds import HeadKind
from frostline.classifiers.heads.third_party import adopt, import_head, recorded_kind
from frostline.registry import Entry, Registry

_HERE = "frostline.classifiers.heads"

HEADS: Registry[HeadKind] = Registry(
    "head",
    {
        "linear": Entry(f"{_HERE}.linear:LINEAR"),
        "mlp": Entry(f"{_HERE}.mlp:MLP"),
        "logreg": Entry(f"{_HERE}.scikit_learn:LOGREG"),
        "ridge": Entry(f"{_HERE}.scikit_learn:RIDGE"),
        "svm": Entry(f"{_HERE}.scikit_learn:SVM"),
        "knn": Entry(f"{_HERE}.knn:KNN"),
        "centroid": Entry(f"{_HERE}.scikit_learn:CENTROID"),
        "lda": Entry(f"{_HERE}.scikit_learn:LDA"),
        "forest": Entry(f"{_HERE}.scikit_learn:FOREST"),
        "boosting": Entry(f"{_HERE}.scikit_learn:BOOSTING"),
    },
    group="frostline.heads",
    adopt=adopt,
    expected="the class of a scikit-learn classifier, or a HeadKind",
    error=HeadError,
    also="any scikit-learn classifier as module:Class",
)
"""Registry of the built-in heads and of those that installed packages register."""


def find_head(name: str, trusted: Collection[str] = ()) -> HeadKind:
    """Return the kind of head with a name in `HEADS`, or that of a scikit-learn classifier ``module:Class``.

    Args:
        name: Name of the head.
        trusted: Modules that ``module:Class`` may import, beside those of scikit-learn and of declared heads.

    Raises:
        HeadError: The name is unknown (the message lists near matches and all names), the module is not trusted, the
            import fails, or the imported object is not a classifier.
    """
    if ":" not in name or name in HEADS:
        return HEADS[name]
    declared = [name.replace(":", ".")] if HEADS.declares(name) else []
    return import_head(name, (*trusted, *declared))


def recorded_head(name: str) -> HeadKind:
    """Return the kind of a head that was read from a file. ``module:Class`` is not imported, as files are untrusted.

    Raises:
        HeadError: The head is not installed.
    """
    return recorded_kind(name) if ":" in name and name not in HEADS else HEADS[name]


def parse_params(
    head: str, given: Mapping[str, Any] | Iterable[str], trusted: Collection[str] = ()
) -> dict[str, Any]:
    """Parse parameters of a head.

    Args:
        head: Kind of head; see `find_head`.
        given: Values or texts by name of the parameter; or texts of the form ``NAME=VALUE``, such as ``l2=1e-3`` or
            ``hidden=256,128``.
        trusted: Modules that the head may import; see `find_head`.

    Returns:
        Parsed values by parameter name.

    Raises:
        HeadError: The head or a parameter is unknown (the message lists near matches and defaults), a value is
            invalid, or a parameter is given twice.
    """
    kind = find_head(head, trusted)
    return kind.check(given if isinstance(given, Mapping) else _pairs(kind, given))


def _pairs(kind: HeadKind, texts: Iterable[str]) -> dict[str, str]:
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
    return params
