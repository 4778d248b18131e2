"""Archives of images."""

import io
import tarfile
import zipfile


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
