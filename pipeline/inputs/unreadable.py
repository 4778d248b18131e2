"""Messages about unreadable images."""

from collections.abc import Mapping

_SHOWN = 10


def describe_unreadable(errors: Mapping[str, str], failed: int, images: int) -> str:
    """Summarise unreadable images: the count, then the first ten with reasons, one per line.

    Args:
        errors: Reasons by image name, for all unreadable images or some of them.
        failed: Number of unreadable images.
        images: Number of images.
    """
    lines = [f"  {name}: {reason}" for name, reason in list(errors.items())[:_SHOWN]]
    if failed > len(lines):
        lines.append(f"  ... and {failed - len(lines)} more")
    return "\n".join([f"{failed} of {images} images could not be read:", *lines])
