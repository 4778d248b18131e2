"""Ids, labels, splits and groups of imported rows, as the table of a cache."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.features.columns import parse_columns, shortest_floats
from frostline.features.errors import VectorsError
from frostline.features.sources.labels import composed, listed, sort_classes
from frostline.features.sources.manifests.sheet import side_cells
from frostline.features.sources.numbering import numbered
from frostline.features.sources.split_names import SPLIT_CODES
from frostline.features.table import NO_STAMP, STAMP_BYTES, ImageTable
from frostline.splits import Split

_SHOWN = 3


@dataclass(frozen=True, eq=False)
class RowFacts:
    """What is known of imported rows, in the order of the vectors; None for what is not known.

    Attributes:
        ids: Names of the rows, unique. By default they are numbered.
        labels: Label of each row as text, or as integer; "" or None for unknown.
        split: Split of each row: train, val, test, or "" for none.
        groups: Group of each row, "" for none.
        classes: Names of the classes that integer labels stand for; -1 is no label then.
        columns: Name in the file of what was taken for id, label, split and group.
        side: Numbers or texts of the side columns, by name.
    """

    ids: Sequence[Any] | NDArray[Any] | None = None
    labels: Sequence[Any] | NDArray[Any] | None = None
    split: Sequence[Any] | NDArray[Any] | None = None
    groups: Sequence[Any] | NDArray[Any] | None = None
    classes: Sequence[Any] | NDArray[Any] | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    side: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class RowTable:
    """Table of imported rows, sorted by id.

    Attributes:
        table: The rows; their stamps are those of missing images.
        order: (n,) index of each row of the table among the vectors.
        known: What was given of label, split and group.
        lost: Names of the side columns that can't be kept, see `parse_columns`.
        remarks: Sentences on what is not exactly as it was given.
    """

    table: ImageTable
    order: NDArray[np.int64]
    known: frozenset[str]
    lost: tuple[str, ...]
    remarks: tuple[str, ...]


def row_table(facts: RowFacts, count: int, where: str) -> RowTable:
    """Return the table of a number of rows.

    Args:
        facts: What is known of them.
        count: Number of vectors.
        where: Place named in messages.

    Raises:
        VectorsError: There is not one value per vector, an id is missing or occurs twice, a label is neither text nor a
            whole number, or the name of a split is unknown.
    """
    ids = _encoded(facts, count, where)
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    twice = np.flatnonzero(ids[1:] == ids[:-1])
    if len(twice):
        first, second = sorted(order[twice[0] : twice[0] + 2].tolist())
        raise VectorsError(
            f"{where}: the id {ids[twice[0]].decode()!r} is that of the rows {first} and {second}; expected each id once"
        )
    labels, classes, remarks = _labels(facts, count, where)
    side, lost = parse_columns(
        {
            name: side_cells(values_of(_shortest(values), name, count, where))
            for name, values in facts.side.items()
        }
    )
    table = ImageTable(
        ids=ids,
        labels=labels[order],
        classes=classes,
        split=_splits(facts.split, count, where)[order],
        groups=_texts(facts.groups, "group", count, where)[order],
        stamps=np.tile(np.frombuffer(NO_STAMP, np.uint8), (count, 1)).reshape(count, STAMP_BYTES),
        columns=tuple(column.take(order) for column in side),
    )
    given = {"label": facts.labels, "split": facts.split, "group": facts.groups}
    return RowTable(
        table, order, frozenset(name for name, value in given.items() if value is not None), lost, remarks
    )


def _shortest(values: Any) -> Any:
    """Return the values with floats of fewer bits than 64 as `shortest_floats`."""
    values = _in_numpy(values)
    if isinstance(values, np.ndarray) and values.dtype.kind == "f" and values.dtype.itemsize < 8:
        return shortest_floats(values.reshape(-1)).reshape(values.shape)
    return values


def _in_numpy(values: Any) -> Any:
    """Return a tensor or a column of a data frame as an array, and other values as they are."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    if hasattr(values, "to_numpy") and not isinstance(values, np.ndarray):
        values = values.to_numpy()
    return values


def values_of(values: Any, what: str, count: int, where: str) -> list[Any]:
    """Return one value per row as Python objects.

    Raises:
        VectorsError: There is another number of them.
    """
    if isinstance(values, str | bytes):
        raise VectorsError(
            f"{where}: {what}: got the text {values[:40]!r}, expected one value per row, {count}"
        )
    values = _in_numpy(values)
    if isinstance(values, np.ndarray) and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise VectorsError(
            f"{where}: {what}: got an array of shape {values.shape}, expected one value per row, ({count},)"
        )
    found = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if len(found) != count:
        raise VectorsError(f"{where}: {what}: got {len(found)} values, expected one per row, {count}")
    return found


def _text(value: Any, what: str, row: int, where: str) -> str:
    """Return a value as text; empty for None and NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bytes):
        try:
            return value.rstrip(b"\0").decode()
        except UnicodeDecodeError:
            raise VectorsError(
                f"{where}: {what}, row {row}: got {value[:20]!r}, expected UTF-8 text"
            ) from None
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bool | float) or not hasattr(value, "__index__"):
        raise VectorsError(f"{where}: {what}, row {row}: got {value!r}, expected a text or a whole number")
    return str(value.__index__())


def _texts(values: Any, what: str, count: int, where: str) -> NDArray[np.bytes_]:
    if values is None:
        return np.zeros(count, "S1")
    texts = [
        _text(value, what, row, where).strip()
        for row, value in enumerate(values_of(values, what, count, where))
    ]
    return np.array([_bytes(text, what, row, where) for row, text in enumerate(texts)], np.bytes_)


def _bytes(text: str, what: str, row: int, where: str) -> bytes:
    if "\0" in text:
        raise VectorsError(f"{where}: {what}, row {row}: got a null character in {text[:40]!r}")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise VectorsError(
            f"{where}: {what}, row {row}: got {text[:40]!r}, which is no Unicode text"
        ) from None


def _encoded(facts: RowFacts, count: int, where: str) -> NDArray[np.bytes_]:
    if facts.ids is None:
        return np.array([name.encode() for name in numbered(count)], np.bytes_)
    values = values_of(facts.ids, "id", count, where)
    ids = [_bytes(_text(value, "id", row, where), "id", row, where) for row, value in enumerate(values)]
    empty = [row for row, name in enumerate(ids) if not name]
    if empty:
        raise VectorsError(f"{where}: id, row {empty[0]}: got nothing, expected a name for each row")
    return np.array(ids, np.bytes_)


def _splits(values: Any, count: int, where: str) -> NDArray[np.uint8]:
    if values is None:
        return np.zeros(count, np.uint8)
    codes = np.zeros(count, np.uint8)
    for row, value in enumerate(values_of(values, "split", count, where)):
        name = _text(value, "split", row, where).strip().lower()
        if name and name not in SPLIT_CODES:
            raise VectorsError(
                f"{where}: split, row {row}: got {name[:40]!r}, expected {', '.join(SPLIT_CODES)}, or nothing"
            )
        codes[row] = SPLIT_CODES.get(name, Split.NONE)
    return codes


def _labels(
    facts: RowFacts, count: int, where: str
) -> tuple[NDArray[np.int64], tuple[str, ...], tuple[str, ...]]:
    """Return the number of the class of each row, the names of the classes, and remarks."""
    if facts.labels is None:
        if facts.classes is not None:
            raise VectorsError(f"{where}: got names of classes, and no labels that are their numbers")
        return np.full(count, -1, np.int64), (), ()
    names = _class_names(facts.classes, where)
    values = values_of(facts.labels, "label", count, where)
    remarks = []
    if any(isinstance(value, float) and not math.isnan(value) for value in values):
        remarks.append("the labels are whole numbers written as floats, and were read as integers")
    texts = [_label(value, names, row, where) for row, value in enumerate(values)]
    texts, joined = composed(texts)
    classes = sort_classes({*texts, *names} - {""})
    number = {"": -1} | {name: index for index, name in enumerate(classes)}
    for row, text in enumerate(texts):
        _bytes(text, "label", row, where)
    return np.array([number[text] for text in texts], np.int64), classes, (*remarks, *joined)


def _class_names(classes: Any, where: str) -> list[str]:
    if classes is None:
        return []
    names = [_text(value, "classes", row, where).strip() for row, value in enumerate(list(classes))]
    names, _ = composed(names)
    if "" in names or len({*names}) < len(names):
        raise VectorsError(f"{where}: classes: got {listed(names)}, expected a different name for each class")
    return names


def _label(value: Any, names: Sequence[str], row: int, where: str) -> str:
    text = _text(value, "label", row, where).strip()
    if not names or isinstance(value, str | bytes) or not text:
        if names and text and text not in names:
            raise VectorsError(
                f"{where}: label, row {row}: got {text!r}, expected one of the classes {listed(names)}"
            )
        return text
    if not -1 <= int(text) < len(names):
        raise VectorsError(
            f"{where}: label, row {row}: got {text}, expected the number of one of the {len(names)} classes, or -1 for none"
        )
    return names[int(text)] if int(text) >= 0 else ""


def joined_with_images(rows: RowTable, images: ImageTable, root: str, where: str) -> RowTable:
    """Return the table with the stamps of the images of the same ids, and what was not given taken from them.

    Raises:
        VectorsError: The ids are not those of the images, one to one.
    """
    ours, theirs = rows.table.ids, images.ids
    if not np.array_equal(ours, theirs):
        lost, foreign = np.setdiff1d(ours, theirs), np.setdiff1d(theirs, ours)
        raise VectorsError(
            f"{where}: its ids are not those of the images of {root}: {_named(lost)} only among the vectors,"
            f" {_named(foreign)} only among the images. Expected the same ids, such as {theirs[0].decode()!r}; name them with"
            " --ids"
        )
    table = rows.table
    taken = [what for what in ("label", "split", "group") if what not in rows.known]
    ours_beside = {each.name for each in table.columns}
    merged = ImageTable(
        ids=ours,
        labels=images.labels if "label" in taken else table.labels,
        classes=images.classes if "label" in taken else table.classes,
        split=images.split if "split" in taken else table.split,
        groups=images.groups if "group" in taken else table.groups,
        stamps=images.stamps,
        columns=(*table.columns, *(each for each in images.columns if each.name not in ours_beside)),
    )
    remark = (
        f"taken from the images: {', '.join(taken)}"
        if taken
        else "labels, splits and groups are those that were given"
    )
    return replace(rows, table=merged, remarks=(*rows.remarks, remark))


def _named(ids: NDArray[np.bytes_]) -> str:
    if not len(ids):
        return "0"
    more = ", ..." if len(ids) > _SHOWN else ""
    return f"{len(ids)} ({', '.join(repr(name.decode(errors='replace')) for name in ids[:_SHOWN].tolist())}{more})"
