"""Names of several files in one text: ``shard-{000..127}.tar`` and ``shards/*.tar``."""

import glob
import itertools
import math
import os
import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Final

from frostline.features.errors import SourceError
from frostline.features.sources.split_names import SPLIT_CODES
from frostline.splits import Split

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]+)\.\.([0-9]+)")
_MOST: Final = 1_000_000  # names of one pattern


def is_pattern(text: str) -> bool:
    """Return whether a text names several files: by braces, or by ``*``, ``?`` or ``[``."""
    return bool(_BRACES.search(text)) or glob.has_magic(text)


def plain_name(pattern: str) -> str:
    """Return a pattern without the parts that stand for others, and what joins them: ``shard`` of ``shard-{0..9}``."""
    return re.sub(r"[-_.]*(\{[^{}]*\}|[*?]+|\[[^\]]*\])", "", pattern)


def expand(pattern: str) -> list[str]:
    """Return the files that a pattern names, in order; the file itself if there is one of this name.

    ``{000..127}`` stands for numbers of the width of the first, and ``{train,val}`` for each of the texts. ``*``, ``?``
    and ``[…]`` stand for what exists.

    Raises:
        SourceError: A file that braces name does not exist, or nothing matches.
    """
    if os.path.exists(pattern):  # noqa: PTH110
        return [pattern]
    names = expand_braces(pattern)
    files = [
        found
        for name in names
        for found in (sorted(glob.glob(name)) if glob.has_magic(name) else [name])  # noqa: PTH207
    ]
    if not files:
        raise SourceError(f"{pattern}: no file matches this pattern")
    missing = [name for name in files if not os.path.exists(name)]  # noqa: PTH110  # strings, as names are
    if missing:
        raise SourceError(
            f"{pattern}: {len(missing)} of the {len(files)} files that it names don't exist, the first is {missing[0]!r}"
        )
    return list(dict.fromkeys(files))


def expand_braces(pattern: str) -> list[str]:
    """Return the texts that the braces of a pattern stand for, in order.

    Raises:
        SourceError: A range is not valid, or there are too many texts.
    """
    literal = _BRACES.split(pattern)  # texts outside and inside of braces, in turn
    choices = [_choices(inside, pattern) for inside in literal[1::2]]
    if (count := math.prod(map(len, choices))) > _MOST:
        raise SourceError(f"{pattern}: names {count:,} files; expected at most {_MOST:,}")
    outside = literal[::2]
    return [
        outside[0] + "".join(text + rest for text, rest in zip(chosen, outside[1:], strict=True))
        for chosen in itertools.product(*choices)
    ]


def _choices(inside: str, pattern: str) -> list[str]:
    texts: list[str] = []
    for part in inside.split(","):
        if not (numbers := _RANGE.fullmatch(part)):
            texts.append(part)
            continue
        first, last = int(numbers[1]), int(numbers[2])
        if not first <= last < first + _MOST:
            raise SourceError(
                f"{pattern}: got {{{inside}}}; expected two numbers, the larger last, such as {{000..127}}"
            )
        texts += [str(number).zfill(len(numbers[1])) for number in range(first, last + 1)]
    return texts


def shard_names(paths: Sequence[str]) -> list[str]:
    """Return a name for each file that is unique among them: its path below their common folder, without suffix."""
    if len(paths) == 1:
        return [""]
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120
    relative = [PurePath(os.path.relpath(path, folder)) for path in paths]
    names = [path.with_suffix("").as_posix() for path in relative]
    return names if len({*names}) == len(names) else [path.as_posix() for path in relative]


def splits_of_images(names: Sequence[str], shards: Sequence[int]) -> list[Split] | None:
    """Return the split that the name of each image's file begins with, as in ``train-0001``; None unless all have one.

    Args:
        names: Name of each file, see `shard_names`.
        shards: Index of each image's file.
    """
    found = [re.match(r"[A-Za-z]+(?![A-Za-z])", name) for name in names]
    codes = [SPLIT_CODES.get(word[0].lower(), Split.NONE) if word else Split.NONE for word in found]
    return None if Split.NONE in codes else [codes[shard] for shard in shards]
