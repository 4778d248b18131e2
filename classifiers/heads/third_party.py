"""Third-party heads: any importable scikit-learn classifier, and the heads that installed packages register.

``module:Class`` is the import path of a classifier. It is imported only if its module is trusted, because an import
runs code. The entry-point group ``frostline.heads`` registers a head
under a name: each entry point refers to the class of a classifier, or to a `frostline.classifiers.heads.kinds.HeadKind`.
"""

import ast
import importlib
import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from frostline.classifiers.errors import HeadError
from frostline.classifiers.heads.kinds import Classifier, HeadKind
from frostline.classifiers.heads.parameters import Parameter, Values
from frostline.classifiers.heads.trust import ALWAYS, is_trusted, trust_option
from frostline.registry import near


def adopt(name: str, found: object) -> HeadKind | None:
    """Return the kind of head for a `HeadKind` or the class of a classifier, and None for any other object."""
    if isinstance(found, HeadKind):
        return replace(found, name=name)
    return _kind(name, found) if _is_classifier(found) else None


def import_head(name: str, trusted: Collection[str] = ()) -> HeadKind:
    """Import a classifier by its path ``module:Class``, and return its kind of head.

    Args:
        name: Path of the classifier.
        trusted: Modules that may be imported, beside scikit-learn's; see `frostline.classifiers.heads.trust`.

    Raises:
        HeadError: The module is not trusted, the import fails, or the imported object is not a classifier.
    """
    module = name.partition(":")[0]
    if not is_trusted(name.replace(":", "."), (*ALWAYS, *trusted)):
        raise HeadError(
            f"head {name!r} is not imported, because importing the module {module!r} runs its code. If you know the module, "
            f"add {trust_option(module)}; in Python, trusted=[{module!r}]"
        )
    found = _import(name)
    if not _is_classifier(found):
        raise HeadError(f"head {name!r} is {found!r}, expected the class of a scikit-learn classifier")
    return _kind(name, found)


def recorded_kind(name: str) -> HeadKind:
    """Return the kind of a recorded ``module:Class`` head without importing it."""
    return _RecordedKind(name, name, MappingProxyType({}), _refuse_build, _nothing, scores="auto")


def _refuse_build(_params: Mapping[str, Any], _seed: int, _device: str) -> Any:
    raise HeadError("a head that was read from a file can't be rebuilt")


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


def _is_classifier(found: object) -> bool:
    return inspect.isclass(found) and issubclass(found, Classifier)


def _kind(name: str, cls: Any) -> HeadKind:
    parameters = {
        each.name: Parameter(each.name, each.default, _ANYTHING, f"parameter of {cls.__name__}")
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
    """Parse a Python literal or true, false and none in any case; return other texts unchanged."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


_ANYTHING = Values("a Python literal, or text", _literal)


class _EstimatorKind(HeadKind):
    """Kind of a classifier that is known by its signature only; the classifier applies its own defaults."""

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
    """Builder of a classifier as the only step of a pipeline, the form of all heads in skops files."""

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
            raise HeadError(f"{self.cls.__name__} can't be built with {dict(params)}: {error}") from error


class _RecordedKind(_EstimatorKind):
    """Kind of a head that is known by its record only."""

    def check(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return dict(params)
