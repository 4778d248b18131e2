"""Options, each declared once as a field of a frozen dataclass: its type, default, valid values and help.

The signatures and docstrings of the stages, the options of the command line, the keys of study files, the recorded
settings of runs and the commands that repeat a run are derived from these declarations.
"""

from frostline.options.declaration import SEEDS, Option, argument, nested, option, seed_option
from frostline.options.documentation import described, documented, list_options, parameters
from frostline.options.group import Options

__all__ = [
    "SEEDS",
    "Option",
    "Options",
    "argument",
    "described",
    "documented",
    "list_options",
    "nested",
    "option",
    "parameters",
    "seed_option",
]
