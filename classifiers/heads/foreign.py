"""Heads from outside: any importable scikit-learn classifier, and what installed packages declare.

``module:Class`` names a classifier by where it is imported from. The entry-point group ``frostline.heads`` gives one a
name of its own: each entry point loads to a classifier's class, or to a `classifiers.heads.kinds.HeadKind`.
"""

import ast
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any

from frostline.classifiers.errors import HeadError
from frostline.classifiers.heads.kinds import HeadKind, Parameter, Values, near

GROUP = "frostline.heads"


def plugin_names() -> tuple[str, ...]:
    """Names that installed packages declare."""
    return tuple(sorted(entry_points(group=GROUP).names))


def find_estimator(name: str) -> HeadKind:
    """The kind of head that an entry point, or a classifier's place, names. Imports it.

    Raises:
        HeadError: Nothing can be imported by that name, or it is no classifier that can be used.
    """
    for entry in entry_points(group=GROUP, name=name):
        try:
            found = entry.load()
        except (ImportError, AttributeError) as error:
            raise HeadError(f"head {name!r} ({entry.value}) can't be imported: {error}") from error
        return found if isinstance(found, HeadKind) else _kind(name, found)
    return _kind(name, _import(name))


def foreign_kind(name: str) -> HeadKind:
    """The kind of a head that was read from a file: ``module:Class`` is not imported on the word of a file.

    Raises:
        HeadError: No installed package declares that name.
    """
    if name in plugin_names():
        return find_estimator(name)
    if ":" not in name:
        raise HeadError(f"no head {name!r} is installed here")
    return _RecordedKind(name, name, MappingProxyType({}), _refuse_build, _nothing, scores="auto")


def _refuse_build(_params: Mapping[str, Any], _seed: int, _device: str) -> Any:
    raise HeadError("a head that was read from a file can't be built anew")


def _import(name: str) -> Any:
    module, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise HeadError(
            f"head {name!r} can't be imported: {error}; expected module:Class, e.g. sklearn.naive_bayes:GaussianNB"
        ) from error
    return found


def _kind(name: str, cls: Any) -> HeadKind:
    if not inspect.isclass(cls) or not all(
        hasattr(cls, each) for each in ("fit", "get_params", "set_params")
    ):
        raise HeadError(f"head {name!r} is {cls!r}, expected the class of a scikit-learn classifier")
    parameters = {
        each.name: Parameter(each.name, each.default, _ANYTHING, f"of {cls.__name__}")
        for each in inspect.signature(cls).parameters.values()
        if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    }
    return _EstimatorKind(
        name=name,
        summary=(inspect.getdoc(cls) or cls.__name__).partition("\n")[0],
        parameters=MappingProxyType(parameters),
        build=_Builder(cls),
        grid=_nothing,
        scores="auto",
    )


def _nothing(_fixed: Mapping[str, Any]) -> dict[str, Any]:
    return {}


def _literal(text: str) -> Any:
    """A number, true, none, a list ... as Python writes them, else the text."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


_ANYTHING = Values("a Python literal, or text", _literal)


class _EstimatorKind(HeadKind):
    """A classifier of which only the signature is known: it keeps the defaults it has."""

    def check(self, params: Mapping[str, Any]) -> dict[str, Any]:
        for name in params:
            if name.partition("__")[0] not in self.parameters:
                names = ", ".join(self.parameters)
                raise HeadError(
                    f"head {self.name!r} has no parameter {name!r}{near(name, self.parameters)}; it has {names}"
                )
        return {name: _literal(value) if isinstance(value, str) else value for name, value in params.items()}

    def complete(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return dict(params)


@dataclass(frozen=True)
class _Builder:
    """Makes the classifier, alone in a pipeline as all heads in skops files are."""

    cls: Any

    def __call__(self, params: Mapping[str, Any], seed: int, _device: str) -> Any:
        from sklearn.pipeline import make_pipeline

        own = {name: value for name, value in params.items() if "__" not in name}
        nested = {name: value for name, value in params.items() if "__" in name}
        if "random_state" in inspect.signature(self.cls).parameters:
            own.setdefault("random_state", seed)
        try:
            return make_pipeline(self.cls(**own).set_params(**nested))
        except (TypeError, ValueError) as error:
            raise HeadError(f"{self.cls.__name__} can't be made with {dict(params)}: {error}") from error


class _RecordedKind(_EstimatorKind):
    """One of which only a record is known."""

    def check(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return dict(params)
