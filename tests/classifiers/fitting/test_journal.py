"""The journal of a search: a line that was changed is computed again."""

import json

import pytest

from frostline.classifiers.fitting.journal import Journal


def completed(path):
    """Complete three pieces with a journal; return the results, and the number of pieces that it knew."""
    with Journal(path) as journal:
        results = journal.complete(
            ["a", "b", "c"],
            lambda todo: ((index, {"score": index / 3}) for index in todo),
            lambda _count: None,
        )
        return results, journal.resumed


CHANGES = {
    "a number": lambda line: line.replace(b"0.33", b"0.99"),
    "a name": lambda line: line.replace(b'"b"', b'"c"'),
    "no result": lambda _line: json.dumps({"piece": "b"}).encode() + b"\n",
    "no digest": lambda _line: json.dumps({"piece": "b", "result": {"score": 1}}).encode() + b"\n",
    "a list": lambda _line: b"[1, 2]\n",
    "a number alone": lambda _line: b"5\n",
    "deep": lambda _line: b"[" * 100_000 + b"\n",
    "5,000 digits": lambda _line: b"1" * 5000 + b"\n",
    "not UTF-8": lambda _line: b"\xff\xfe\n",
    "no end": lambda line: line[:-1],
    "half": lambda line: line[: len(line) // 2] + b"\n",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_line_and_those_after_it_are_computed_again(tmp_path, change):
    path = tmp_path / "journal.jsonl"
    results, known = completed(path)
    assert known == 0
    assert completed(path) == (results, 3)
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + CHANGES[change](second) + third)
    assert completed(path) == (results, 1)
    assert completed(path) == (results, 3)
