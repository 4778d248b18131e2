"""PyTorch as it is, one operation after the other."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial

import torch
from torch import Tensor

from frostline.features.backbones import Backbone, FeatureModule
from frostline.features.engines.cuda import CudaLauncher, cuda_settings
from frostline.features.engines.engine import Device, EngineKind, Features
from frostline.features.engines.in_flight import Launched, in_order
from frostline.features.engines.memory import memory_explained
from frostline.features.images.loading import Batch
from frostline.features.spec import Layer, Precision

_REDUCED: Mapping[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


class EagerEngine:
    """PyTorch as it is: the reference, in fp32, for every other engine.

    Convolutions run in channels_last memory with their batch normalisations folded in; on CUDA, a batch is copied to the
    device while the one before is computed, and the kernels are launched as one graph.
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
            The batch, and by layer key (k, views, dim) float32 for its k rows; the padding is dropped.

        Raises:
            DeviceMemoryError: A batch doesn't fit; says so with the remedy.
            RuntimeError: The module was put into training mode.
        """
        if any(part.training for part in self.module.modules()):
            raise RuntimeError("the engine's module is in training mode; a backbone is frozen")
        cuda = self.device == "cuda"
        launch: Callable[[Tensor], Launched] = CudaLauncher(self._forward) if cuda else self._launch
        with memory_explained(self):
            yield from in_order(batches, launch, [layer.key for layer in self.layers], ahead=int(cuda))

    def _launch(self, pixels: Tensor) -> Launched:
        return Launched(tuple(output.cpu() for output in self._forward(pixels.to(self.device))))

    def _forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode(), number_format(self.device, self.precision):
            outputs: tuple[Tensor, ...] = self.module(pixels)
        return outputs


def torch_label(name: str, device: Device) -> str:
    """What PyTorch's engines are called in a specification: on CUDA, fp32 has two meanings."""
    return f"{name}, tf32 off" if device == "cuda" else name


def number_format(device: Device, precision: Precision) -> AbstractContextManager[object]:
    """Everything that a forward pass in `precision` needs set."""
    stack = ExitStack()
    if precision != "fp32":
        stack.enter_context(torch.autocast(device, dtype=_REDUCED[precision]))
    if device == "cuda":
        stack.enter_context(cuda_settings())
    return stack


EAGER = EngineKind(build=EagerEngine, label=partial(torch_label, "eager"), auto_from=0)
