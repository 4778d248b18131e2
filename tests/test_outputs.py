"""Files are written by `frostline.system.atomic` alone."""

import ast
import re

import pytest

from tests.helpers.paths import ROOT

MODULES = sorted(
    path
    for top in ("features", "classifiers", "pipeline", "frostline")
    for path in (ROOT / top).rglob("*.py")
    if not any(folder.is_symlink() for folder in (path, *path.parents))
)

METHODS = {
    *("write_text", "write_bytes", "savefig", "tofile", "to_csv", "save_file", "savetxt", "savez"),
    *(
        "mkstemp",
        "mkdtemp",
        "NamedTemporaryFile",
        "TemporaryDirectory",
        "TemporaryFile",
        "SpooledTemporaryFile",
    ),
    *("copyfile", "copy2", "copytree", "move", "renames", "touch", "chmod", "symlink_to", "hardlink_to"),
    *("SummaryWriter", "fdopen"),
}
"""Functions and methods that create, replace or change files, whatever they are called on."""

OF_MODULES = {
    "os": {"open", "replace", "link", "symlink"},
    "shutil": {"copy"},
    "torch": {"save"},
    "np": {"save"},
}
"""Functions that are told by their module."""

ALLOWED = {
    "frostline/system/atomic.py": {"fdopen", "replace"},
    "frostline/system/files.py": {"os.open", "replace"},
    "frostline/interrupts.py": {"os.open"},  # the null device
    # The caches lay out and resume files of their own; they open, rename and sync them with `system.files`.
    "features/cache/writing/creation.py": {"File"},  # an HDF5 file in memory
    # `to_csv` of a curve, and `savefig` and `savez` into memory, whose bytes are then written as a whole.
    "pipeline/training/train_head.py": {"to_csv"},
    "pipeline/drawing/lettering.py": {"savefig"},
    "pipeline/inputs/scanned_images.py": {"savez"},
    # A member of a zip archive, and HDF5 in a file that `system.atomic` opened.
    "pipeline/exporting/numpy_files.py": {"open"},
    "pipeline/exporting/anndata_file.py": {"File"},
    # TensorBoard's own files, copied into the run when the training is over.
    "pipeline/tuning/trainer/logs.py": {"SummaryWriter"},
    # Copies without a name of vectors that can only be read in order, which end with the process.
    "features/cache/imported/vectors.py": {"TemporaryFile"},
    # Copies of remote archives, which no user sees: links to the byte cache, or files of their own.
    "features/sources/remote/copies.py": {"TemporaryDirectory", "symlink_to"},
    # Space to measure in, which is no output.
    "pipeline/studies/jobs/estimates.py": {"TemporaryDirectory"},
}
"""What else writes, and why that is no output file."""

MODE = re.compile(r"[rwxabt+U]{1,4}")


def writes(tree):
    """Yield the name of each call that writes to the file system, with its line."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        owner = function.value if isinstance(function, ast.Attribute) else None
        module = owner.id if isinstance(owner, ast.Name) else ""
        texts = [each.value for each in [*node.args, *(k.value for k in node.keywords if k.arg == "mode")]
                 if isinstance(each, ast.Constant) and isinstance(each.value, str)]  # fmt: skip
        modes = [text for text in texts if MODE.fullmatch(text) and set(text) & set("wxa+")]
        if name in OF_MODULES.get(module, ()):
            yield f"{module}.{name}", node.lineno
        elif (
            name in METHODS
            or (name in {"open", "File", "fdopen"} and modes)
            or (name == "rename" and owner is not None)
        ):
            yield name, node.lineno
        elif name == "replace" and owner is not None and len(node.args) == 1 and not node.keywords:
            yield name, node.lineno  # of a path; that of a text has two arguments


def found_in(path):
    return [(name, line) for name, line in writes(ast.parse(path.read_text("utf-8")))]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_module_writes_its_files_with_the_functions_of_one_module(path):
    name = path.relative_to(ROOT).as_posix()
    allowed = ALLOWED.get(name, set())
    assert [each for each in found_in(path) if each[0] not in allowed] == []


@pytest.mark.parametrize("name", ALLOWED)
def test_exception_is_still_needed(name):
    assert {call for call, _ in found_in(ROOT / name)} >= ALLOWED[name]


@pytest.mark.parametrize(
    "line",
    [
        "Path(p).write_text('x')", "p.write_bytes(b'')", "open(p, 'w')", "p.open('ab')", "open(p, mode='x')",
        "figure.savefig(p)", "tempfile.mkdtemp()", "os.open(p, flags)", "p.rename(q)", "p.replace(q)",
        "shutil.copytree(p, q)", "h5py.File(p, 'w')", "os.replace(p, q)", "open(p, 'r+b')",
    ],
)  # fmt: skip
def test_writing_call_is_recognised(line):
    assert list(writes(ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    ["open(p)", "p.open('rb')", "'a'.replace('b', 'c')", "FeatureCache.open(path)", "replace_file(p, b'')"],
)
def test_other_call_is_not(line):
    assert not list(writes(ast.parse(line)))
