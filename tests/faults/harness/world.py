"""A small task in a folder: images, the states that commands start from, and a server that runs them there."""

import os
import shutil
import tarfile
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from PIL import Image

from tests.faults.harness.interposition import WATCHED, Fault
from tests.faults.harness.trials import Server
from tests.features.sources.remote.servers import WebFiles

NETWORK = ("--backbone", "timm:test_resnet", "--weights", "random", "--image-size", "32")
EXACT = ("--engine", "eager", "--precision", "fp32", "--device", "cpu", "--workers", "1", "--batch-size", "8")
EXTRACT = (*NETWORK, *EXACT, "--quiet")
TUNE = (
    *NETWORK,
    *("--epochs", "2", "--batch-size", "16", "--precision", "fp32", "--device", "cpu", "--workers", "0"),
    *("--augment", "flip", "--run", "tuned", "--quiet"),
)
STUDY = """
[batch]
data = "../data"
out = "study"
evaluate = true
[[extract]]
backbone = "timm:test_resnet"
weights = "random"
image-size = 32
[[train-head]]
head = ["centroid", "ridge"]
"""


class World:
    """Folders of one task.

    Attributes:
        base: Folder of everything.
        root: Folder that commands run in, and that is watched.
        server: Server of the commands.
    """

    def __init__(self):
        memory = Path("/dev/shm")  # noqa: S108  # the folder made in it has a name of its own
        self.base = Path(tempfile.mkdtemp(prefix="frostline-world-", dir=memory if memory.is_dir() else None))
        self.root = self.base / "task"
        self.root.mkdir()
        write_images(self.base / "data", each=16)
        write_images(self.base / "more", each=18)
        self.server = Server(self.root)
        self._kept, self._opened = {}, ExitStack()

    def run(self, *arguments, fault=WATCHED, code=0):
        """Run a command that must end with a code."""
        outcome = self.server.run(*arguments, fault=fault)
        if outcome.code != code:
            raise AssertionError(str(outcome))
        return outcome

    def start(self, stage):
        """Put the folder into the state of a stage."""
        if stage not in self._kept:
            before, steps = STAGES[stage]
            if before:
                self.start(before)
            else:
                empty(self.root)
            for step in steps:
                if callable(step):
                    step(self)
                else:
                    self.run(*step)
            kept = self.base / f"stage-{stage}"
            copy(self.root, kept)
            self._kept[stage] = kept
        else:
            copy(self._kept[stage], self.root)

    def serve(self, files):
        """Start a web server with these files, which ends with the world; returns its URL."""
        return self._opened.enter_context(WebFiles(files).serving()).url

    def close(self):
        self._opened.close()
        self.server.close()
        shutil.rmtree(self.base)


def write_images(folder, *, each, classes=3):
    """Small noisy images, each class of a colour, the same in every call."""
    for label in range(classes):
        for number in range(each):
            draw = np.random.default_rng(1000 * label + number)
            pixels = draw.integers(0, 200, (8, 8, 3)).astype(np.uint8)
            pixels[..., label] += 40
            path = folder / f"class{label}" / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
            os.utime(path, (1_500_000_000, 1_500_000_000))


def empty(folder):
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def copy(source, target):
    """Make a folder hold what another holds."""
    target.mkdir(exist_ok=True)
    empty(target)
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)


def _interrupt(*arguments, share):
    """A step that kills a command after a share of its events."""

    def step(world):
        kept = world.base / "aside"
        copy(world.root, kept)
        count = len(world.run(*arguments).events)
        copy(kept, world.root)
        outcome = world.server.run(*arguments, fault=Fault("before", int(count * share)))
        if not outcome.killed:
            raise AssertionError(str(outcome))

    return step


def _change_images(world):
    write_images(world.root / "images", each=17)
    (world.root / "images" / "class0" / "03.png").unlink()
    shutil.copy(world.root / "images" / "class1" / "16.png", world.root / "images" / "class1" / "02.png")


def _mislabel_images(world):
    write_images(world.root / "images", each=16)
    for number in range(4):
        shutil.copy(
            world.root / "images" / "class1" / f"{number:02}.png",
            world.root / "images" / "class0" / f"9{number}.png",
        )


def _write_vectors(world):
    """Vectors of the rows of a table, and of an array with a file of names and one of labels."""
    draw = np.random.default_rng(0)
    rows, labels = draw.normal(size=(48, 6)).astype(np.float32), np.arange(48) % 3
    rows[np.arange(48), labels] += 3
    np.save(world.root / "v.npy", rows)
    np.save(world.root / "y.npy", labels)
    lines = [
        ",".join(map(str, [f"r{(7 * number) % 48:02}", labels[number], *row]))
        for number, row in enumerate(rows)
    ]
    header = ",".join(["id", "label", *(f"f{column}" for column in range(6))])
    (world.root / "v.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")


def _write_manifest(world, labelled=16):
    """A manifest of images of the folder, with a number and a word for each; of each class the first are labelled."""
    write_images(world.root / "images", each=16)
    lines = ["path,label,age,camera"]
    for label in range(3):
        for number in range(16):
            name = f"class{label}" if number < labelled else ""
            lines.append(
                f"images/class{label}/{number:02}.png,{name},{number * (label + 1)}.5,{'ab'[number % 2]}"
            )
    (world.root / "m.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _label_few(world):
    _write_manifest(world, labelled=8)


def _pixels_and_labels(world):
    paths = sorted((world.base / "data").glob("*/*.png"))
    return (
        paths,
        np.stack([np.asarray(Image.open(path)) for path in paths]),
        [path.parent.name for path in paths],
    )


def _write_archive(world):
    with tarfile.open(world.root / "s.tar", "w") as archive:
        for path in sorted((world.base / "data").glob("*/*.png")):
            archive.add(path, path.relative_to(world.base / "data"))


def _write_arrays(world):
    _, pixels, labels = _pixels_and_labels(world)
    np.savez(world.root / "s.npz", images=pixels, labels=np.array(labels))


def _write_table(world):
    import pyarrow
    from pyarrow import parquet

    paths, _, labels = _pixels_and_labels(world)
    cells = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
    parquet.write_table(
        pyarrow.table({"image": cells, "label": labels}), world.root / "s.parquet", row_group_size=16
    )


def _serve_images(world):
    """A manifest with the URLs of images on a server of this process."""
    paths, _, labels = (each[::4] for each in _pixels_and_labels(world))
    url = world.serve({f"{number}.png": path.read_bytes() for number, path in enumerate(paths)})
    lines = ["path,label", *(f"{url}/{number}.png,{label}" for number, label in enumerate(labels))]
    (world.root / "w.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


IMPORT = ("cache", "import", "v.npy", "--labels", "y.npy", "--name", "toy", "--out", "i.h5", "--quiet")
EXTRACTION = ("extract", "../data", "--cache", "d.h5", *EXTRACT)
EXPORT = ("cache", "export", "d.h5", "--out", "exported", "--quiet")
_EXTRACT_MANIFEST = ("extract", "m.csv", "--cache", "d.h5", *EXTRACT)

STAGES = {
    "empty": (None, ()),
    "cache": (None, (EXTRACTION,)),
    "manifest": (None, (_write_manifest,)),
    "side columns": ("manifest", (_EXTRACT_MANIFEST,)),
    "column run": (
        "side columns",
        (("train-head", "d.h5", "--with-columns", "age,camera", "--run", "run", "--quiet"),),
    ),
    "partly labelled": (
        None,
        (_label_few, _EXTRACT_MANIFEST, ("train-head", "d.h5", "--run", "run", "--quiet")),
    ),
    "archive": (None, (_write_archive,)),
    "arrays": (None, (_write_arrays,)),
    "table": (None, (_write_table,)),
    "web": (None, (_serve_images,)),
    "exported": ("cache", ((*EXPORT, "--to", "npz"),)),
    "exported to a folder": ("cache", ((*EXPORT, "--to", "faiss"),)),
    "interrupted": (None, (_interrupt(*EXTRACTION, share=0.7),)),
    "own images": (None, (lambda world: write_images(world.root / "images", each=16),)),
    "changed": (
        "own images",
        (("extract", "images", "--cache", "d.h5", *EXTRACT), _change_images),
    ),
    "mislabelled": (None, (_mislabel_images, ("extract", "images", "--cache", "d.h5", *EXTRACT))),
    "parts": (None, tuple((*EXTRACTION, "--part", f"{number}/2") for number in (1, 2))),
    "run": ("cache", (("train-head", "d.h5", "--run", "run", "--quiet"),)),
    "evaluated": ("run", (("evaluate", "run", "--quiet"),)),
    "two runs": (
        "evaluated",
        (
            ("train-head", "d.h5", "--head", "centroid", "--run", "other", "--quiet"),
            ("evaluate", "other", "--quiet"),
        ),
    ),
    "tuned": (None, (("finetune", "../data", *TUNE),)),
    "study": (None, (lambda world: (world.root / "study.toml").write_text(STUDY, encoding="utf-8"),)),
    "vectors": (None, (_write_vectors,)),
    "imported": (
        "vectors",
        (IMPORT, ("train-head", "i.h5", "--head", "centroid", "--run", "run", "--quiet")),
    ),
    "interrupted import": ("vectors", (_interrupt(*IMPORT, share=0.7),)),
    "studied": ("study", (("batch", "study.toml", "--quiet"),)),
}
"""Stages by name: the stage before, and what is done then, commands or functions of the world."""
