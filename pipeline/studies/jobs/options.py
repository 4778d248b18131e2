"""Validation of the heads and recipes of a study file."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import GenericAlias
from typing import Any

from frostline.classifiers.errors import ClassifiersError
from frostline.classifiers.fitting.projection import ProjectionPlan
from frostline.classifiers.fitting.search import SearchPlan, drawn
from frostline.classifiers.heads.catalog import find_head
from frostline.pipeline.errors import RecipeError
from frostline.pipeline.options.recipe import Recipe
from frostline.pipeline.studies.jobs.keys import build, read_keys
from frostline.pipeline.studies.jobs.study_file import FinetuneTable, TrainHeadTable


@dataclass(frozen=True)
class Heads:
    """A validated ``[[train-head]]`` table.

    Attributes:
        table: The table.
        params: Fixed parameters, converted to their types, by kind of head.
    """

    table: TrainHeadTable
    params: Mapping[str, Mapping[str, Any]]

    @property
    def search(self) -> Mapping[str, Any] | None:
        """Arguments of a `SearchPlan`; None for the head's own method."""
        if self.table.search is None and self.table.cv is None:
            return None
        return {"method": self.table.search or "grid", "trials": self.table.trials}


def read_heads(table: TrainHeadTable) -> Heads:
    """Validate a ``[[train-head]]`` table.

    Raises:
        StudyError: A head, parameter or projection is invalid; the message gives the line.
    """
    given, params = table.param or {}, {}
    for head in table.head:
        try:
            params[head] = find_head(head).check(given)
            SearchPlan(table.search or "grid", table.trials)
            if table.project is not None:
                ProjectionPlan.parse(table.project)
        except ClassifiersError as error:
            words = [word for word in (*given, head, table.project) if word and word in str(error)]
            raise table.place.error(str(error), *words) from error
    return Heads(table, params)


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


def read_recipes(table: FinetuneTable, seed: int) -> Recipes:
    """Validate the recipes of a ``[[finetune]]`` table.

    Args:
        table: The table.
        seed: Random seed with which candidates are drawn.

    Raises:
        StudyError: A setting is unknown or a value is invalid; the message gives the line.
    """
    recipe = build(Recipe, _settings(table.recipe or {}, table, "recipe"), table.place)
    short = dataclasses.replace(recipe, epochs=table.search_epochs or max(1, recipe.epochs // 4))
    candidates = tuple(_candidates(table, seed))
    for changes in candidates:
        try:
            dataclasses.replace(recipe, **changes)
        except RecipeError as error:
            words = [name.replace("_", "-") for name in changes if name in str(error)]
            raise table.place.error(str(error), *words) from error
    return Recipes(recipe, short, candidates)


def _settings(given: Any, table: FinetuneTable, title: str) -> dict[str, Any]:
    """Return the settings of a recipe by name."""
    return read_keys(Recipe.declared(), given, table.place, title)


def _candidates(table: FinetuneTable, seed: int) -> Iterator[Mapping[str, Any]]:
    """Yield the settings of each candidate, under the names of `Recipe`."""
    if not isinstance(table.values, Mapping):
        yield from (_settings(each, table, "values") for each in table.values or ())
        return
    space = _space(table)
    if table.search == "random":
        yield from drawn(space, table.trials or 10, seed, rows=1)
        return
    for combination in itertools.product(*space.values()):
        yield dict(zip(space, combination, strict=True))


def _space(table: FinetuneTable) -> dict[str, tuple[Any, ...]]:
    """Return the values to try for each setting."""
    lists = [
        dataclasses.replace(each, annotation=GenericAlias(tuple, (each.annotation, ...)))
        for each in Recipe.declared()
    ]
    return read_keys(lists, table.values, table.place, "values")
