"""Signatures and docstrings that list options."""

import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from typing import TypeVar

from frostline.options.declaration import ARGUMENT
from frostline.options.group import Options

O = TypeVar("O", bound=Options)  # noqa: E741


def documented(options: type[Options]) -> Iterator[str]:
    """Yield one entry per field, as in the section Args of a docstring."""
    declared = {each.name: each.sentence() for each in options.declared()}
    for each in parameters(options):
        yield f"{each.name}: {declared.get(each.name) or _argument(options, each.name)}."


def list_options(text: str, options: type[Options]) -> str:
    """Return a docstring with one entry per field in place of the entry ``options``."""

    def entries(found: re.Match[str]) -> str:
        first, further = found[1], f"{found[1]}    "
        return "".join(
            f"{textwrap.fill(entry, 110, initial_indent=first, subsequent_indent=further)}\n"
            for entry in documented(options)
        )

    return re.sub(r"^( +)options: .*\n(?:\1 {4}.*\n)*", entries, text, count=1, flags=re.MULTILINE)


def described(options: type[O]) -> type[O]:
    """List the options of a class in its docstring, in place of the entry ``options``."""
    options.__doc__ = list_options(options.__doc__ or "", options)
    return options


def parameters(options: type[Options]) -> list[inspect.Parameter]:
    """Return the parameters of the constructor: positional ones, then the options in order, then other arguments."""
    order = [each.name for each in options.declared()]
    return sorted(
        inspect.signature(options).parameters.values(),
        key=lambda each: (
            each.kind is each.KEYWORD_ONLY,
            order.index(each.name) if each.name in order else len(order),
        ),
    )


def _argument(options: type[Options], name: str) -> str:
    return next(str(each.metadata[ARGUMENT]) for each in fields(options) if each.name == name)
