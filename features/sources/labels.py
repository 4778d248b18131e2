"""Labels: the text that was written, and the order of classes."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import AnyStr

_WHOLE = re.compile(r"-?(0|[1-9][0-9]*)(\.0)?")
_SHOWN = 3
_REVERSED = str.maketrans("0123456789", "9876543210")


def composed(labels: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return labels in Unicode's composed form (NFC), and a remark if that joined classes."""
    forms = defaultdict(set)
    for label in {*labels}:
        forms[unicodedata.normalize("NFC", label)].add(label)
    joined = sorted(name for name, found in forms.items() if len(found) > 1)
    remark = (
        f"{listed(joined)} {'is' if len(joined) == 1 else 'are'} written in several Unicode forms, and each name is one"
        " class (composed, NFC)"
    )
    names = {label: name for name, found in forms.items() for label in found}
    return [names[label] for label in labels], [remark] if joined else []


def plain_numbers(labels: Sequence[str]) -> list[str]:
    """Return labels without the ``.0`` that tools add to a whole column of integers with gaps.

    A column with any other text, such as ``1.5`` or ``01``, is returned as it is.
    """
    if any(label.endswith(".0") for label in labels) and all(
        _WHOLE.fullmatch(label) for label in labels if label
    ):
        return [label.removesuffix(".0") for label in labels]
    return [*labels]


def similar(classes: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the runs of classes that differ only in case or surrounding blanks."""
    runs = defaultdict(list)
    for name in classes:
        runs[" ".join(name.split()).casefold()].append(name)
    return [tuple(run) for run in runs.values() if len(run) > 1]


def sort_classes(names: Collection[str]) -> tuple[str, ...]:
    """Sort class names: by value if all are integers, as text otherwise."""
    if all(map(_is_integer, names)):
        return tuple(sorted(names, key=_by_value))
    return tuple(sorted(names))


def _by_value(text: str) -> tuple[int, int, str, str]:
    """Return a key that sorts texts of integers by value, of any length, and then as text."""
    digits = text.lstrip("+-").lstrip("0")
    sign = (-1 if text.startswith("-") else 1) if digits else 0
    # Of numbers of one length, texts compare like values; negative ones in reverse.
    order = digits if sign >= 0 else digits.translate(_REVERSED)
    return sign, sign * len(digits), order, text


def _is_integer(text: str) -> bool:
    return re.fullmatch(r"[+-]?[0-9]+", text) is not None


def listed(names: Collection[AnyStr]) -> str:
    """Return the first names of a collection in quotes, and the number of the others."""
    shown = sorted(names)[:_SHOWN]
    more = len(names) - len(shown)
    return ", ".join(map(repr, shown)) + (f" and {more} more" if more else "")


def words(name: str) -> set[str]:
    """Return the words and numbers of a name in lower case: those of ``className1`` and ``class_name-1`` are the same."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+", name)}
