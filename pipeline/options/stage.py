"""Functions whose keyword arguments are the fields of a dataclass of options."""

import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, overload

from frostline.options import Options, documented
from frostline.pipeline.progress import SILENT, Reporter
from frostline.registry import near

P = ParamSpec("P")
O = TypeVar("O")  # noqa: E741
R = TypeVar("R")
A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True, kw_only=True)
class StageOptions(Options):
    """Options that every stage has.

    Attributes:
        report: Receiver of progress, notes and warnings.
    """

    report: Reporter = field(default=SILENT, repr=False, compare=False)


@overload
def stage(
    options: Callable[P, O], inputs: Literal[1] = 1
) -> Callable[[Callable[[A, O], R]], Callable[Concatenate[A, P], R]]: ...
@overload
def stage(
    options: Callable[P, O], inputs: Literal[2]
) -> Callable[[Callable[[A, B, O], R]], Callable[Concatenate[A, B, P], R]]: ...
def stage(options: Any, inputs: int = 1) -> Any:
    """Turn a function of its inputs and a dataclass of options into one that takes the options as keyword arguments.

    The signature and the docstring of the result list every option; type checkers derive the same signature.

    Args:
        options: Dataclass of the options.
        inputs: Number of arguments before the options.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        signature = _signature(function, options)
        names = tuple(signature.parameters)

        @functools.wraps(function)
        def call(*args: Any, **arguments: Any) -> Any:
            for name in arguments:
                if name not in names:
                    hint = near(name, names)
                    raise TypeError(
                        f"{function.__name__}() has no argument {name!r}{hint}; see help({function.__name__})"
                    )
            given = signature.bind(*args, **arguments).arguments
            data = {name: given.pop(name) for name in names[:inputs] if name in given}
            return function(**data, options=options(**given))

        call.__signature__ = signature  # type: ignore[attr-defined]
        call.__doc__ = _docstring(function.__doc__ or "", options)
        return call

    return decorate


def _signature(function: Callable[..., Any], options: type[Options]) -> inspect.Signature:
    """Return the signature of a function with the options in place of its last parameter."""
    signature = inspect.signature(function)
    *inputs, _ = signature.parameters.values()
    given = inspect.signature(options).parameters.values()
    return signature.replace(parameters=[*inputs, *sorted(given, key=lambda each: each.name == "report")])


def _docstring(text: str, options: type[Options]) -> str:
    """Return a docstring with one entry per option in place of the entry ``options``."""
    entries = "".join(_entries(options))
    return re.sub(r"^ {8}options: .*\n(?: {12}.*\n)*", lambda _: entries, text, count=1, flags=re.MULTILINE)


def _entries(options: type[Options]) -> Iterator[str]:
    for entry in (*documented(options), "report: Receiver of progress, notes and warnings."):
        yield textwrap.fill(entry, 110, initial_indent=" " * 8, subsequent_indent=" " * 12) + "\n"
