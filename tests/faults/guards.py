"""Guards, how to remove each by a change of the source, and the tests that must fail then."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Guard:
    """A guard of the product.

    Attributes:
        name: What it guards against.
        file: Source file.
        old: Text in it, which occurs once.
        new: Text without the guard.
        tests: Files or folders of tests of which one at least must fail without it.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def __str__(self):
        return self.name


_SPEC = "features/spec.py"
_CANONICAL = "dataclasses.asdict(self), sort_keys=True"
_FIELDS = (
    *(
        "backbone",
        "weights_sha256",
        "transform",
        "layers",
        "precision",
        "dtype",
        "engine",
        "device",
        "decoder",
    ),
    *("versions", "views", "seed"),
)


def _without(field):
    return f'{{**dataclasses.asdict(self), "{field}": ""}}, sort_keys=True'


GUARDS = (
    Guard(
        "drift of frozen batch norms: all",
        "pipeline/tuning/trainer/network.py",
        "                if isinstance(module, _BatchNorm):\n                    module.eval()",
        "                pass",
        ("tests/pipeline/tuning",),
    ),
    Guard(
        "drift of frozen batch norms: frozen stages",
        "pipeline/tuning/trainer/network.py",
        "                self.trunk.get_submodule(name).eval()",
        "                pass",
        ("tests/pipeline/tuning",),
    ),
    Guard(
        "a network left in training mode",
        "features/backbones/backbone.py",
        "network.module.eval().requires_grad_(False)",
        "network.module.train().requires_grad_(False)",
        ("tests/features/backbones/test_backbones.py", "tests/features/backbones/providers"),
    ),
    Guard(
        "the mode of a tuned network while it is scored",
        "pipeline/tuning/trainer/loop.py",
        "        self.network.eval()",
        "        pass",
        ("tests/pipeline/tuning",),
    ),
    Guard(
        "weights of another architecture",
        "features/backbones/weights/loading.py",
        "return not self.differences.count",
        "return True",
        ("tests/features/backbones/weights",),
    ),
    Guard(
        "a transform other than that of the weights",
        "features/images/exact.py",
        "RESAMPLING[transform.interpolation]",
        'RESAMPLING["nearest"]',
        ("tests/features/images/test_decoding.py",),
    ),
    Guard(
        "views resized otherwise than the transform says",
        "features/images/decoding.py",
        "RESAMPLING[transform.interpolation]",
        'RESAMPLING["nearest"]',
        ("tests/features/images/test_decoding.py",),
    ),
    Guard(
        "rows in another order than their images",
        "features/cache/writing/writer.py",
        "        ascending = rows[order]",
        "        ascending = np.roll(rows[order], 1) if len(rows) == self.rows else rows",
        ("tests/features/cache",),
    ),
    *(
        Guard(f"a stale key: {field}", _SPEC, _CANONICAL, _without(field), ("tests/faults/test_guards.py",))
        for field in _FIELDS
    ),
    Guard(
        "a projection fitted on test rows",
        "classifiers/fitting/projection.py",
        "taken = np.asarray(X[rows], np.float32)",
        "taken = np.asarray(X[np.arange(len(X))], np.float32)",
        ("tests/classifiers/fitting/test_projection.py",),
    ),
    Guard(
        "a head fitted on rows that are not of train",
        "classifiers/fitting/fit.py",
        "    train, val, n_classes = given.train, given.val, len(given.classes)",
        "    train, val, n_classes = np.flatnonzero(given.y >= 0), given.val, len(given.classes)",
        ("tests/classifiers/fitting/test_fit.py",),
    ),
    Guard(
        "copies and groups on both sides of a split",
        "pipeline/inputs/leaks.py",
        "    if leaks:",
        "    if False:",
        ("tests/faults/test_guards.py",),
    ),
    Guard(
        "test images that a run was trained on",
        "pipeline/judging/evaluate.py",
        "    _check_test(opened, data, test)\n",
        "",
        ("tests/pipeline/judging/test_evaluate_data.py",),
    ),
    Guard(
        "views of one image on both sides of a fold",
        "pipeline/inputs/learning_rows.py",
        "fold = assign_folds(self.images.content[rows], self.images.groups[rows], cv)",
        "fold = np.arange(len(rows)) % cv",
        ("tests/faults/test_guards.py",),
    ),
    Guard(
        "damaged features",
        "features/cache/file/mapped.py",
        "stored[block] == checksum(*parts)",
        "stored[block] is not checksum(*parts)",
        (
            "tests/features/cache/test_trust.py",
            "tests/features/cache/test_resume.py",
            "tests/features/cache/test_values.py",
        ),
    ),
    Guard(
        "a damaged table of images",
        "features/cache/file/mapped.py",
        "        if not self.table_is_intact():",
        "        if False:",
        ("tests/features/cache/test_trust.py",),
    ),
    Guard(
        "two writers of one file",
        "frostline/system/locks.py",
        "    if not locked:",
        "    if False:",
        ("tests/system", "tests/features/cache"),
    ),
    Guard(
        "writing through a link",
        "frostline/system/files.py",
        "    _check_unlinked(path)\n    check_regular(path, missing_ok=True)\n    return os.open(path, os.O_RDWR | os.O_CREAT | _WRITING, 0o666)",
        "    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)",
        ("tests/system",),
    ),
    Guard(
        "a wait for a pipe",
        "frostline/system/files.py",
        "    if not stat.S_ISREG(mode):",
        "    if False:",
        ("tests/system",),
    ),
    Guard(
        "images of more pixels than memory holds",
        "features/images/decoding.py",
        "    if image.width * image.height > MAX_PIXELS:",
        "    if False:",
        ("tests/features/images/test_decoding.py",),
    ),
    Guard(
        "records nested too deep",
        "frostline/files/documents.py",
        "    if _is_deep(document):",
        "    if False:",
        ("tests/pipeline/runs", "tests/files"),
    ),
    Guard(
        "changed files of a run",
        "frostline/files/checksums.py",
        "    if sums[name] != digest:",
        "    if False:",
        ("tests/files", "tests/pipeline/runs"),
    ),
    Guard(
        "torn files under a final name",
        "frostline/system/atomic.py",
        '        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")',
        "        partial = path",
        ("tests/system/test_atomic.py",),
    ),
    Guard(
        "checksums before the data is on the disk",
        "features/cache/writing/commit.py",
        "            sync_data(self._fd)\n",
        "",
        ("tests/faults/test_guards.py",),
    ),
)
