"""Engine that runs PyTorch in eager mode."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial

import torch
from torch import Tensor

from frostline.features.backbones import Backbone, FeatureModule
from frostline.features.engines.cuda import CudaLauncher, cuda_settings
from frostline.features.engines.engine import Device, EngineKind, Features
from frostline.features.engines.in_flight import LaunchedBatch, in_order
from frostline.features.engines.memory import memory_explained
from frostline.features.images.batches import Batch
from frostline.features.spec import Layer, Precision

_REDUCED: Mapping[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


class EagerEngine:
    """Engine that runs PyTorch in eager mode. In fp32 it is the reference for every other engine.

    Convolutions run in channels_last memory format with batch normalisation folded in. On CUDA, a batch is copied
    to the device while the previous one is computed, and the kernels are launched as one CUDA graph.
    """

    def __init__(
        self,
        backbone: Backbone,
        layers: Sequence[Layer],
        *,
        precision: Precision,
        device: Device,
        batch_size: int,
        fold: bool = True,
    ) -> None:
        self.layers = tuple(layers)
        self.precision: Precision = precision
        self.device: Device = device
        self.batch_size = batch_size
        self.name = torch_label("eager", device)
        module = FeatureModule(backbone, layers, fold=fold)
        self.module = module.to(memory_format=torch.channels_last).to(device)

    def run(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Features]]:
        """Compute the features of each batch, in order.

        Yields:
            The batch, and its features by layer key: (k, views, dim) float32 for its k rows, without the padding.

        Raises:
            DeviceMemoryError: A batch doesn't fit into the memory of the device.
            RuntimeError: The module is in training mode.
        """
        if any(part.training for part in self.module.modules()):
            raise RuntimeError("the engine's module is in training mode; a backbone is frozen")
        cuda = self.device == "cuda"
        launch: Callable[[Tensor], LaunchedBatch] = CudaLauncher(self._forward) if cuda else self._launch
        with memory_explained(self):
            yield from in_order(batches, launch, [layer.key for layer in self.layers], ahead=int(cuda))

    def _launch(self, pixels: Tensor) -> LaunchedBatch:
        return LaunchedBatch(tuple(output.cpu() for output in self._forward(pixels.to(self.device))))

    def _forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode(), number_format(self.device, self.precision):
            outputs: tuple[Tensor, ...] = self.module(pixels)
        return outputs


def torch_label(name: str, device: Device) -> str:
    """Return the name of a PyTorch engine in a specification. On CUDA, it states that fp32 excludes TF32."""
    return f"{name}, tf32 off" if device == "cuda" else name


def number_format(device: Device, precision: Precision) -> AbstractContextManager[object]:
    """Return a context manager with the settings for a forward pass in `precision`."""
    stack = ExitStack()
    if precision != "fp32":
        stack.enter_context(torch.autocast(device, dtype=_REDUCED[precision]))
    if device == "cuda":
        stack.enter_context(cuda_settings())
    return stack


EAGER = EngineKind(build=EagerEngine, label=partial(torch_label, "eager"), auto_from=0)
