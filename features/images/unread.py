"""Formats of images that are not read, and what to do about them."""

from collections.abc import Iterator, Mapping
from typing import Final

from frostline.features.images.heif import HEIF_EXTENSIONS, HEIF_REMEDY

# fmt: off
_RAW = (
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw",
    ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
)
# fmt: on
UNREAD: Final[Mapping[str, str]] = {
    **dict.fromkeys(sorted(HEIF_EXTENSIONS), f"to read them: {HEIF_REMEDY}"),
    **dict.fromkeys(_RAW, "develop these raw photos to JPEG or TIFF"),
    **dict.fromkeys((".svg", ".svgz", ".pdf", ".eps", ".ai"), "render these pages and drawings to PNG"),
    **dict.fromkeys((".psd", ".xcf"), "export these layers to PNG"),
    **dict.fromkeys((".dcm", ".dicom", ".nii"), "convert these medical images to PNG or TIFF"),
    **dict.fromkeys((".jxl", ".heics", ".heifs", ".tga", ".exr", ".hdr", ".ico"), "convert them to PNG"),
}
"""Remedy for image files of formats that are not read, by extension."""


def unread_formats(files: Mapping[str, int]) -> Iterator[str]:
    """Yield one remark per remedy for the skipped image files.

    Args:
        files: Number of files by extension.
    """
    remedies: dict[str, list[str]] = {}
    for extension, count in files.items():
        if extension in UNREAD:
            remedies.setdefault(UNREAD[extension], []).append(f"{count} {extension}")
    for remedy, counts in remedies.items():
        yield f"image files that are not read: {', '.join(counts)}; {remedy}"
