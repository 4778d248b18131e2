"""A study file, read: which data, backbones, layers, heads, recipes and seeds are to be combined.

Each table is named as the command that does it, and its keys as that command's options; a list multiplies.
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
    """Keys are written as options are."""


class BatchTable(_Table, frozen=True):
    """``[batch]``: what all jobs share.

    Attributes:
        data: Image folders or manifests.
        out: Folder that everything goes into; by default named as the file.
        seeds: Each head and each network is trained once with each.
        device: Where networks and heads are computed.
        fractions: Shares of train, val and test for data that comes without splits.
        limit: Take only so many images of each data set, evenly spaced.
        evaluate: Whether to look at the test split with each run.
    """

    data: Several
    out: str = ""
    seeds: tuple[Seed, ...] = (0,)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    fractions: tuple[Share, Share, Share] = (0.6, 0.2, 0.2)
    limit: Size | None = None
    evaluate: bool = False


class ExtractTable(_Table, frozen=True):
    """``[[extract]]``: caches to make, for every head.

    Attributes:
        backbone: Names; ``a+b`` stands side by side.
        weights: Local weights.
        image_size: Sides of the input in pixels; by default that of the weights.
        layer: What heads read; ``a+b`` is two side by side, ``all`` chooses among the others.
    """

    backbone: Several
    weights: str | None = None
    image_size: Size | tuple[Size, ...] | None = None
    layer: Several = "embedding"


class TrainHeadTable(_Table, frozen=True):
    """``[[train-head]]``: heads to train on every cache.

    Attributes:
        head: Kinds.
        param: Hyper-parameters to fix.
        search: How to choose the others.
        trials: Candidates of the search.
        cv: Folds to judge candidates on.
        project: Project the features first.
        name: What runs are called, instead of by the kind of head.
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
        backbone: Names.
        weights: Local weights.
        image_size: Sides of the input in pixels; by default that of the weights.
        from_scratch: Whether to start untrained.
        cached: Whether to compute what lies below the frost line once; by default where that can be done.
        recipe: Options of the training, see `pipeline.Recipe`.
        search: How to choose among `values`: each combination, some drawn at random, or a list of recipes as it is.
        trials: How many are drawn.
        values: Options and what to try for each; numbers are drawn from the range that they span. For ``list``, recipes.
        search_epochs: Epochs of each candidate; by default a quarter of the recipe's.
        name: What runs are called, instead of ``finetune`` or ``scratch``.
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
    """A study file, read.

    Attributes:
        file: Where it lies.
        batch: What all jobs share.
        extract: Caches to make.
        train_head: Heads to train on each.
        finetune: Networks to train.
        places: Where in the file something stands.
    """

    file: Path
    batch: BatchTable
    extract: tuple[ExtractTable, ...]
    train_head: tuple[TrainHeadTable, ...]
    finetune: tuple[FinetuneTable, ...]
    places: Places

    @property
    def out(self) -> Path:
        """The folder that everything goes into, absolute."""
        return Path(self.batch.out or self.file.stem).absolute()


def several(value: str | int | tuple[Any, ...] | None) -> tuple[Any, ...]:
    """What a key has: its one value, or each of a list."""
    return value if isinstance(value, tuple) else (value,)


def read_study(file: str | Path) -> Study:
    """Read a study file.

    Raises:
        StudyError: It is not TOML, or has a key that there isn't, or a value that can't be; names the line.
        OSError: It can't be read.
    """
    file = Path(file)
    text = file.read_text(encoding="utf-8")
    places = Places(file, text)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:  # which names the line itself
        raise places.error(f"not TOML: {error}") from error
    try:
        found = msgspec.convert(document, _Document)
    except msgspec.ValidationError as error:
        raise _explained(error, places) from error
    study = Study(file, found.batch, found.extract, found.train_head, found.finetune, places)
    _check(study)
    return study


def _explained(error: msgspec.ValidationError, places: Places) -> Exception:
    """What msgspec says, with the line, and with near matches of an unknown key."""
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
    """Refuse keys that exclude or need each other."""
    for table, index, problem, word in _problems(study):
        raise study.places.error(problem, table, index, word)


def _problems(study: Study) -> Iterator[tuple[str, int, str, str]]:
    """Table, its index, what is wrong, and the word where it stands."""
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
