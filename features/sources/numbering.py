"""Names of images that have none but their number."""


def numbered(count: int, part: str = "") -> list[str]:
    """Return the ids of the images of an array, a table or a split: ``00000012``, or ``train/00000012``.

    They have the same width for every count, so that a set that grows keeps its ids, and are in the order of the images.

    Args:
        count: Number of images.
        part: Name of the part of the set; empty for the whole.
    """
    prefix = f"{part}/" if part else ""
    return [f"{prefix}{number:08}" for number in range(count)]
