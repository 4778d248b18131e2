"""What every engine is: from batches of pixels to batches of feature vectors. A new one is a module and a line here."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from frostline.features.backbones import Backbone
from frostline.features.errors import FeaturesError
from frostline.features.images.loading import Batch
from frostline.features.spec import Layer, Precision
from frostline.registry import Entry, Registry

Features = dict[str, NDArray[np.float32]]
Device = Literal["cpu", "cuda", "mps"]

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


class Build(Protocol):
    """Makes an engine, of a copy of the backbone's module."""

    def __call__(
        self,
        backbone: Backbone,
        layers: Sequence[Layer],
        *,
        precision: Precision,
        device: Device,
        batch_size: int,
    ) -> Engine:
        """Build it.

        Raises:
            ConversionError: The engine can't take this network, or not in this precision.
        """


@dataclass(frozen=True)
class EngineKind:
    """What is known of an engine before one is built.

    Attributes:
        build: Makes one.
        label: Its name in a specification, for a device. What changes the numbers is part of it, such as a version;
            its first word is the name that it is listed by.
        devices: Where it computes.
        precisions: Number formats in which it computes.
        batch_size: Images in each batch where the user doesn't say; None for as many as suit the device.
        auto_from: Images from which ``auto`` takes it, because that many repay its preparation; None for an engine
            that is only used when asked for. The engine that needs most images is taken to be the fastest.
    """

    build: Build
    label: Callable[[Device], str]
    devices: tuple[Device, ...] = get_args(Device)
    precisions: tuple[Precision, ...] = get_args(Precision)
    batch_size: int | None = None
    auto_from: int | None = None


_HERE = "frostline.features.engines"

ENGINES: Registry[EngineKind] = Registry(
    "engine",
    {
        "eager": Entry(f"{_HERE}.eager:EAGER"),
        "compile": Entry(f"{_HERE}.compiled:COMPILE"),
        "openvino": Entry(f"{_HERE}.openvino:OPENVINO", needs="openvino", extra="openvino"),
    },
    group="frostline.engines",
    adopt=lambda _name, found: found if isinstance(found, EngineKind) else None,
    expected="a features.engines.EngineKind",
    error=EngineError,
    also="auto",
)
"""Every kind of engine, by name."""
