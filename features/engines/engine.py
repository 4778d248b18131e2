"""Engine interface and registry. A new engine needs a module and a line in the registry."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, get_args

from frostline.features.errors import EngineError
from frostline.features.spec import Layer, Precision
from frostline.registry import Entry, Registry

if TYPE_CHECKING:  # the command line reads the registry without loading PyTorch
    import numpy as np
    from numpy.typing import NDArray

    from frostline.features.backbones import Backbone
    from frostline.features.images.batches import Batch

Features: TypeAlias = "dict[str, NDArray[np.float32]]"
Device = Literal["cpu", "cuda", "mps"]

# Largest change of an image's feature vector with its neighbours in the batch, its position and the batch size: norm
# of the difference relative to the vector's norm. On the CPUs tested, batches of equal size give identical bytes.
TOLERANCE: Mapping[Precision, float] = {"fp32": 1e-5, "fp16": 1e-2, "bf16": 5e-2}


class Engine(Protocol):
    """Interface of an engine, which executes the forward pass.

    Attributes:
        name: Name for the specification, with all settings that affect the numbers.
        device: ``cpu``, ``cuda`` or ``mps``.
        precision: Number format of the forward pass.
        batch_size: Images per batch.
        layers: Computed layers.
    """

    name: str
    device: Device
    precision: Precision
    batch_size: int
    layers: tuple[Layer, ...]

    def run(self, batches: "Iterable[Batch]") -> "Iterator[tuple[Batch, Features]]":
        """Compute the features of each batch, in order, a bounded number of batches ahead.

        Yields:
            The batch, and its features by layer key: (k, views, dim) float32 for its k rows, without the padding.

        Raises:
            DeviceMemoryError: A batch doesn't fit into the memory of the device.
        """


class Build(Protocol):
    """Interface of a function that builds an engine from a copy of the backbone's module."""

    def __call__(
        self,
        backbone: "Backbone",
        layers: Sequence[Layer],
        *,
        precision: Precision,
        device: Device,
        batch_size: int,
    ) -> Engine:
        """Build the engine.

        Raises:
            ConversionError: The engine doesn't support this network in this precision.
        """


@dataclass(frozen=True)
class EngineKind:
    """Properties of an engine that are known before it is built.

    Attributes:
        build: Function that builds the engine.
        label: Function that returns the engine's name in a specification for a device. The name includes
            everything that affects the numbers, such as a version. Its first word is the name in the registry.
        devices: Supported devices.
        precisions: Supported number formats.
        batch_size: Default images per batch; None to choose by the device.
        auto_from: Smallest number of images for which ``auto`` uses the engine, so that its preparation pays off.
            None for an engine that is used only on request. The engine with the largest value is assumed to be the
            fastest.
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
"""Registry of the engines."""
