"""Random views of an image: parts of it, some of them mirrored."""

import math

import numpy as np

_AREA, _RATIO = (0.35, 1.0), (3 / 4, 4 / 3)  # area fraction and aspect ratio of a random view

VIEWS = f"random parts of {_AREA[0]} of the area or more, half of them mirrored"
"""Description of the views for the specification."""


def random_box(width: int, height: int, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Return the left, upper, right and lower border of a crop with random area and aspect ratio."""
    area = width * height * rng.uniform(*_AREA)
    ratio = math.exp(rng.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
    across, down = min(width, math.sqrt(area * ratio)), min(height, math.sqrt(area / ratio))
    left, top = rng.uniform(0, width - across), rng.uniform(0, height - down)
    return left, top, left + across, top + down
