"""The heads there are, by name. A new one is a module with its `HeadKind`, and a line here."""

from collections.abc import Iterable
from typing import Any

from frostline.classifiers.errors import HeadError
from frostline.classifiers.heads.foreign import adopt, import_head, recorded_kind
from frostline.classifiers.heads.kinds import HeadKind
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
"""Every kind of head that has a name of its own."""


def find_head(name: str) -> HeadKind:
    """The kind of head of a name: one of `HEADS`, or ``module:Class`` of a scikit-learn classifier.

    Raises:
        HeadError: There is none, with near matches and all that there are; or it can't be imported, or is no classifier.
    """
    return import_head(name) if ":" in name and name not in HEADS else HEADS[name]


def recorded_head(name: str) -> HeadKind:
    """The kind of a head that was read from a file: ``module:Class`` is not imported on the word of a file.

    Raises:
        HeadError: No such head is installed here.
    """
    return recorded_kind(name) if ":" in name and name not in HEADS else HEADS[name]


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
