"""Images that lie in no file of their own."""

import io
import tarfile
import zipfile

import numpy as np

from frostline.features.content import file_content
from frostline.features.table import ImageSource, ImageTable, make_stamp


def digest_stamp(data):
    return make_stamp(len(data), int.from_bytes(file_content(data)[:8], "little", signed=True))


class DigestSource(ImageSource):
    """Bytes of images in a dictionary by id; a stamp holds part of their digest. The part of an id before the slash is its class."""

    def __init__(self, files, root="memory:set"):
        self.root, self.files, self.reads = root, files, 0
        ids = sorted(files, key=str.encode)
        classes = tuple(sorted({id_.split("/")[0] for id_ in ids}))
        self.table = ImageTable(
            ids=np.array([id_.encode() for id_ in ids]),
            labels=np.array([classes.index(id_.split("/")[0]) for id_ in ids], np.int64),
            classes=classes,
            split=np.zeros(len(ids), np.uint8),
            groups=np.zeros(len(ids), "S1"),
            stamps=np.array([np.frombuffer(digest_stamp(files[id_]), np.uint8) for id_ in ids]),
        )

    def read(self, row):
        self.reads += 1
        id_ = self.table.ids[row].decode()
        if id_ not in self.files:
            raise FileNotFoundError(f"{id_} is no longer there")
        return self.files[id_], digest_stamp(self.files[id_])


def write_tar(path, files):
    """Write files, bytes by path, into a tar archive; returns its path."""
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_zip(path, files, compression=zipfile.ZIP_DEFLATED):
    """Write files, bytes by path, into a zip archive; returns its path."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path
