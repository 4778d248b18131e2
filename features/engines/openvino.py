"""OpenVINO: the network compiled for the CPU, several batches at once on streams of their own."""

import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frostline.features.backbones import Backbone, FeatureModule
from frostline.features.engines.engine import ConversionError, Device, EngineError, EngineKind, Features
from frostline.features.engines.graph import trace
from frostline.features.engines.in_flight import Launched, in_order
from frostline.features.engines.memory import memory_explained
from frostline.features.images.loading import Batch, default_workers
from frostline.features.spec import Layer, Precision

CONVERSION_PAYS = 256
"""Images from which ``auto`` converts a network for OpenVINO.

Importing, tracing, converting and the check against the reference take 4 to 7 s on two AVX2 cores; what it then saves
is 30 ms an image for efficientnet_lite0 and resnet50 alike. A number of images, not a measurement, because the engine
is part of the cache key and must be the same whenever the same command runs.
"""

_REQUEST_BATCH = 8  # 1 to 32 are equally fast, small ones keep every stream busy to the end
_SHOWN = 300  # characters of OpenVINO's long explanations, whose end names the operation
_FORMATS: Mapping[Precision, str] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


def openvino_name() -> str:
    """The engine's name in a specification: its version decides which kernels run.

    Raises:
        EngineError: OpenVINO isn't installed.
    """
    try:
        return f"openvino {importlib.metadata.version('openvino')}"
    except importlib.metadata.PackageNotFoundError as error:
        raise EngineError(
            "the engine 'openvino' needs a package that is not installed: pip install 'frostline[openvino]'"
        ) from error


class OpenVinoEngine:
    """OpenVINO on the CPU. A stream for every two cores or so, as its throughput hint decides, computes a batch each.

    The whole `FeatureModule` is converted, normalisation included, for one shape: uint8 pixels of a batch.
    """

    def __init__(
        self,
        backbone: Backbone,
        layers: Sequence[Layer],
        *,
        precision: Precision,
        device: Device = "cpu",
        batch_size: int,
    ) -> None:
        self.name = openvino_name()
        self.layers = tuple(layers)
        self.precision: Precision = precision
        self.device: Device = device
        self.batch_size = batch_size
        self._compiled = _compile(backbone, layers, precision, batch_size)
        self._streams: int = self._compiled.get_property("NUM_STREAMS")

    def run(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Features]]:
        """Compute the features of each batch, in order.

        Yields:
            The batch, and by layer key (k, views, dim) float32 for its k rows; the padding is dropped.

        Raises:
            DeviceMemoryError: A batch doesn't fit; says so with the remedy.
        """
        # While every stream computes one batch, the next one of each waits in its queue.
        ahead = 2 * self._streams
        keys = [layer.key for layer in self.layers]
        with memory_explained(self):
            yield from in_order(batches, self._launcher(ahead + 1), keys, ahead=ahead)

    def _launcher(self, requests: int) -> Callable[[Tensor], Launched]:
        """Begins batches on `requests` requests in turn; the next one's last batch was taken before it is used again."""
        openvino = _openvino()
        waiting = [self._compiled.create_infer_request() for _ in range(requests)]

        def launch(pixels: Tensor) -> Launched:
            request = waiting.pop(0)
            waiting.append(request)
            outputs = [np.empty((self.batch_size, layer.dim), np.float32) for layer in self.layers]
            # The arrays live in the batch and in what is returned, which both outlast the computation.
            request.set_input_tensor(openvino.Tensor(pixels.numpy(), shared_memory=True))
            for index, output in enumerate(outputs):
                request.set_output_tensor(index, openvino.Tensor(output, shared_memory=True))
            request.start_async()
            return Launched(tuple(map(torch.from_numpy, outputs)), request.wait)

        return launch


def _openvino() -> Any:
    """The package, without its telemetry: it reports its use to Google Analytics, which a user has not been asked for."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None means: not importable
    return importlib.import_module("openvino")


@cache
def _core() -> Any:
    """OpenVINO's core, one for the process and never dropped.

    Its CPU plugin moves the main thread's signal stack, and frees that where the last core is dropped; in another thread than
    it was made in, the next signal then kills the process.
    """
    core = _openvino().Core()
    core.get_property("CPU", "FULL_DEVICE_NAME")  # loads the plugin, which the core then keeps
    return core


def _failures(frontends: Any) -> tuple[type[Exception], ...]:
    """The frontend's exceptions, which have no base class of their own."""
    names = ("GeneralFailure", "NotImplementedFailure", "OpConversionFailure", "OpValidationFailure")
    return (RuntimeError, *(getattr(frontends, name) for name in names))


def _compile(backbone: Backbone, layers: Sequence[Layer], precision: Precision, batch_size: int) -> Any:
    core = _core()
    fx = importlib.import_module("openvino.frontend.pytorch.fx_decoder")
    frontends = importlib.import_module("openvino.frontend")
    shape = (batch_size, *backbone.transform.crop, 3)
    # Folding batch normalisations is left to OpenVINO, which does it in no time.
    graph = trace(FeatureModule(backbone, layers), torch.zeros(shape, dtype=torch.uint8))
    decoder = fx.TorchFXPythonDecoder(graph, dynamic_shapes=False)  # alive until the conversion is done
    frontend = frontends.FrontEndManager().load_by_framework("pytorch")
    try:
        model = frontend.convert(frontend.load(decoder))
        model.reshape(shape)
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "PERFORMANCE_HINT": "THROUGHPUT",
                "INFERENCE_PRECISION_HINT": _FORMATS[precision],
                "INFERENCE_NUM_THREADS": default_workers(),
                "ENABLE_CPU_PINNING": False,  # decoding threads share the cores
            },
        )
    except _failures(frontends) as error:
        reason = " ".join(str(error).split())[-_SHOWN:]
        raise ConversionError(f"OpenVINO can't take {backbone.name}: {reason}; use --engine eager") from error
    got = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    if got != _FORMATS[precision]:
        raise ConversionError(
            f"OpenVINO computes in {got} on this CPU, which has no {_FORMATS[precision]}; use --engine eager or "
            "another --precision"
        )
    return compiled


OPENVINO = EngineKind(
    build=OpenVinoEngine,
    label=lambda _device: openvino_name(),
    devices=("cpu",),
    batch_size=_REQUEST_BATCH,
    auto_from=CONVERSION_PAYS,
)
