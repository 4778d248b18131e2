"""The heads and recipes of a study, checked before anything is planned."""

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
from frostline.pipeline.studies.jobs.study_file import FinetuneTable, Study, TrainHeadTable, several
from frostline.pipeline.tuning.recipe import Recipe
from frostline.registry import near


@dataclass(frozen=True)
class Heads:
    """A ``[[train-head]]`` table, checked.

    Attributes:
        params: Fixed parameters in their own types, by kind of head.
    """

    table: TrainHeadTable
    index: int
    params: Mapping[str, Mapping[str, Any]]

    @property
    def search(self) -> Mapping[str, Any] | None:
        """What makes a `SearchPlan`; none where the head chooses in its own way."""
        if self.table.search is None and self.table.cv is None:
            return None
        return {"method": self.table.search or "grid", "trials": self.table.trials}


def read_heads(table: TrainHeadTable, index: int, study: Study) -> Heads:
    """Check a ``[[train-head]]`` table.

    Raises:
        StudyError: No such head, parameter or projection; names the line.
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
    """A ``[[finetune]]`` table's recipes.

    Attributes:
        fixed: What isn't searched for.
        short: The same, for candidates.
        candidates: What each changes.
    """

    fixed: Recipe
    short: Recipe
    candidates: tuple[Mapping[str, Any], ...]


def read_recipes(table: FinetuneTable, index: int, study: Study) -> Recipes:
    """Check the recipes of a ``[[finetune]]`` table.

    Raises:
        StudyError: No such option, or a value that can't be; names the line.
    """
    try:
        fixed = _options(table.recipe)
        recipe = _recipe(fixed)
        short = dataclasses.replace(recipe, epochs=table.search_epochs or max(1, recipe.epochs // 4))
        candidates = tuple(_candidates(table, study.batch.seeds[0]))
        for changes in candidates:
            _recipe({**fixed, **changes})  # whether it can be trained by
    except (RecipeError, msgspec.ValidationError) as error:
        words = [name for name in (*table.recipe, *_values(table)) if name.replace("-", "_") in str(error)]
        raise study.places.error(str(error), "finetune", index, *words) from error
    return Recipes(recipe, short, candidates)


def _values(table: FinetuneTable) -> Iterator[str]:
    yield from itertools.chain.from_iterable(
        [table.values] if isinstance(table.values, Mapping) else table.values
    )


def _candidates(table: FinetuneTable, seed: int) -> Iterator[Mapping[str, Any]]:
    """What the search tries, in the recipe's own words."""
    if not isinstance(table.values, Mapping):
        yield from (_typed(_options(each)) for each in table.values)
        return
    options = _options(table.values)
    space = {name: tuple(_typed({name: value})[name] for value in values) for name, values in options.items()}
    if table.search == "random":
        yield from drawn(space, table.trials or 10, seed, rows=1)
        return
    for combination in itertools.product(*space.values()):
        yield dict(zip(space, combination, strict=True))


def _options(table: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of a recipe as its attributes.

    Raises:
        RecipeError: There is no such option.
    """
    options = {}
    names = [name.replace("_", "-") for name in Recipe.names() if name != "seed"]
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


def _typed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Values in the types that a recipe has; what only holds for a whole recipe is checked on that."""
    annotations = {field.name: field.type for field in dataclasses.fields(Recipe)}
    try:
        return {name: msgspec.convert(value, annotations[name]) for name, value in options.items()}
    except msgspec.ValidationError as error:
        (name, *_) = options
        raise RecipeError(f"{name}: {str(error).lower()}") from error
