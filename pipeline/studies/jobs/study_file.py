"""Study files: the data, backbones, layers, heads, recipes and seeds to combine.

Each table is named after a command, and its keys after the options of that command. Lists are combined.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from frostline.options import SEEDS, Options, option
from frostline.pipeline.errors import StudyError
from frostline.pipeline.options.extraction import ExtractOptions
from frostline.pipeline.options.learning.heads import TrainHeadOptions
from frostline.pipeline.options.learning.splits import SplitOptions
from frostline.pipeline.options.learning.tuning import FinetuneOptions
from frostline.pipeline.options.sources import SourceOptions
from frostline.pipeline.studies.jobs.keys import build, read_keys
from frostline.pipeline.studies.jobs.places import Lines, Place
from frostline.registry import near
from frostline.system.files import read_regular


@dataclass(frozen=True, kw_only=True)
class Table(Options):
    """Base class of tables. Their keys are the flags of options: their own, and those of a command.

    Attributes:
        place: Place of the table in the file.
        options: Options of the command, as the table sets them.
    """

    required: ClassVar[str]
    command: ClassVar[type[Options]] = Options
    place: Place = field(repr=False, compare=False)
    options: Options

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield each problem of keys that exclude or require each other, and the word whose line is named."""
        yield from ()


T = TypeVar("T", bound=Table)


@dataclass(frozen=True, kw_only=True)
class BatchTable(Table, SplitOptions, SourceOptions):
    """``[batch]``: settings of all jobs."""

    required = "data"
    data: tuple[str, ...] = option((), "Image folders or manifests.")
    out: str = option("", "Output folder.", unset="named after the file")
    seeds: tuple[int, ...] = option(
        (0,),
        "Random seeds; each head and each network is trained once per seed.",
        low=SEEDS[0],
        high=SEEDS[1],
    )
    device: Literal["auto", "cpu", "cuda"] = option("auto", "Device of networks and heads.")
    evaluate: bool = option(False, "Evaluate each run on the test split.")

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield a problem if there is no seed or no data."""
        if not self.seeds:
            yield "seeds: expected one or more, e.g. seeds = [0]", "seeds"
        if not self.data:
            yield 'data: expected one or more image folders or manifests, e.g. data = ["photos"]', "data"


@dataclass(frozen=True, kw_only=True)
class NetworkTable(Table):
    """Base class of tables that name networks."""

    required = "backbone"
    backbone: tuple[str, ...] = option(
        (), "Names of the backbones; in [[extract]], a+b joins the features of two."
    )
    image_size: tuple[int, ...] | None = option(
        None,
        "Sides of the square input in pixels.",
        low=1,
        unset="the size of the pretrained weights",
    )

    @property
    def sizes(self) -> tuple[int | None, ...]:
        """Sides of the square input in pixels; None for the size of the pretrained weights."""
        return (None,) if self.image_size is None else self.image_size


@dataclass(frozen=True, kw_only=True)
class ExtractTable(NetworkTable):
    """``[[extract]]``: caches to compute for every head."""

    command = ExtractOptions
    options: ExtractOptions
    layer: tuple[str, ...] = option(
        ("embedding",), "Layers that heads read; a+b joins two, all chooses among the others."
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield the problems of weights and layers."""
        if self.options.weights and any("+" in name for name in self.backbone):
            yield "weights: not supported for backbones joined by +", "weights"
        if set(self.layer) == {"all"}:
            yield "layer: all chooses among the other layers; list them as well", "all"


@dataclass(frozen=True, kw_only=True)
class TrainHeadTable(Table):
    """``[[train-head]]``: heads to train on every cache."""

    required = "head"
    command = TrainHeadOptions
    options: TrainHeadOptions
    head: tuple[str, ...] = option((), "Kinds of head.")
    name: str = option("", "Label in the names of the runs.", unset="the kind of head")


@dataclass(frozen=True, kw_only=True)
class FinetuneTable(NetworkTable):
    """``[[finetune]]``: networks to train."""

    command = FinetuneOptions
    options: FinetuneOptions
    recipe: Mapping[str, Any] | None = option(None, "Settings of the training.")
    search: Literal["grid", "random", "list"] | None = option(
        None,
        "Method of the search over values: grid tries all combinations, random draws some of them, and list tries a list"
        " of recipes.",
    )
    trials: int | None = option(None, "Number of random candidates.", low=1, unset="10")
    values: Any = option(
        None,
        "Values to try for each setting of the recipe; random draws numbers from the range that they span. For list, a"
        " list of recipes.",
    )
    search_epochs: int | None = option(
        None, "Epochs of each candidate.", low=1, unset="a quarter of the recipe's"
    )
    name: str = option("", "Label in the names of the runs.", unset="finetune or scratch")

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield the problems of the search."""
        if self.search is not None:
            yield from self._search_problems()
        elif self.values or self.trials or self.search_epochs:
            belongs = 'values, trials and search-epochs need a search; add e.g. search = "grid"'
            yield belongs, "values" if self.values else "trials" if self.trials else "search-epochs"

    def _search_problems(self) -> Iterator[tuple[str, str]]:
        if not self.values:
            yield "search: there are no values to try; add values = { lr = [0.05, 0.1] }", "search"
        elif not isinstance(self.values, list if self.search == "list" else dict):
            expected = "[{ lr = 0.1 }, ...]" if self.search == "list" else "{ lr = [0.05, 0.1] }"
            yield f"values: search {self.search!r} expects {expected}", "values"
        elif self.trials is not None and self.search != "random":
            yield 'trials: valid only with search = "random"', "trials"


@dataclass(frozen=True)
class Study:
    """Contents of a study file.

    Attributes:
        file: Path of the file.
        batch: Settings of all jobs.
        extract: Caches to compute.
        train_head: Heads to train on every cache.
        finetune: Networks to train.
    """

    file: Path
    batch: BatchTable
    extract: tuple[ExtractTable, ...]
    train_head: tuple[TrainHeadTable, ...]
    finetune: tuple[FinetuneTable, ...]

    @property
    def out(self) -> Path:
        """Absolute path of the output folder."""
        return Path(self.batch.out or self.file.stem).absolute()


_MAX_BYTES = 1 << 24
_TABLES = ("batch", "extract", "train-head", "finetune")


def read_study(file: str | Path) -> Study:
    """Read a study file.

    Raises:
        StudyError: The file is not TOML, a key is unknown, or a value is invalid; the message gives the line.
        OSError: The file can't be read.
    """
    file = Path(file)
    try:
        text = read_regular(file, _MAX_BYTES).decode()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise StudyError(
            f"{file}, line {line}: byte 0x{byte:02x} is not UTF-8; expected TOML, which is UTF-8: save the file as such"
        ) from error
    lines = Lines(file, text)
    try:
        document = tomllib.loads(text)
    except ValueError as error:  # the message contains the line
        raise lines.error(f"not TOML: {error}") from error
    except RecursionError as error:
        raise lines.error("not a study: its values are nested too deeply") from error
    for name in document.keys() - set(_TABLES):
        known = ", ".join(_TABLES)
        raise lines.error(f"no table {name!r}{near(name, _TABLES)}; expected one of {known}", name, 0, name)
    if "batch" not in document:
        raise lines.error("no table [batch], which names the data")
    study = Study(
        file,
        _read(BatchTable, document["batch"], Place(lines, "batch")),
        _read_all(ExtractTable, document, Place(lines, "extract")),
        _read_all(TrainHeadTable, document, Place(lines, "train-head")),
        _read_all(FinetuneTable, document, Place(lines, "finetune")),
    )
    _check(study)
    return study


def _read_all(kind: type[T], document: Mapping[str, Any], place: Place) -> tuple[T, ...]:
    """Read all tables of a name."""
    name = place.table
    tables = document.get(name, [])
    if not isinstance(tables, list):
        raise place.error(f"[{name}]: expected a list of tables, [[{name}]]", name)
    return tuple(_read(kind, table, Place(place.lines, name, index)) for index, table in enumerate(tables))


def _read(kind: type[T], document: Any, place: Place) -> T:
    """Read a table."""
    title = f"[{place.table}]"
    own, shared = kind.declared(), kind.command.declared()
    values = read_keys(shared, document, place, title, own=own)
    if kind.required not in document:
        raise place.error(f"{title}: missing key {kind.required!r}")
    names = {each.name for each in own}
    options = build(kind.command, {name: value for name, value in values.items() if name not in names}, place)
    mine = {name: value for name, value in values.items() if name in names}
    return build(kind, {"place": place, "options": options, **mine}, place)


def _check(study: Study) -> None:
    """Raise `StudyError` for keys that exclude or require each other."""
    tables = (study.batch, *study.extract, *study.train_head, *study.finetune)
    if not study.extract and not study.finetune:
        raise study.batch.place.error("nothing to do: add [[extract]] and [[train-head]], or [[finetune]]")
    if study.train_head and not study.extract:
        raise study.train_head[0].place.error("heads need features: add [[extract]]")
    for table in tables:
        for problem, word in table.problems():
            raise table.place.error(problem, word)
