"""The lowest versions that the metadata allows, as constraints for pip: ``python tests/lowest.py > constraints.txt``."""

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lowest_versions(extra="dev"):
    """Versions by name, of the base dependencies and of an extra with those that it takes in, for this Python."""
    project = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]
    found = {}
    waiting = [*project["dependencies"], *project["optional-dependencies"][extra]]
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        if name == canonicalize_name(project["name"]):
            for part in requirement.extras:
                waiting += project["optional-dependencies"][part]
            continue
        (bound,) = requirement.specifier  # one bound each: where it begins is all that is tested
        if bound.operator not in {">=", "=="}:
            raise ValueError(f"{requirement}: expected a lower bound, >=, or one version, ==")
        found[name] = bound.version
    return dict(sorted(found.items()))


if __name__ == "__main__":
    sys.stdout.writelines(f"{name}=={version}\n" for name, version in lowest_versions().items())
