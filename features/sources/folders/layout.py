"""The levels of an image folder: which folders are splits, and which are classes."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from frostline.features.errors import SourceError
from frostline.features.sources.labels import listed
from frostline.features.sources.split_names import LEFT_OUT, NO_SPLITS, SPLIT_CODES, split_of, written
from frostline.registry import near
from frostline.shell import shell_command
from frostline.splits import Split


@dataclass(frozen=True)
class Layout:
    """Levels of an image folder.

    Attributes:
        splits: Split of each top-level folder, None for one that is left out; empty if these folders are classes.
        depths: Position of the class on the paths below each top-level folder; 0 if it is not in the mapping.
    """

    splits: Mapping[str, Split | None] = field(default_factory=dict)
    depths: Mapping[str, int] = field(default_factory=dict)

    def label(self, path: Sequence[str]) -> str:
        """Return the class of an image, given the parts of its path; empty for an unlabelled image."""
        depth = self.depths.get(path[0], 0)
        return path[depth] if len(path) > depth + 1 else ""

    def split(self, path: Sequence[str]) -> Split:
        """Return the split of an image, given the parts of its path."""
        return (self.splits.get(path[0]) or Split.NONE) if len(path) > 1 else Split.NONE

    def is_left_out(self, path: Sequence[str]) -> bool:
        """Return whether an image lies in a folder that is left out."""
        return len(path) > 1 and path[0] in self.splits and self.splits[path[0]] is None


@dataclass
class _Top:
    """Top-level folder: whether it holds images directly, and its sub-folders that hold images."""

    direct: bool = False
    below: set[str] = field(default_factory=set)


def find_layout(
    root: str, paths: Sequence[Sequence[str]], chosen: Mapping[str, Split | None] | None = None
) -> Layout:
    """Find out which folders are splits and which are classes. Only folders that hold images count.

    The top-level folders are splits if all have names of splits, or if all have names that contain one and some hold
    sub-folders. If all hold two or more sub-folders of the same names, and at least half of all names are in each,
    these are the classes: a test set often lacks some. Anything else that looks like splits is refused, because a wrong guess would give every image a wrong label. A single folder named like a split
    among others, such as ``train`` among vehicles, is a class if it contains images directly.

    Args:
        root: Path of the folder, for messages.
        paths: Parts of the path of each image.
        chosen: Split by top-level folder as the user chose it, empty for no splits; None to find out.

    Raises:
        SourceError: The folders look like splits, but their names don't tell which; or the choice names others.
    """
    tops = _tops(paths)
    if chosen is not None:
        _check_chosen(root, tops, chosen)
        return _with_depths(chosen, paths)
    exact: dict[str, Split | None] = {
        name: SPLIT_CODES[name.lower()] for name in tops if name.lower() in SPLIT_CODES
    }
    if exact and len(exact) == len(tops):
        return _with_depths(exact, paths)
    told: dict[str, Split | None] = {name: code for name in tops if (code := split_of(name)) is not None}
    alike = _classes_in_common(tops)
    if len(told) == len(tops) > 1 and (alike or len({*told.values()}) > 1):
        if any(top.below for top in tops.values()):
            return _with_depths(told, paths)
        raise SourceError(_only_images(root, told))
    if alike:
        raise SourceError(_unclear(root, tops, told, alike))
    if len(exact) == 1 and all(tops[name].direct for name in exact):
        return Layout()
    nested = {name: code for name, code in told.items() if tops[name].below}
    if exact or len({*nested.values()}) > 1:
        raise SourceError(_mixture(root, tops, exact or nested, told))
    return Layout()


def _tops(paths: Sequence[Sequence[str]]) -> dict[str, _Top]:
    tops: dict[str, _Top] = {}
    for path in paths:
        if len(path) > 1:
            top = tops.setdefault(path[0], _Top())
            if len(path) == 2:
                top.direct = True
            else:
                top.below.add(path[1])
    return tops


def _classes_in_common(tops: Mapping[str, _Top]) -> list[str]:
    """Return the sub-folders in all top-level folders, if there are two or more and half of all; else nothing."""
    if len(tops) < 2 or any(top.direct for top in tops.values()):
        return []
    names = [{_plain(name) for name in top.below} for top in tops.values()]
    common, all_ = set.intersection(*names), set.union(*names)
    if len(common) < 2 or 2 * len(common) < len(all_):
        return []
    return sorted(name for name in tops[min(tops)].below if _plain(name) in common)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _with_depths(splits: Mapping[str, Split | None], paths: Sequence[Sequence[str]]) -> Layout:
    """Return the layout with splits, whose folders may repeat their own name, as in ``seg_train/seg_train/CLASS``."""
    below: dict[str, list[Sequence[str]]] = {}
    for path in paths:
        if len(path) > 1:
            below.setdefault(path[0], []).append(path)
    return Layout(splits, {name: _depth(name, below.get(name, [])) for name in splits})


def _depth(name: str, paths: Sequence[Sequence[str]]) -> int:
    depth = 1
    while paths and all(len(path) > depth + 1 and path[depth] == name for path in paths):
        depth += 1
    return depth


def _check_chosen(root: str, tops: Mapping[str, _Top], chosen: Mapping[str, Split | None]) -> None:
    if not chosen:
        return
    for name in chosen.keys() - tops.keys():
        raise SourceError(
            f"--split-folders: {root} has no folder {name!r} that holds images{near(name, tops)}; got"
            f" {listed(tops) or 'none'}"
        )
    missing = tops.keys() - chosen.keys()
    if missing:
        raise SourceError(
            f"--split-folders: {root} also contains {listed(missing)}; say which split each is, or FOLDER={LEFT_OUT}"
        )


def _choice(tops: Mapping[str, _Top], told: Mapping[str, Split | None]) -> str:
    """Return an example of the option that names the split of each folder."""
    names = written(told)
    choice = ",".join(f"{name}={names.get(name, '...')}" for name in sorted(tops))
    return shell_command("--split-folders", choice)


def _unclear(
    root: str, tops: Mapping[str, _Top], told: Mapping[str, Split | None], alike: Sequence[str]
) -> str:
    return (
        f"{root}: its folders {listed(tops)} all hold the sub-folders {listed(alike)}, so these look like the"
        " classes and the folders above like splits, but their names don't tell which. Name the splits (train, val,"
        f" test, or {LEFT_OUT}): {_choice(tops, told)}; or, if the folders above are the classes:"
        f" --split-folders {NO_SPLITS}"
    )


def _only_images(root: str, told: Mapping[str, Split | None]) -> str:
    return (
        f"{root}: its folders {listed(told)} look like splits, but hold no class folders. If they are splits of"
        f" unlabelled images: {_choice({name: _Top() for name in told}, told)}; if they are classes:"
        f" --split-folders {NO_SPLITS}"
    )


def _mixture(
    root: str,
    tops: Mapping[str, _Top],
    splits: Mapping[str, Split | None],
    told: Mapping[str, Split | None],
) -> str:
    return (
        f"{root}: {listed(splits)} {'look like splits' if len(splits) > 1 else 'looks like a split'}, but the folder also contains {listed(tops.keys() - splits.keys())}."
        f" Expected only {', '.join(SPLIT_CODES)} at the top level, or only classes. Say what each folder is (train, val,"
        f" test, or {LEFT_OUT}): {_choice(tops, told)}; or, if all are classes: --split-folders {NO_SPLITS}; or list the"
        " images in a manifest (path,label,split)."
    )
