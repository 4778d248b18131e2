"""Words of messages."""


def count_of(count: int, noun: str) -> str:
    """Return a number with its noun, as ``1 row`` or ``1,797 rows``."""
    return f"{count:,} {noun}{'s' * (count != 1)}"
