"""Study files: the data, backbones, layers, heads, recipes and seeds to combine.

Each table is named after a command, and its keys after the options of that command. Lists are combined.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from frostline.pipeline.studies.jobs.places import Places
from frostline.registry import near

Several = str | tuple[str, ...]
Size = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Seed = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Base class of tables, whose keys are written like command-line options."""


class BatchTable(_Table, frozen=True):
    """``[batch]``: settings of all jobs.

    Attributes:
        data: Image folders or manifests.
        out: Output folder; by default named after the file.
        seeds: Random seeds; each head and each network is trained once per seed.
        device: Device of networks and heads.
        fractions: Fractions of train, val and test for data without declared splits.
        limit: Number of images to use of each data set, evenly spaced; None for all.
        evaluate: Whether to evaluate each run on the test split.
    """

    data: Several
    out: str = ""
    seeds: tuple[Seed, ...] = (0,)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    fractions: tuple[Share, Share, Share] = (0.6, 0.2, 0.2)
    limit: Size | None = None
    evaluate: bool = False


class ExtractTable(_Table, frozen=True):
    """``[[extract]]``: caches to compute for every head.

    Attributes:
        backbone: Names of the backbones; ``a+b`` joins the features of two.
        weights: Local weights; by default the pretrained ones.
        image_size: Side in pixels of the square input; by default the size of the pretrained weights.
        layer: Layers that heads read; ``a+b`` joins two, ``all`` chooses among the others.
    """

    backbone: Several
    weights: str | None = None
    image_size: Size | tuple[Size, ...] | None = None
    layer: Several = "embedding"


class TrainHeadTable(_Table, frozen=True):
    """``[[train-head]]``: heads to train on every cache.

    Attributes:
        head: Kinds of head.
        param: Hyper-parameters to fix.
        search: Method of the search for the other hyper-parameters; by default the head's own.
        trials: Number of candidates of the search.
        cv: Number of folds to cross-validate candidates on; by default they are scored on validation.
        project: Projection of the features, e.g. ``pca:256``.
        name: Label in the names of the runs; by default the kind of head.
    """

    head: Several
    param: Mapping[str, Any] = {}
    search: Literal["grid", "random", "halving", "optuna"] | None = None
    trials: Size | None = None
    cv: Annotated[int, msgspec.Meta(ge=2)] | None = None
    project: str | None = None
    name: str = ""


class FinetuneTable(_Table, frozen=True):
    """``[[finetune]]``: networks to train.

    Attributes:
        backbone: Names of the backbones.
        weights: Local weights; by default the pretrained ones.
        image_size: Side in pixels of the square input; by default the size of the pretrained weights.
        from_scratch: Whether to start from random weights.
        cached: Whether to compute the output below the frost line once; by default whenever possible.
        recipe: Settings of the training; see `pipeline.Recipe`.
        search: Method of the search over `values`: ``grid`` tries all combinations, ``random`` draws some of them,
            and ``list`` tries a list of recipes.
        trials: Number of random candidates.
        values: Values to try for each option; ``random`` draws numbers from the range that they span. For
            ``list``, a list of recipes.
        search_epochs: Epochs of each candidate; by default a quarter of the recipe's.
        name: Label in the names of the runs; by default ``finetune`` or ``scratch``.
    """

    backbone: Several
    weights: str | None = None
    image_size: Size | tuple[Size, ...] | None = None
    from_scratch: bool = False
    cached: bool | None = None
    recipe: Mapping[str, Any] = {}
    search: Literal["grid", "random", "list"] | None = None
    trials: Size | None = None
    values: Mapping[str, tuple[Any, ...]] | tuple[Mapping[str, Any], ...] = ()
    search_epochs: Size | None = None
    name: str = ""


class _Document(_Table, frozen=True):
    batch: BatchTable
    extract: tuple[ExtractTable, ...] = ()
    train_head: tuple[TrainHeadTable, ...] = ()
    finetune: tuple[FinetuneTable, ...] = ()


@dataclass(frozen=True)
class Study:
    """Contents of a study file.

    Attributes:
        file: Path of the file.
        batch: Settings of all jobs.
        extract: Caches to compute.
        train_head: Heads to train on every cache.
        finetune: Networks to train.
        places: Line numbers in the file, for error messages.
    """

    file: Path
    batch: BatchTable
    extract: tuple[ExtractTable, ...]
    train_head: tuple[TrainHeadTable, ...]
    finetune: tuple[FinetuneTable, ...]
    places: Places

    @property
    def out(self) -> Path:
        """Absolute path of the output folder."""
        return Path(self.batch.out or self.file.stem).absolute()


def several(value: str | int | tuple[Any, ...] | None) -> tuple[Any, ...]:
    """Return the values of a key as a tuple: a single value, or those of a list."""
    return value if isinstance(value, tuple) else (value,)


def read_study(file: str | Path) -> Study:
    """Read a study file.

    Raises:
        StudyError: The file is not TOML, a key is unknown, or a value is invalid; the message gives the line.
        OSError: The file can't be read.
    """
    file = Path(file)
    text = file.read_text(encoding="utf-8")
    places = Places(file, text)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:  # the message contains the line
        raise places.error(f"not TOML: {error}") from error
    try:
        found = msgspec.convert(document, _Document)
    except msgspec.ValidationError as error:
        raise _line_error(error, places) from error
    study = Study(file, found.batch, found.extract, found.train_head, found.finetune, places)
    _check(study)
    return study


def _line_error(error: msgspec.ValidationError, places: Places) -> Exception:
    """Return the error of msgspec with the line, and with close matches of an unknown key."""
    message, _, path = str(error).partition(" - at `$")
    keys = re.findall(r"[\w-]+", path)
    table, index = (keys[0] if keys else ""), int(keys[1]) if keys[1:] and keys[1].isdecimal() else 0
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", message)
    if unknown:
        return places.error(_unknown(table, unknown[1]), table or unknown[1], index, unknown[1])
    word = next((key for key in reversed(keys[1:]) if not key.isdecimal()), "")
    where = f"{word}: " if word else f"[{table}]: " if table else ""
    message = message.replace("Object missing required field", "missing key")
    return places.error(f"{where}{message[:1].lower()}{message[1:]}", table, index, word or table)


def _unknown(table: str, key: str) -> str:
    known = [each.encode_name for each in msgspec.structs.fields(_TABLES[table])]
    what = f"[{table}] has no key" if table else "no table"
    return f"{what} {key!r}{near(key, known)}; expected one of {', '.join(known)}"


_TABLES: Mapping[str, type[_Table]] = {
    "": _Document,
    "batch": BatchTable,
    "extract": ExtractTable,
    "train-head": TrainHeadTable,
    "finetune": FinetuneTable,
}


def _check(study: Study) -> None:
    """Raise `StudyError` for keys that exclude or require each other."""
    for table, index, problem, word in _problems(study):
        raise study.places.error(problem, table, index, word)


def _problems(study: Study) -> Iterator[tuple[str, int, str, str]]:
    """Yield the table, its index, the problem and the word whose line is named."""
    yield from ((table, 0, problem, table) for table, problem in _missing_tables(study))
    if not study.batch.seeds:
        yield "batch", 0, "seeds: expected one or more, e.g. seeds = [0]", "seeds"
    for index, extract in enumerate(study.extract):
        yield from (("extract", index, *found) for found in _extract_problems(extract))
    for index, head in enumerate(study.train_head):
        yield from (("train-head", index, *found) for found in _head_problems(head))
    for index, tuned in enumerate(study.finetune):
        yield from (("finetune", index, *found) for found in _finetune_problems(tuned))


def _missing_tables(study: Study) -> Iterator[tuple[str, str]]:
    if not study.extract and not study.finetune:
        yield "batch", "nothing to do: add [[extract]] and [[train-head]], or [[finetune]]"
    if study.train_head and not study.extract:
        yield "train-head", "heads need features: add [[extract]]"


def _head_problems(table: TrainHeadTable) -> Iterator[tuple[str, str]]:
    if table.trials is not None and table.search is None and table.cv is None:
        yield "trials: needs a search; add search or cv", "trials"


def _extract_problems(table: ExtractTable) -> Iterator[tuple[str, str]]:
    if table.weights and any("+" in name for name in several(table.backbone)):
        yield "weights: not supported for backbones joined by +", "weights"
    if set(several(table.layer)) == {"all"}:
        yield "layer: all chooses among the other layers; list them as well", "all"


def _finetune_problems(table: FinetuneTable) -> Iterator[tuple[str, str]]:
    if table.search is not None:
        yield from _search_problems(table)
    elif table.values or table.trials or table.search_epochs:
        belongs = 'values, trials and search-epochs need a search; add e.g. search = "grid"'
        yield belongs, "values" if table.values else "trials" if table.trials else "search-epochs"


def _search_problems(table: FinetuneTable) -> Iterator[tuple[str, str]]:
    if not table.values:
        yield "search: there are no values to try; add values = { lr = [0.05, 0.1] }", "search"
    elif (table.search == "list") != isinstance(table.values, tuple):
        expected = "[{ lr = 0.1 }, ...]" if table.search == "list" else "{ lr = [0.05, 0.1] }"
        yield f"values: search {table.search!r} expects {expected}", "values"
    elif table.trials is not None and table.search != "random":
        yield 'trials: valid only with search = "random"', "trials"
