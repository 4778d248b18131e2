"""Engine that compiles the network with torch.compile."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from frostline.features.backbones import Backbone
from frostline.features.engines.compiler import compile_network
from frostline.features.engines.eager import EagerEngine, number_format, torch_label
from frostline.features.engines.engine import Device, EngineKind
from frostline.features.engines.graph import trace
from frostline.features.errors import ConversionError
from frostline.features.spec import Layer, Precision


class CompiledEngine(EagerEngine):
    """Eager engine whose module is traced for one shape and compiled with its weights frozen into the kernels."""

    def __init__(
        self,
        backbone: Backbone,
        layers: Sequence[Layer],
        *,
        precision: Precision,
        device: Device,
        batch_size: int,
    ) -> None:
        super().__init__(backbone, layers, precision=precision, device=device, batch_size=batch_size)
        self.name = torch_label("compile", device)
        pixels = torch.zeros((batch_size, *backbone.transform.crop, 3), dtype=torch.uint8, device=device)
        with number_format(device, precision):
            graph = trace(self.module, pixels)
        self._compiled = compile_network(graph, dynamic=False, options={"freezing": True})
        try:
            self._forward(pixels)
        except torch._dynamo.exc.BackendCompilerFailed as error:  # noqa: SLF001  # documented under this name
            raise ConversionError(
                f"torch.compile can't compile {backbone.name}: {str(error).strip().partition(chr(10))[0]}; "
                "use --engine eager"
            ) from error

    def _forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        # Not inference_mode: the compiler freezes weights under no_grad alone.
        with torch.no_grad(), number_format(self.device, "fp32"):
            outputs: tuple[Tensor, ...] = self._compiled(pixels)
        return outputs


COMPILE = EngineKind(build=CompiledEngine, label=partial(torch_label, "compile"))
