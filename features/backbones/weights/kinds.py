"""Recognition of files that hold no weights that can be loaded: other formats, archives and failed downloads."""

import stat
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from frostline.features.backbones.weights.errors import some
from frostline.files.documents import MAX_BYTES, parse_json
from frostline.shell import shell_command
from frostline.system.files import open_regular, read_regular

_HEAD = 512  # bytes that tell the kind of a file
_SHOWN = 3
_EXPORT = "save its state_dict() with torch or safetensors where the network was trained"
_UNPACK = "unpack it, and pass the weights file in it"
_CONVERT = "convert the weights to PyTorch first"

# Kinds of files by their first bytes, with what to do.
_MAGIC: Mapping[bytes, tuple[str, str]] = {
    b"version https://git-lfs.github.com": (
        "a pointer of Git LFS, not the file itself",
        "run git lfs pull in its repository, or download the file itself",
    ),
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file, as Keras writes for weights and Frostline for caches", _CONVERT),
    b"\x93NUMPY": ("a NumPy array", _CONVERT),
    b"GGUF": ("a GGUF file", _CONVERT),
    b"\x1f\x8b": ("a gzip archive", _UNPACK),
    b"BZh": ("a bzip2 archive", _UNPACK),
    b"\xfd7zXZ\0": ("an xz archive", _UNPACK),
    b"\x28\xb5\x2f\xfd": ("a zstd archive", _UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", _UNPACK),
    b"Rar!": ("a RAR archive", _UNPACK),
}
_TORCHSCRIPT = (
    "import sys, torch, safetensors.torch as s; "
    "s.save_file({k: t.detach().clone().contiguous() for k, t in "
    "torch.jit.load(sys.argv[1], map_location='cpu').state_dict().items()}, 'weights.safetensors')"
)
_SAVED_MODEL = "saved_model.pb"
_TENSORFLOW = f"a checkpoint of TensorFlow; {_CONVERT}"


def describe_kind(path: str | Path) -> str:
    """Return what a path is and what to do, if it is known to hold no weights that can be loaded; else nothing.

    A file is opened only if it is a regular one: a pipe or a device may never answer. Nothing in it is run.

    Raises:
        OSError: The file is missing or can't be read.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if Path(f"{path}.index").exists():  # the common name of the files of one checkpoint
            return _TENSORFLOW
        raise
    if stat.S_ISDIR(mode):
        return _folder(path)
    if not stat.S_ISREG(mode):
        return f"{_special(mode)}; copy its content to a regular file"
    with open(open_regular(path), "rb") as file:  # noqa: PTH123  # a descriptor
        head = file.read(_HEAD)
    return _by_content(path, head) or _by_name(path)


def _special(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _folder(path: Path) -> str:
    names = sorted(each.name for each in path.iterdir())
    if _SAVED_MODEL in names:
        return f"a SavedModel of TensorFlow; {_CONVERT}"
    files = [name for name in names if Path(name).suffix in {".safetensors", ".bin", ".pth", ".pt", ".ckpt"}]
    return f"a folder; pass {f'a file in it: {some(files, _SHOWN)}' if files else 'a file'}"


def _by_content(path: Path, head: bytes) -> str:
    if not head:
        return "empty; download or copy it again"
    for magic, (kind, remedy) in _MAGIC.items():
        if head.startswith(magic):
            return f"{kind}; {remedy}"
    if head.startswith(b"PK\x03\x04"):
        return _zip(path)
    if head[257:262] == b"ustar":
        return f"a tar archive; {_UNPACK}"
    if head[4:8] == b"TFL3":
        return f"a network of TensorFlow Lite; {_CONVERT}"
    if head[8:9] == b"{":  # safetensors, after the length of its header
        return ""
    return _text(path, head) or _protobuf(head)


def _zip(path: Path) -> str:
    """Return the kind of a zip archive; nothing for a torch file, or one that only torch can call damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return ""
    ends = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in ends and any("/code/" in name for name in names):
        return (
            "a TorchScript program, which holds code; expected its tensors only. If you trust the author of the file, "
            f"convert it once: {shell_command('python', '-c', _TORCHSCRIPT, path)}"
        )
    if "data.pkl" in ends:
        return ""
    if "archive_format" in ends or "serialized_exported_program.json" in ends:
        return f"a program of torch.export; {_EXPORT}"
    if "model.weights.h5" in ends:
        return f"a network of Keras; {_CONVERT}"
    if names and all(name.endswith(".npy") for name in names):
        return f"an archive of NumPy arrays, as JAX and Flax write; {_CONVERT}"
    return f"a zip archive of {len(names)} files ({some(names, _SHOWN)}); {_UNPACK}"


def _text(path: Path, head: bytes) -> str:
    """Return the kind of a text; nothing for binary data."""
    try:
        text = head.decode("utf-8", errors="strict" if len(head) < _HEAD else "ignore").strip()
    except UnicodeDecodeError:
        return ""
    if not text or not all(character.isprintable() or character.isspace() for character in text):
        return ""
    start = text.lower()
    if start.startswith(("<!doctype html", "<html", "<head", "<body")) or "<html" in start:
        return "an HTML page, such as an error or a login; download the file itself"
    if start.startswith("{") and _is_index(path):
        return "the index of weights in several files; merge them into one file first"
    return f"a text, {text.splitlines()[0][:60]!r}; download or copy the file itself"


def _is_index(path: Path) -> bool:
    try:
        found = parse_json(read_regular(path, MAX_BYTES))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and "weight_map" in found


def _protobuf(head: bytes) -> str:
    """Return the kind of a message of Protocol Buffers that begins with a version number: SavedModel or ONNX."""
    if head.startswith(b"\x08\x01\x12"):
        return f"a SavedModel of TensorFlow; {_CONVERT}"
    field = head[2:3]
    if head[:1] == b"\x08" and 3 <= head[1] < 32 and field in {b"\x12", b"\x1a", b"\x22", b"\x3a", b"\x42"}:
        return f"an ONNX network; {_EXPORT}"
    return ""


def _by_name(path: Path) -> str:
    names: Sequence[tuple[str, str]] = (
        (".onnx", f"an ONNX network; {_EXPORT}"),
        (".pb", f"a graph of TensorFlow; {_CONVERT}"),
        (".index", _TENSORFLOW),
        (".msgpack", f"weights of Flax; {_CONVERT}"),
        (".caffemodel", f"weights of Caffe; {_CONVERT}"),
    )
    if ".ckpt.data-" in path.name or ".data-0" in path.name:
        return _TENSORFLOW
    return next((kind for suffix, kind in names if path.name.lower().endswith(suffix)), "")
