"""Validation of the heads and recipes of a study file."""

import dataclasses
import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import GenericAlias
from typing import Any

from frostline.classifiers.errors import ClassifiersError
from frostline.classifiers.fitting.projection import ProjectionPlan
from frostline.classifiers.fitting.search import drawn
from frostline.classifiers.heads.catalog import parse_params
from frostline.pipeline.errors import RecipeError
from frostline.pipeline.options.learning.heads import TrainHeadOptions
from frostline.pipeline.options.learning.recipe import Recipe
from frostline.pipeline.studies.jobs.keys import build, read_keys
from frostline.pipeline.studies.jobs.study_file import FinetuneTable, TrainHeadTable


def read_heads(table: TrainHeadTable, trusted: Collection[str] = ()) -> tuple[TrainHeadOptions, ...]:
    """Validate a ``[[train-head]]`` table and return the options of each head.

    Args:
        table: The table.
        trusted: Modules that heads may import. The file can't name them, because it may come from someone else.

    Raises:
        StudyError: A head, parameter or projection is invalid; the message gives the line.
    """
    options, heads = table.options, []
    for head in table.head:
        try:
            params = parse_params(head, options.params or {}, trusted)
            if options.project is not None:
                ProjectionPlan.parse(options.project)
        except ClassifiersError as error:
            words = [
                word
                for word in (*(options.params or ()), head, options.project)
                if word and word in str(error)
            ]
            raise table.place.error(str(error), *words) from error
        heads.append(dataclasses.replace(options, head=head, params=params, trusted=tuple(trusted)))
    return tuple(heads)


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
