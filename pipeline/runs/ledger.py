"""The ledger of a run: a record of every evaluation on the test split."""

import contextlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from frostline.files.documents import MAX_BYTES, Document, to_plain
from frostline.pipeline.errors import RunError
from frostline.pipeline.hosts.versions import now
from frostline.pipeline.progress import SILENT, Reporter
from frostline.pipeline.runs.evaluation import EARLIER_NAMES, EVALUATION_FILE, MAX_NUMBER, read_evaluation
from frostline.system.atomic import AppendedFile, replace_file
from frostline.system.files import read_regular

LEDGER_FILE = "ledger.jsonl"

_REMEDY = "Restore the file from a copy; without it the number of test evaluations is unknown."


class LedgerEntry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One evaluation on the test split.

    Attributes:
        evaluation_number: Number of the evaluation, from 1.
        time: Time of the evaluation, UTC, as ISO 8601.
        cache: Path of the cache that holds the test rows.
        key: Cache key.
        rows: Number of test rows.
        set_aside: Name of the file beside the ledger that holds the line, if it was only half written. Nothing else is
            known of such an evaluation, and `time` is that of its discovery.
    """

    evaluation_number: Annotated[int, Meta(ge=1, le=MAX_NUMBER)]
    time: str
    cache: str
    key: str
    rows: Annotated[int, Meta(ge=0, le=2**53)]
    set_aside: str = ""


@dataclass(frozen=True)
class Ledger:
    """Append-only ledger in a run directory.

    A last line that was only half written, because the disk was full or the process was killed, counts as an
    evaluation.

    Attributes:
        run: Run directory.
    """

    run: Path

    @property
    def file(self) -> Path:
        """The file of the ledger."""
        return self.run / LEDGER_FILE

    def entries(self) -> tuple[LedgerEntry, ...]:
        """Return the recorded evaluations, oldest first.

        Raises:
            RunError: The ledger can't be read.
        """
        try:
            content = read_regular(self.file, MAX_BYTES)
            if not _is_whole(content):  # perhaps another process is writing the line
                with contextlib.suppress(OSError), AppendedFile.open(self.file, wait=True) as file:
                    content = file.read(MAX_BYTES)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise RunError(f"{self.file} can't be read: {error}. {_REMEDY}") from error
        found, torn = self._parse(content)
        return (*found, self._unknown(found)) if torn else found

    def record(self, *, cache: str, key: str, rows: int, report: Reporter = SILENT) -> int:
        """Append an evaluation, flushed to disk before any result is shown; return its number.

        Processes that record evaluations at the same time do so one after the other. On a file system without locks
        they may give the same number.

        Args:
            cache: Path of the cache that holds the test rows.
            key: Cache key.
            rows: Number of test rows.
            report: Receiver of a warning if the last line was only half written, or entries are missing.

        Raises:
            RunError: The ledger can't be read or written. It is as before.
        """
        try:
            with AppendedFile.open(self.file, wait=True) as file:
                number = self._next(self._completed(file, report), report)
                if number > MAX_NUMBER:
                    raise RunError(
                        f"{self.file}: got evaluation {number - 1}, which no run reaches. {_REMEDY}"
                    )
                file.append(
                    _line(LedgerEntry(evaluation_number=number, time=now(), cache=cache, key=key, rows=rows))
                )
        except OSError as error:
            raise RunError(
                f"{self.file} can't be written: {error}. The evaluation was not made, because it can't be recorded."
            ) from error
        return number

    def _next(self, entries: tuple[LedgerEntry, ...], report: Reporter) -> int:
        """Return the number of the next evaluation, which is also above that of the latest result."""
        number, latest = _next_number(entries), 0
        given = {entry.evaluation_number for entry in entries}
        if len(given) < len(entries):
            report.warn(
                f"{self.file} has {len(entries)} entries with {len(given)} different numbers: it was changed, or written by an"
                f" earlier version that gave a number twice. Each entry counts, so the next number is {number}."
            )
        with contextlib.suppress(RunError):  # a damaged result is about to be replaced
            if result := read_evaluation(self.run):
                latest = result.evaluation_number
        if number > latest:
            return number
        report.warn(
            f"{self.file} has lost entries: it ends with evaluation {number - 1}, and {EVALUATION_FILE} is the result of"
            f" evaluation {latest}. Numbers continue from there."
        )
        return latest + 1

    def _parse(self, content: bytes) -> tuple[tuple[LedgerEntry, ...], bytes]:
        """Return the entries of the whole lines, and the rest."""
        *lines, torn = content.split(b"\n")
        entries = (
            _entry(line, f"{self.file}, line {number}")
            for number, line in enumerate(lines, 1)
            if line.strip()
        )
        return tuple(entries), torn

    def _completed(self, file: AppendedFile, report: Reporter) -> tuple[LedgerEntry, ...]:
        """Return the entries; set a half line aside, and write an entry in its place."""
        content = file.read(MAX_BYTES)
        found, torn = self._parse(content)
        if not torn:
            return found
        start = len(content) - len(torn)
        with contextlib.suppress(RunError):
            found = (*found, _entry(torn, str(self.file)))
            file.overwrite(torn, start)  # only the end of the line was missing
            return found
        entry = self._unknown(found)
        replace_file(self.run / entry.set_aside, torn)
        file.overwrite(_line(entry), start)
        report.warn(
            f"{self.file}: the last line was only half written, by an evaluation that was interrupted or met a full disk. It is"
            f" kept in {entry.set_aside} and counts as evaluation {entry.evaluation_number}."
        )
        return (*found, entry)

    def _unknown(self, known: tuple[LedgerEntry, ...]) -> LedgerEntry:
        """Return the entry of an evaluation whose line was only half written."""
        number = _next_number(known)
        aside = f"{LEDGER_FILE}.torn-{number}"
        return LedgerEntry(evaluation_number=number, time=now(), cache="", key="", rows=0, set_aside=aside)


def _is_whole(content: bytes) -> bool:
    return not content or content.endswith(b"\n")


def _next_number(entries: Iterable[LedgerEntry]) -> int:
    """Return the number of the next evaluation; earlier versions could give a number twice."""
    numbers = [entry.evaluation_number for entry in entries]
    return max(len(numbers), *numbers, 0) + 1


def _line(entry: LedgerEntry) -> bytes:
    return json.dumps(to_plain(entry)).encode()


def _entry(line: bytes, where: str) -> LedgerEntry:
    document = Document(where, "an entry of the ledger", _REMEDY, RunError)
    return document.read(line, LedgerEntry, renamed=EARLIER_NAMES)
