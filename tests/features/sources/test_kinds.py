"""A kind of image source is a module of its own and one line in the table."""

import subprocess
import sys

from frostline.features.sources import SourceKind
from frostline.features.sources.opening import SOURCES


def test_each_built_in_kind_lies_in_a_module_of_its_own():
    modules = [entry.location.partition(":")[0] for entry in SOURCES.entries.values()]
    assert len({*modules, "frostline.features.sources.opening"}) == len(modules) + 1
    assert all(isinstance(SOURCES[name], SourceKind) for name in SOURCES.builtin)


def test_kinds_are_not_imported_before_a_source_is_opened():
    code = (
        "import sys, frostline.features.sources.opening as opening;"
        "print([e.location for e in opening.SOURCES.entries.values() if e.location.partition(':')[0] in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
