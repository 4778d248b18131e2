"""The verify stage: check runs, caches and folders of both, file by file, against their digests and checksums."""

import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from frostline.classifiers.saving.head_files import (
    HEAD_FILES,
    HEAD_RECORD,
    check_head_files,
    read_head_record,
)
from frostline.classifiers.saving.rejection_file import REJECTION_FILE, load_rejection
from frostline.errors import FrostlineError
from frostline.features.backbones.tuned import TUNED_RECORD, TUNED_WEIGHTS, load_tuned, read_tuned_record
from frostline.features.cache import FeatureCache
from frostline.features.cache.imported.facts import remedy
from frostline.files.checksums import SUMS_FILE, Digests, digest_of_file, files_in, problem_of, read_sums
from frostline.files.documents import MAX_BYTES, Document
from frostline.pipeline.errors import RunError
from frostline.pipeline.progress import SILENT, Reporter
from frostline.pipeline.runs.directory import FEATURES, FEW_SHOT, LEARNING_CURVE
from frostline.pipeline.runs.evaluation import EVALUATION_FILE, find_test_predictions, read_evaluation
from frostline.pipeline.runs.ledger import LEDGER_FILE, Ledger
from frostline.pipeline.runs.predictions import TEST_FILE, VALIDATION_FILE, Predictions
from frostline.pipeline.runs.record import RUN_FILE
from frostline.pipeline.runs.run import load_run
from frostline.pipeline.runs.split import SPLIT_FILE
from frostline.pipeline.training.sample_sizes import read_learning_curve
from frostline.system.files import check_regular, read_regular
from frostline.wording import count_of

State = Literal["ok", "unchecked", "damaged", "missing", "unlisted"]

_MARKS = (RUN_FILE, f"{FEW_SHOT}.json", f"{LEARNING_CURVE}.json")
_CACHE = re.compile(r".+\.h5(\.part-\d+-of-\d+)?", re.DOTALL)
_RESTORE = "Restore the file from a copy"


@dataclass(frozen=True)
class FileCheck:
    """Result of checking a file.

    Attributes:
        path: The file.
        state: ``ok``: as it was written. ``unchecked``: can be read, but its folder lists no digest of it, because an
            earlier version wrote it, or because another program added it. ``damaged``: changed, or can't be read.
            ``missing``: listed but not there. ``unlisted``: its writing was interrupted.
        detail: What was checked or found, as a part of a sentence; empty for nothing to say.
    """

    path: Path
    state: State
    detail: str = ""

    @property
    def is_wrong(self) -> bool:
        """Return whether the file is damaged, missing or incomplete."""
        return self.state in {"damaged", "missing", "unlisted"}


@dataclass(frozen=True)
class Verification:
    """Result of checking runs and caches.

    Attributes:
        files: One result per file.
        wrong: Number of files that are damaged, missing or incomplete.
    """

    files: tuple[FileCheck, ...]
    wrong: int


def verify(paths: Sequence[str | Path], *, report: Reporter = SILENT) -> Verification:
    """Check every byte of runs and caches that has a digest or a checksum, and read all of their records.

    Args:
        paths: Runs, caches, and folders that hold runs and caches at any depth, such as those of studies.
        report: Receiver of progress.

    Raises:
        RunError: A folder holds neither a run nor a cache.
        OSError: A path does not exist, or is neither a file nor a folder.
    """
    places = [place for path in paths for place in _places(Path(path))]
    found: list[FileCheck] = []
    with report.task("Verifying", len(places)) as advance:
        for place in places:
            found += _checked_place(place)
            advance(1)
    return Verification(tuple(found), sum(each.is_wrong for each in found))


def _places(path: Path) -> list[Path]:
    """Return the runs and caches at or below a path."""
    if not path.is_dir():
        check_regular(path)
        return [path]
    found = [*_walk(path)]
    if not found:
        raise RunError(
            f"{path} holds neither a run nor a cache; expected the folder of a run, a cache file, or a folder of them."
        )
    return found


def _walk(folder: Path) -> Iterator[Path]:
    if any(os.path.lexists(folder / name) for name in (*_MARKS, SUMS_FILE)):
        yield folder
        return
    try:
        inside = sorted(folder.iterdir())
    except OSError:  # reported when it is checked
        yield folder
        return
    for each in inside:
        if each.name.startswith("."):
            continue
        if each.is_dir() and not each.is_symlink():
            yield from _walk(each)
        elif _CACHE.fullmatch(each.name):
            yield each


def _checked_place(place: Path) -> list[FileCheck]:
    try:
        return _checked_run(place) if place.is_dir() else [_checked_cache(place)]
    except OSError as error:
        return [FileCheck(place, "damaged", f"can't be read: {_line(error)}")]


def _checked_cache(path: Path) -> FileCheck:
    try:
        cache = FeatureCache.open(path)
        found = cache.verify()
    except (FrostlineError, OSError) as error:
        return FileCheck(path, "damaged", _line(error))
    if found.ok:
        return FileCheck(
            path,
            "ok",
            f"{count_of(found.rows, 'row')} in {count_of(found.blocks, 'block')}, all checksums are correct",
        )
    again = remedy(cache.spec, "run the same extract with --overwrite, which recomputes these")
    ranges = "; ".join(f"{what}: rows {first} to {last}" for what, first, last in found.damaged)
    return FileCheck(
        path,
        "damaged",
        f"{ranges}. {_RESTORE}, or {again}",
    )


def _checked_run(folder: Path) -> list[FileCheck]:
    os.listdir(folder)  # noqa: PTH208  # raises OSError for a folder that can't be read, which rglob skips
    try:
        sums = read_sums(folder, RunError)
    except RunError as error:
        return [FileCheck(folder / SUMS_FILE, "damaged", _line(error))]
    names = sorted({*files_in(folder), *(sums or {}), *([] if _has_record(folder) else [RUN_FILE])})
    return [_checked(folder, name, sums) for name in names]


def _has_record(folder: Path) -> bool:
    return any(os.path.lexists(folder / name) for name in _MARKS)


def _checked(folder: Path, name: str, sums: Digests | None) -> FileCheck:
    """Check a file of a run: its digest, and whether it can be read."""
    path = folder / name
    if name == FEATURES:
        return _checked_cache(path)
    if not os.path.lexists(path):
        return FileCheck(path, "missing", f"{_RESTORE}, or train again")
    try:
        if sums is not None and name in sums:
            limit = MAX_BYTES if path.suffix == ".json" else None
            problem = problem_of(name, digest_of_file(path, limit), sums)
            if problem:
                return FileCheck(path, "damaged", f"{problem}. {_RESTORE}, or train again")
            _RECORDS.get(name, _nothing)(folder)
            return FileCheck(path, "ok")
        if sums is not None and name in _WRITTEN_LATER:
            return FileCheck(
                path, "unlisted", "the evaluation that wrote it was interrupted. Run evaluate again"
            )
        if name in _SELF_CHECKED:
            return FileCheck(path, "ok", _SELF_CHECKED[name](folder))
        _RECORDS.get(name, _nothing)(folder)
    except (FrostlineError, OSError) as error:
        return FileCheck(path, "damaged", _line(error))
    return FileCheck(
        path, "unchecked", f"{SUMS_FILE} does not list it" if sums else "the run has no list of digests"
    )


def _line(error: BaseException) -> str:
    """Return an error in one line."""
    return " ".join(" ".join([str(error), *getattr(error, "__notes__", ())]).split())


def _nothing(_folder: Path) -> None:
    pass


def _checked_head(folder: Path) -> str:
    check_head_files(folder)
    return f"as {HEAD_RECORD} says"


def _checked_backbone(folder: Path) -> str:
    load_tuned(folder)
    return f"as {TUNED_RECORD} says"


def _checked_ledger(folder: Path) -> str:
    entries = Ledger(folder).entries()
    numbers = {entry.evaluation_number for entry in entries}
    gone = next(number for number in itertools.count(1) if number not in numbers)
    if gone <= max(numbers, default=0):
        raise RunError(f"evaluation {gone} is missing. {_RESTORE}")
    return f"evaluations 1 to {gone - 1}" if numbers else "no evaluation"


def _read_evaluation(folder: Path) -> None:
    found, entries = read_evaluation(folder), Ledger(folder).entries()
    if found and found.evaluation_number > max((entry.evaluation_number for entry in entries), default=0):
        raise RunError(
            f"it is evaluation {found.evaluation_number}, which {LEDGER_FILE} does not record. {_RESTORE}"
        )


def _read_few_shot(folder: Path) -> None:
    file = folder / f"{FEW_SHOT}.json"
    remedy = f"{_RESTORE}, or run few-shot again."
    Document(file, "a few-shot result", remedy, RunError).parse(read_regular(file, MAX_BYTES))


_WRITTEN_LATER = frozenset({EVALUATION_FILE, TEST_FILE})
"""Files that are written into a finished run, and whose writing may be interrupted."""

_RECORDS: Mapping[str, Callable[[Path], object]] = {
    RUN_FILE: load_run,
    SPLIT_FILE: lambda folder: load_run(folder).split,
    HEAD_RECORD: read_head_record,
    REJECTION_FILE: load_rejection,
    TUNED_RECORD: read_tuned_record,
    EVALUATION_FILE: _read_evaluation,
    TEST_FILE: find_test_predictions,
    VALIDATION_FILE: lambda folder: Predictions.read(folder / VALIDATION_FILE),
    f"{FEW_SHOT}.json": _read_few_shot,
    f"{LEARNING_CURVE}.json": read_learning_curve,
}
"""Function that reads each kind of record of a run."""

_SELF_CHECKED: Mapping[str, Callable[[Path], str]] = {
    **dict.fromkeys(HEAD_FILES, _checked_head),
    TUNED_WEIGHTS: _checked_backbone,
    LEDGER_FILE: _checked_ledger,
}
"""Function that checks each kind of file that needs no list of digests, and says by what."""
