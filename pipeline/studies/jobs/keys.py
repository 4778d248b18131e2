"""Keys of tables: each is the flag of a declared option, from which its type and its bounds follow."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from frostline.errors import OptionError
from frostline.options import Option, Options
from frostline.pipeline.options.sources import SourceOptions
from frostline.pipeline.studies.jobs.places import Place
from frostline.registry import near

O = TypeVar("O", bound=Options)  # noqa: E741

_OUTPUTS = "a study names its outputs; set their folder with out in [batch]"
_SHARES = "the jobs of a study share the cores and the memory of the machine, see: frostline batch --jobs"
_AGAIN = "a study replaces no output; delete the one to compute again"
_ELSEWHERE: Mapping[str, str] = {
    "device": "set it in [batch]",
    "fractions": "set them in [batch]",
    "layer": "list the layers in [[extract]]",
    **{each.flag: "set it in [batch]" for each in SourceOptions.declared()},
    "split-folders": "set them in [batch]",
    "seed": "set seeds in [batch]",
    "cache": _OUTPUTS,
    "caches": _OUTPUTS,
    "run": _OUTPUTS,
    "part": "a study divides a cache among the workers of a cluster, see: frostline batch --cluster",
    "trust-module": "a study file trusts no module; pass --trust-module to frostline batch",
    "jobs": _SHARES,
    "memory": _SHARES,
    "workers": _SHARES,
    "overwrite": _AGAIN,
    "rehash": _AGAIN,
    "restart": _AGAIN,
}
"""Options of commands that are not keys of their tables, because the study sets them."""


def read_keys(
    declared: Iterable[Option], table: Any, place: Place, title: str, *, own: Iterable[Option] = ()
) -> dict[str, Any]:
    """Return the checked values of a table by name of the option.

    Args:
        declared: Options of a command; those that the study sets are refused.
        table: The table.
        place: Place of the table, for messages.
        title: Name of the table, for messages.
        own: Options of the table itself, which precede those of the command.

    Raises:
        StudyError: A key is unknown or set elsewhere, or a value is not valid; the message gives the line.
    """
    if not isinstance(table, Mapping):
        raise place.error(f"{title}: got {table!r}, expected a table", title)
    keys = {each.flag: each for each in own}
    keys |= {each.flag: each for each in declared if each.flag not in keys}
    elsewhere = _ELSEWHERE.keys() & keys.keys() - {each.flag for each in own}
    values = {}
    for key, value in table.items():
        if key in elsewhere:
            raise place.error(f"{title} has no key {key!r}: {_ELSEWHERE[key]}", key)
        if key not in keys:
            known = [each for each in keys if each not in elsewhere]
            raise place.error(
                f"{title} has no key {key!r}{near(key, known)}; expected one of {', '.join(known)}", key
            )
        values[keys[key].name] = check_value(keys[key], value, place)
    return values


def check_value(each: Option, value: Any, place: Place) -> Any:
    """Return a value in the type of its option; a single value stands for a list of one.

    Raises:
        StudyError: The value is not valid; the message gives the line.
    """
    single = each.kind.length == 0 and each.kind.item is not dict and not isinstance(value, list)
    try:
        return each.check([value] if single else value)
    except OptionError as error:
        problem = str(error).removeprefix(each.name).removesuffix(", or None")
        raise place.error(f"{each.flag}{problem}", each.flag) from None


def build(options: type[O], values: Mapping[str, Any], place: Place) -> O:
    """Return options with the given values.

    Raises:
        StudyError: Two values exclude each other; the message gives the line.
    """
    try:
        return options(**values)
    except OptionError as error:
        words = [each.flag for each in options.declared() if each.name in values and each.name in str(error)]
        raise place.error(str(error), *words) from None
