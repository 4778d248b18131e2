"""Modules whose code may be imported and run because of a name: of a head, or of a type in the file of a head."""

from collections.abc import Collection

from frostline.shell import shell_command

ALWAYS = ("sklearn",)
"""Modules that need no trust of the user: Frostline imports them itself."""


def is_trusted(name: str, trusted: Collection[str]) -> bool:
    """Return whether a class or function is one that is trusted, or is of a module or package that is.

    Args:
        name: Full name, such as ``mypackage.heads.MyHead``.
        trusted: Names of modules, packages, classes and functions.
    """
    return any(name == each or name.startswith(f"{each}.") for each in trusted if each)


def trust_option(*modules: str) -> str:
    """Return the options of the command line that trust modules."""
    return " ".join(shell_command("--trust-module", module) for module in modules)
