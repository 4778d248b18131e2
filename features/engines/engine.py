"""What every engine is: from batches of pixels to batches of feature vectors."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from frostline.features.errors import FeaturesError
from frostline.features.images.loading import Batch
from frostline.features.spec import Layer, Precision

Features = dict[str, NDArray[np.float32]]
Device = Literal["cpu", "cuda", "mps"]
Kind = Literal["eager", "compile", "openvino"]

KINDS: tuple[Kind, ...] = ("eager", "compile", "openvino")

# How far an image's feature vector may move with its neighbours in the batch, its place in it and the batch's size:
# the norm of the difference, relative to the vector's norm. On the CPUs tried, batches of one size give the same bytes.
TOLERANCE: Mapping[Precision, float] = {"fp32": 1e-5, "fp16": 1e-2, "bf16": 5e-2}


class EngineError(FeaturesError, ValueError):
    """An engine, device, precision or batch size that can't be had here."""


class ConversionError(EngineError):
    """A network that an engine can't take."""


class DeviceMemoryError(FeaturesError, MemoryError):
    """A batch that doesn't fit into the device's memory."""


class Engine(Protocol):
    """Executes the forward pass.

    Attributes:
        name: What it is and what it does to the numbers, for the specification.
        device: ``cpu``, ``cuda`` or ``mps``.
        precision: Number format of the forward pass.
        batch_size: Images in each batch that it is given.
        layers: What it computes.
    """

    name: str
    device: Device
    precision: Precision
    batch_size: int
    layers: tuple[Layer, ...]

    def run(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Features]]:
        """Compute the features of each batch, in order, a bounded number of batches ahead.

        Yields:
            The batch, and by layer key (k, views, dim) float32 for its k rows; the padding is dropped.

        Raises:
            DeviceMemoryError: A batch doesn't fit; says so with the remedy.
        """
