"""Validation of the heads and recipes of a study file."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from frostline.classifiers.errors import ClassifiersError
from frostline.classifiers.fitting.projection import ProjectionPlan
from frostline.classifiers.fitting.search import SearchPlan, drawn
from frostline.classifiers.heads.catalog import find_head
from frostline.pipeline.errors import RecipeError
from frostline.pipeline.options.recipe import Recipe
from frostline.pipeline.studies.jobs.study_file import FinetuneTable, Study, TrainHeadTable, several
from frostline.registry import near


@dataclass(frozen=True)
class Heads:
    """A validated ``[[train-head]]`` table.

    Attributes:
        table: The table.
        index: Index of the table among those of its name.
        params: Fixed parameters, converted to their types, by kind of head.
    """

    table: TrainHeadTable
    index: int
    params: Mapping[str, Mapping[str, Any]]

    @property
    def search(self) -> Mapping[str, Any] | None:
        """Arguments of a `SearchPlan`; None for the head's own method."""
        if self.table.search is None and self.table.cv is None:
            return None
        return {"method": self.table.search or "grid", "trials": self.table.trials}


def read_heads(table: TrainHeadTable, index: int, study: Study) -> Heads:
    """Validate a ``[[train-head]]`` table.

    Raises:
        StudyError: A head, parameter or projection is invalid; the message gives the line.
    """
    params = {}
    for head in several(table.head):
        try:
            params[head] = find_head(head).check(table.param)
            SearchPlan(table.search or "grid", table.trials)
            if table.project is not None:
                ProjectionPlan.parse(table.project)
        except ClassifiersError as error:
            words = [word for word in (*table.param, head, table.project) if word and word in str(error)]
            raise study.places.error(str(error), "train-head", index, *words) from error
    return Heads(table, index, params)


@dataclass(frozen=True)
class Recipes:
    """Recipes of a ``[[finetune]]`` table.

    Attributes:
        fixed: Recipe with the fixed settings.
        short: The same recipe with the epochs of a candidate.
        candidates: Settings in which each candidate differs from the recipe.
    """

    fixed: Recipe
    short: Recipe
    candidates: tuple[Mapping[str, Any], ...]


def read_recipes(table: FinetuneTable, index: int, study: Study) -> Recipes:
    """Validate the recipes of a ``[[finetune]]`` table.

    Raises:
        StudyError: An option is unknown or a value is invalid; the message gives the line.
    """
    try:
        fixed = _options(table.recipe)
        recipe = _recipe(fixed)
        short = dataclasses.replace(recipe, epochs=table.search_epochs or max(1, recipe.epochs // 4))
        candidates = tuple(_candidates(table, study.batch.seeds[0]))
        for changes in candidates:
            _recipe({**fixed, **changes})  # raises if invalid
    except (RecipeError, msgspec.ValidationError) as error:
        words = [name for name in (*table.recipe, *_values(table)) if name.replace("-", "_") in str(error)]
        raise study.places.error(str(error), "finetune", index, *words) from error
    return Recipes(recipe, short, candidates)


def _values(table: FinetuneTable) -> Iterator[str]:
    yield from itertools.chain.from_iterable(
        [table.values] if isinstance(table.values, Mapping) else table.values
    )


def _candidates(table: FinetuneTable, seed: int) -> Iterator[Mapping[str, Any]]:
    """Yield the settings of each candidate, under the names of `Recipe`."""
    if not isinstance(table.values, Mapping):
        yield from (_convert_values(_options(each)) for each in table.values)
        return
    options = _options(table.values)
    space = {
        name: tuple(_convert_values({name: value})[name] for value in values)
        for name, values in options.items()
    }
    if table.search == "random":
        yield from drawn(space, table.trials or 10, seed, rows=1)
        return
    for combination in itertools.product(*space.values()):
        yield dict(zip(space, combination, strict=True))


def _options(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a table as attributes of `Recipe`.

    Raises:
        RecipeError: An option is unknown.
    """
    options = {}
    names = [each.flag for each in Recipe.declared() if each.name != "seed"]
    for key, value in table.items():
        if key not in names:
            seeds = "; set seeds in [batch]" if key == "seed" else ""
            raise RecipeError(
                f"no option {key!r}{near(key, names)}{seeds}; expected one of {', '.join(names)}"
            )
        options[key.replace("-", "_")] = value
    return options


def _recipe(options: Mapping[str, Any]) -> Recipe:
    return msgspec.convert(dict(options), Recipe)


def _convert_values(options: Mapping[str, Any]) -> dict[str, Any]:
    """Convert values to the types of `Recipe`; ranges and conflicts are checked on the whole recipe."""
    annotations = {field.name: field.type for field in dataclasses.fields(Recipe)}
    try:
        return {name: msgspec.convert(value, annotations[name]) for name, value in options.items()}
    except msgspec.ValidationError as error:
        (name, *_) = options
        raise RecipeError(f"{name}: {str(error).lower()}") from error
