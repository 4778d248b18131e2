"""Functions whose keyword arguments are the fields of a dataclass of options."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

from frostline.options import Options, argument, list_options, parameters
from frostline.pipeline.progress import SILENT, Reporter
from frostline.registry import near
from frostline.system.truncation import no_truncation

P = ParamSpec("P")
O = TypeVar("O")  # noqa: E741
R = TypeVar("R")
A = TypeVar("A")


@dataclass(frozen=True, kw_only=True)
class StageOptions(Options):
    """Options that every stage has."""

    report: Reporter = argument("Receiver of progress, notes and warnings", SILENT)


def stage(options: Callable[P, O]) -> Callable[[Callable[[A, O], R]], Callable[Concatenate[A, P], R]]:
    """Turn a function of its input and a dataclass of options into one that takes the options as arguments.

    The signature and the docstring of the result list every option; type checkers derive the same signature. What was
    computed from a file that was truncated meanwhile is not returned: `frostline.system.truncation.TruncatedError`.
    """

    def decorate(function: Callable[[A, O], R]) -> Callable[Concatenate[A, P], R]:
        signature = _signature(function, options)
        name = next(iter(signature.parameters))
        make: Any = options

        @functools.wraps(function)
        def call(*args: Any, **arguments: Any) -> R:
            for unknown in arguments.keys() - signature.parameters.keys():
                hint = near(unknown, signature.parameters)
                raise TypeError(
                    f"{function.__name__}() has no argument {unknown!r}{hint}; see help({function.__name__})"
                )
            given = signature.bind(*args, **arguments).arguments
            with no_truncation():
                return function(given.pop(name), make(**given))

        call.__signature__ = signature  # type: ignore[attr-defined]
        call.__doc__ = list_options(function.__doc__ or "", make)
        return call

    return decorate


def _signature(function: Callable[..., Any], options: Any) -> inspect.Signature:
    """Return the signature of a function with the options in place of its second parameter."""
    signature = inspect.signature(function)
    data, _ = signature.parameters.values()
    return signature.replace(parameters=[data, *parameters(options)])
