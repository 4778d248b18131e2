"""CSV, TSV and JSON Lines of vectors, copied block by block."""

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, TextIO

import numpy as np
from numpy.typing import NDArray

from frostline.csv_cells import from_cell
from frostline.features.cache.imported.vectors import rows_per_block
from frostline.features.errors import VectorsError
from frostline.features.sources.labels import plain_numbers
from frostline.features.sources.manifests.json_lines import json_object
from frostline.features.sources.manifests.sheet import cell_text, place
from frostline.features.sources.manifests.text import bounded_lines
from frostline.pipeline.importing.columns import Plan, plan_columns
from frostline.pipeline.importing.importers import FoundVectors, Importer, Wanted
from frostline.system.files import open_regular

_SUFFIXES: Final = (".csv", ".tsv")

Row = tuple[int, Mapping[str, Any]]
"""Number of a line, and its cells by column."""


def _read_csv(wanted: Wanted) -> FoundVectors:
    with _text(wanted.path) as stream:
        reader = _reader(stream, wanted.path)
        header = _header(reader, wanted.path)
    if header and all(_is_number(cell) for cell in header) and header != [*map(str, range(len(header)))]:
        raise VectorsError(
            f"{wanted.path}: line 1 holds numbers, expected the names of the columns. Add a line of names, or save the array"
            " as .npy"
        )
    return _read(wanted, plan_columns(wanted, header), lambda: csv_rows(wanted.path))


def csv_rows(path: str) -> Iterator[Row]:
    """Yield the lines of a CSV or TSV file after the header.

    Raises:
        OSError: The file can't be read.
        VectorsError: A line has another number of cells, or the file is not such a table.
    """
    with _text(path) as stream:
        reader = _reader(stream, path)
        header = _header(reader, path)
        while True:
            try:
                cells = next(reader, None)
            except (csv.Error, UnicodeDecodeError) as error:
                raise VectorsError(
                    f"{path}, line {reader.line_num}: {error}; expected UTF-8 text, quoted as in RFC 4180"
                ) from error
            if cells is None:
                return
            if not cells:  # a blank line
                continue
            if len(cells) != len(header):
                raise VectorsError(
                    f"{path}, line {reader.line_num}: got {len(cells)} cells, expected {len(header)}"
                )
            yield reader.line_num, dict(zip(header, cells, strict=True))


def _text(path: str) -> TextIO:
    return open(open_regular(path), encoding="utf-8-sig", newline="")  # noqa: PTH123  # a descriptor


def _reader(stream: TextIO, path: str) -> Any:
    delimiter = "\t" if path.lower().endswith(".tsv") else ","
    return csv.reader(bounded_lines(stream, path), delimiter=delimiter, strict=True)


def _header(reader: Any, path: str) -> list[str]:
    try:
        return [from_cell(cell) for cell in next(reader, [])]
    except (csv.Error, UnicodeDecodeError) as error:
        raise VectorsError(f"{path}, line 1: {error}; expected UTF-8 text, quoted as in RFC 4180") from error


def _read_json_lines(wanted: Wanted) -> FoundVectors:
    header: list[str] = []
    widths: dict[str, int] = {}
    for _, cells in _json_rows(wanted.path):
        header = header or [*cells]
        widths = {name: len(cells[name]) for name in header if isinstance(cells.get(name), list)} | widths
        if all(name in widths or cells.get(name) is not None for name in header):
            break  # what was missing in the lines before is known
    if not header:
        raise VectorsError(f"{wanted.path}: holds no line, expected an object per line")
    plan = plan_columns(wanted, header, lists=[name for name in header if name in widths])
    return _read(wanted, plan, lambda: _json_rows(wanted.path), widths)


def _json_rows(path: str) -> Iterator[Row]:
    with _text(path) as stream:
        try:
            for number, line in enumerate(bounded_lines(stream, path), 1):
                if line.strip():
                    yield number, json_object(line.strip(), place(path, "line", number))
        except UnicodeDecodeError as error:
            raise VectorsError(f"{path}: {error}; save the file as UTF-8") from error


def _read(
    wanted: Wanted, plan: Plan, rows: Callable[[], Iterator[Row]], widths: Mapping[str, int] | None = None
) -> FoundVectors:
    facts: dict[str, list[str]] = {role: [] for role in plan.roles}
    side: dict[str, list[Any]] = {name: [] for name in plan.side}
    blocks = _blocks(wanted.path, plan, rows(), facts, side, widths=widths or {})
    layers = wanted.scratch.copy_all(blocks, wanted.path)
    if "label" in facts:
        facts["label"] = plain_numbers(facts["label"])
    named = {plan.side[name]: values for name, values in side.items()}
    return FoundVectors(layers, facts, plan.roles, named, plan.unused)


def _blocks(
    path: str,
    plan: Plan,
    rows: Iterator[Row],
    facts: dict[str, list[str]],
    side: dict[str, list[Any]],
    *,
    widths: Mapping[str, int],
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield the vectors of some rows by key of the layer, and note what other columns tell."""
    width = sum(map(len, plan.numbers.values())) or 1024
    step = max(1, rows_per_block(width) // 4)  # Python's numbers take more memory
    vectors: dict[str, list[Any]] = {key: [] for key in (*plan.lists, *plan.numbers)}
    taken = {key: _getter(names) for key, names in plan.numbers.items()}
    for count, (line, cells) in enumerate(rows, 1):
        for role, name in plan.roles.items():
            value = cells.get(name)
            text = from_cell(value) if isinstance(value, str) else _cell(value, path, line, name, role)
            facts[role].append(text)
        for name, values in side.items():
            value = cells.get(name)
            values.append(from_cell(value) if isinstance(value, str) else value)
        for key, name in plan.lists.items():
            vectors[key].append(_list(cells.get(name), path, line, name, widths[name]))
        for key, names in plan.numbers.items():
            vectors[key].append(_row(taken[key](cells), names, path, line))
        if count % step == 0:
            yield {key: np.array(rows_, np.float32) for key, rows_ in vectors.items()}
            vectors = {key: [] for key in vectors}
    if any(vectors.values()):
        yield {key: np.array(rows_, np.float32) for key, rows_ in vectors.items()}


def _getter(names: Sequence[str]) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
    """Return a function that takes some cells of a row; a missing one is empty."""
    several = itemgetter(*names, names[0])  # which returns a tuple for one name as well

    def get(cells: Mapping[str, Any]) -> Sequence[Any]:
        try:
            taken: Sequence[Any] = several(cells)[:-1]
        except KeyError:
            taken = [cells.get(name, "") for name in names]
        return taken

    return get


def _cell(value: Any, path: str, line: int, name: str, role: str) -> str:
    if isinstance(value, dict | list | bool):
        raise VectorsError(
            f"{place(path, 'line', line, name)}: got {str(value)[:40]}, expected one text or number as {role}"
        )
    return cell_text(value, place(path, "line", line, name), whole=role != "label")


def _row(cells: Sequence[Any], names: Sequence[str], path: str, line: int) -> NDArray[np.float32]:
    """Return cells as float32 numbers; an empty cell is NaN."""
    try:
        values = [*map(float, cells)]
    except (ValueError, TypeError):
        values = [_number(cell, path, line, name) for cell, name in zip(cells, names, strict=True)]
    return _float32(values)


def _number(cell: Any, path: str, line: int, name: str) -> float:
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return math.nan
    try:
        return float(from_cell(cell) if isinstance(cell, str) else cell)
    except (ValueError, TypeError, OverflowError):
        raise VectorsError(
            f"{place(path, 'line', line, name)}: got {str(cell)[:40]!r}, expected a number"
        ) from None


def _float32(values: Sequence[float]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return np.array(values, np.float64).astype(np.float32)


def _list(value: Any, path: str, line: int, name: str, width: int) -> NDArray[np.float32]:
    """Return a list of numbers as float32; NaN for a missing list."""
    if value is None:
        return np.full(width, np.nan, np.float32)
    if not isinstance(value, list) or not all(type(each) in {int, float, type(None)} for each in value):
        raise VectorsError(
            f"{place(path, 'line', line, name)}: got {str(value)[:40]}, expected a list of numbers"
        )
    if len(value) != width:
        raise VectorsError(
            f"{place(path, 'line', line, name)}: got {len(value)} numbers, expected {width} as in the first list"
        )
    try:
        return _float32([math.nan if each is None else each for each in value])
    except OverflowError:
        raise VectorsError(
            f"{place(path, 'line', line, name)}: got a whole number that is too large"
        ) from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


CSV = Importer("table of text", _SUFFIXES, _read_csv)
JSON_LINES = Importer("objects of JSON, one per line", (".jsonl", ".ndjson"), _read_json_lines)
