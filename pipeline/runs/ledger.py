"""The ledger of a run: a record of every evaluation on the test split."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from frostline.files.documents import MAX_BYTES, Document, to_plain
from frostline.pipeline.errors import RunError
from frostline.pipeline.hosts.versions import now
from frostline.pipeline.runs.evaluation import EARLIER_NAMES
from frostline.system.files import read_regular

LEDGER_FILE = "ledger.jsonl"

_REMEDY = "Restore the file from a copy; without it the number of test evaluations is unknown."


class LedgerEntry(Struct, frozen=True, kw_only=True):
    """One evaluation on the test split.

    Attributes:
        evaluation_number: Number of the evaluation, from 1.
        time: Time of the evaluation, UTC, as ISO 8601.
        cache: Path of the cache that holds the test rows.
        key: Cache key.
        rows: Number of test rows.
    """

    evaluation_number: Annotated[int, Meta(ge=1, le=2**53)]
    time: str
    cache: str
    key: str
    rows: Annotated[int, Meta(ge=0, le=2**53)]


@dataclass(frozen=True)
class Ledger:
    """Append-only ledger in a run directory.

    Attributes:
        run: Run directory.
    """

    run: Path

    def entries(self) -> tuple[LedgerEntry, ...]:
        """Return the recorded evaluations, oldest first.

        Raises:
            RunError: The ledger can't be read.
        """
        file = self.run / LEDGER_FILE
        try:
            lines = read_regular(file, MAX_BYTES).splitlines()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise RunError(f"{file} can't be read: {error}. {_REMEDY}") from error
        return tuple(
            _entry(line, f"{file}, line {number}") for number, line in enumerate(lines, 1) if line.strip()
        )

    def record(self, *, cache: str, key: str, rows: int) -> int:
        """Append an evaluation, flushed to disk before any result is shown; return its number.

        Raises:
            RunError: The ledger can't be read.
        """
        number = len(self.entries()) + 1
        entry = LedgerEntry(evaluation_number=number, time=now(), cache=cache, key=key, rows=rows)
        line = json.dumps(to_plain(entry)) + "\n"
        with (self.run / LEDGER_FILE).open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        return number


def _entry(line: bytes, where: str) -> LedgerEntry:
    document = Document(where, "an entry of the ledger", _REMEDY, RunError)
    return document.read(line, LedgerEntry, renamed=EARLIER_NAMES)
