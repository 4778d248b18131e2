"""Images, specifications and an engine that cost nothing: features are a function of an image's bytes."""

import hashlib
from dataclasses import replace

import numpy as np

from frostline.features.cache import FeatureCache, open_writer
from frostline.features.content import file_content
from frostline.features.spec import FeatureSpec, Layer, Transform
from frostline.features.table import ImageSource, ImageTable

LONG_AGO = 1_500_000_000_000_000_000
OK, FAILED = 1, 2

SPEC = FeatureSpec(
    backbone="test:net",
    weights_sha256="0" * 64,
    transform=Transform(
        resize=36,
        resize_mode="shortest",
        crop=(32, 32),
        interpolation="bicubic",
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
    ),
    layers=(Layer("embedding", "none", 20), Layer("blocks.4", "avg", 6)),
    precision="fp32",
    dtype="float32",
    engine="none",
    device="cpu",
    decoder="none 1.0",
    versions={"numpy": "2"},
)


def spec(**changes):
    return replace(SPEC, **changes)


class MemorySource(ImageSource):
    """Images in memory that are stamped as files are, by size and time; counts how many were read."""

    def __init__(self, files, *, labels=None, mtimes=None, root="/images"):
        """`files` gives bytes, or an OSError, by id; labels and mtimes by id are optional."""
        self.root, self.reads = root, 0
        self.files = [files[name] for name in sorted(files)]
        ids = sorted(files)
        stats = [
            (len(data) if isinstance(data, bytes) else 0, (mtimes or {}).get(name, LONG_AGO))
            for name, data in sorted(files.items())
        ]
        names = [(labels or {}).get(name) for name in ids]
        classes = tuple(sorted({name for name in names if name}))
        self.table = ImageTable(
            ids=np.array([name.encode() for name in ids], "S"),
            labels=np.array([classes.index(name) if name else -1 for name in names], np.int64),
            classes=classes,
            split=np.array([(len(name) + 1) % 4 for name in ids], np.uint8),
            groups=np.array([b"group" if len(name) % 2 else b"" for name in ids], "S"),
            stamps=np.array(stats, np.int64).reshape(len(ids), 2).view(np.uint8),
        )

    def read(self, row):
        self.reads += 1
        data = self.files[row]
        if isinstance(data, OSError):
            raise data
        return data, self.table.stamps[row].tobytes()

    def unsettled(self, since):
        return self.table.stamps.view(np.int64)[:, 1] > since - 2 * 10**9


def images(count, start=0):
    return {f"class/{index:06d}.jpg": b"image %d" % index for index in range(start, start + count)}


def labels_of(files):
    return {name: name.split("/")[0] for name in files}


def labelled(files, **options):
    return MemorySource(files, labels=labels_of(files), **options)


def source(count, **options):
    return labelled(images(count), **options)


def vector(data, layer, views=1):
    """(views, dim) float32 that depends on all bytes of an image, and on nothing else."""
    digest = hashlib.shake_128(layer.key.encode() + data).digest(4 * views * layer.dim)
    return (np.frombuffer(digest, "<u4").astype(np.float32) / 2**28 - 8).reshape(views, layer.dim)


def computed(specification, images_, rows):
    """What loading and an engine hand to `CacheWriter.put`. Bytes that hold "bad" don't decode."""
    count = len(rows)
    features = {
        x.key: np.zeros((count, specification.views, x.dim), np.float32) for x in specification.layers
    }
    content = np.zeros((count, 16), np.uint8)
    stamps = np.zeros((count, 16), np.uint8)
    status = np.full(count, OK, np.uint8)
    errors = [""] * count
    for index, row in enumerate(rows.tolist()):
        try:
            data, stamp = images_.read(row)
        except OSError as error:
            status[index], errors[index] = FAILED, f"can't be read: {error}"
            continue
        content[index] = np.frombuffer(file_content(data), np.uint8)
        stamps[index] = np.frombuffer(stamp, np.uint8)
        if b"bad" in data:
            status[index], errors[index] = FAILED, "not an image"
            continue
        for layer in specification.layers:
            features[layer.key][index] = vector(data, layer, specification.views)
    return features, {"content": content, "stamps": stamps, "status": status, "errors": errors}


def put(writer, specification, images_, rows):
    features, outcome = computed(specification, images_, rows)
    writer.put(rows, features, **outcome)


def fill(writer, specification, images_, *, batch=32, batches=None):
    """Compute what is to do, or only the first `batches` of it."""
    for start in list(range(0, len(writer.todo), batch))[:batches]:
        put(writer, specification, images_, writer.todo[start : start + batch])


def extract(path, specification, images_, **options):
    """A whole run; returns the finished cache and how many rows were computed."""
    writer = open_writer(path, specification, images_, **options)
    if isinstance(writer, FeatureCache):
        return writer, 0
    with writer:
        fill(writer, specification, images_)
        return writer.finish(), len(writer.todo)


def interrupted(path, specification, images_, batches, **options):
    """A run that stops after some batches."""
    with open_writer(path, specification, images_, **options) as writer:
        fill(writer, specification, images_, batches=batches)
    return writer


def contents(cache):
    """Everything a cache says of its images, by name, to compare two of them."""
    arrays = {name: cache.file.array(name) for name in cache.file.layout.extents if name != "spec"}
    return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}


def names(folder):
    return sorted(path.name for path in folder.iterdir())
