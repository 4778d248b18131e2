"""Engine that compiles the network with OpenVINO for the CPU and runs several batches in parallel streams."""

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
from frostline.features.engines.engine import Device, EngineKind, Features
from frostline.features.engines.graph import trace
from frostline.features.engines.in_flight import LaunchedBatch, in_order
from frostline.features.engines.memory import memory_explained
from frostline.features.errors import ConversionError, EngineError
from frostline.features.images.batches import Batch, default_workers
from frostline.features.spec import Layer, Precision

CONVERSION_PAYS = 256
"""Images from which ``auto`` converts a network for OpenVINO.

Importing, tracing, converting and the check against the reference take 4 to 7 s on two AVX2 cores. OpenVINO then
saves 30 ms per image for both efficientnet_lite0 and resnet50. The threshold is a fixed number of images and not a
measurement, because the engine is part of the cache key and must be the same whenever the same command runs.
"""

_REQUEST_BATCH = 8  # sizes 1 to 32 are equally fast, and small ones keep every stream busy to the end
_SHOWN = 300  # last characters shown of OpenVINO's long messages, which end with the operation
_FORMATS: Mapping[Precision, str] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


def openvino_name() -> str:
    """Return the engine's name in a specification, with the version, which determines the kernels.

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
    """Engine that runs OpenVINO on the CPU.

    Each stream computes one batch. OpenVINO's throughput hint chooses about one stream per two cores. The whole
    `FeatureModule`, including normalisation, is converted for one shape: the uint8 pixels of a batch.
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
            The batch, and its features by layer key: (k, views, dim) float32 for its k rows, without the padding.

        Raises:
            DeviceMemoryError: A batch doesn't fit into memory.
        """
        # While each stream computes one batch, its next batch waits in the queue.
        ahead = 2 * self._streams
        keys = [layer.key for layer in self.layers]
        with memory_explained(self):
            yield from in_order(batches, self._launcher(ahead + 1), keys, ahead=ahead)

    def _launcher(self, requests: int) -> Callable[[Tensor], LaunchedBatch]:
        """Return a function that launches batches on `requests` requests in turn.

        A request is reused only after its previous batch has been collected.
        """
        openvino = _openvino()
        waiting = [self._compiled.create_infer_request() for _ in range(requests)]

        def launch(pixels: Tensor) -> LaunchedBatch:
            request = waiting.pop(0)
            waiting.append(request)
            outputs = [np.empty((self.batch_size, layer.dim), np.float32) for layer in self.layers]
            # The batch and the returned object own the arrays, and both outlive the computation.
            request.set_input_tensor(openvino.Tensor(pixels.numpy(), shared_memory=True))
            for index, output in enumerate(outputs):
                request.set_output_tensor(index, openvino.Tensor(output, shared_memory=True))
            request.start_async()
            return LaunchedBatch(tuple(map(torch.from_numpy, outputs)), request.wait)

        return launch


def _openvino() -> Any:
    """Import OpenVINO without its telemetry, which would report to Google Analytics without the user's consent."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None blocks the import
    return importlib.import_module("openvino")


@cache
def _core() -> Any:
    """Return OpenVINO's core: one per process, never deleted.

    The CPU plugin replaces the main thread's signal stack and frees it when the last core is deleted. If another
    thread deletes the core, the next signal kills the process.
    """
    core = _openvino().Core()
    core.get_property("CPU", "FULL_DEVICE_NAME")  # load the plugin, which the core then keeps
    return core


def _failures(frontends: Any) -> tuple[type[Exception], ...]:
    """Return the frontend's exceptions, which have no common base class."""
    names = ("GeneralFailure", "NotImplementedFailure", "OpConversionFailure", "OpValidationFailure")
    return (RuntimeError, *(getattr(frontends, name) for name in names))


def _compile(backbone: Backbone, layers: Sequence[Layer], precision: Precision, batch_size: int) -> Any:
    core = _core()
    fx = importlib.import_module("openvino.frontend.pytorch.fx_decoder")
    frontends = importlib.import_module("openvino.frontend")
    shape = (batch_size, *backbone.transform.crop, 3)
    # OpenVINO folds batch normalisations itself, in negligible time.
    graph = trace(FeatureModule(backbone, layers), torch.zeros(shape, dtype=torch.uint8))
    decoder = fx.TorchFXPythonDecoder(graph, dynamic_shapes=False)  # must outlive the conversion
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
        raise ConversionError(
            f"OpenVINO can't convert {backbone.name}: {reason}; use --engine eager"
        ) from error
    got = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    if got != _FORMATS[precision]:
        raise ConversionError(
            f"OpenVINO computes in {got} on this CPU, which doesn't support {_FORMATS[precision]}; use "
            "--engine eager or another --precision"
        )
    return compiled


OPENVINO = EngineKind(
    build=OpenVinoEngine,
    label=lambda _device: openvino_name(),
    devices=("cpu",),
    batch_size=_REQUEST_BATCH,
    auto_from=CONVERSION_PAYS,
)
