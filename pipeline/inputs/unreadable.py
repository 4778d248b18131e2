"""Images that could not be read, as a person is told of them."""

from collections.abc import Mapping

_SHOWN = 10


def describe_unreadable(errors: Mapping[str, str], failed: int, images: int) -> str:
    """How many they are, and the first of them, one a line.

    Args:
        errors: Why, by an image's name; of all of them or some.
        failed: How many they are.
        images: How many images there are.
    """
    lines = [f"  {name}: {reason}" for name, reason in list(errors.items())[:_SHOWN]]
    if failed > len(lines):
        lines.append(f"  ... and {failed - len(lines)} more")
    return "\n".join([f"{failed} of {images} images could not be read:", *lines])
