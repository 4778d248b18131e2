"""What executes the forward pass: from batches of pixels to batches of feature vectors."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.backbones import Backbone, FeatureModule
from features.errors import FeaturesError
from features.loading import Batch
from features.spec import Layer, Precision

__all__ = [
    "TOLERANCE",
    "DeviceMemoryError",
    "EagerEngine",
    "Engine",
    "EngineError",
    "Features",
    "make_engine",
]

Features = dict[str, NDArray[np.float32]]
Device = Literal["cpu", "cuda", "mps"]

# How far an image's feature vector may move with its neighbours in the batch, its place in it and the batch's size:
# the norm of the difference, relative to the vector's norm. On the one CPU tried (AVX2), batches of one size gave the same bytes.
TOLERANCE: Mapping[Precision, float] = {"fp32": 1e-5, "fp16": 1e-2, "bf16": 5e-2}

_REDUCED: Mapping[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
_MAX_BATCH = 256  # rows in a block of the cache, which a batch never straddles
_CPU_BATCH = 32  # larger ones are no faster on a CPU, and take more memory
_LIVE_OUTPUTS = (
    6  # of the largest layer's size, alive at once: input, output, and what the kernels need beside them
)


class EngineError(FeaturesError, ValueError):
    """A device, precision or batch size that can't be had here."""


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
        """Compute the features of each batch, in order.

        Yields:
            The batch, and by layer key (k, 1, dim) float32 for its k rows; the padding is dropped.

        Raises:
            DeviceMemoryError: A batch doesn't fit; says so with the remedy.
        """


def make_engine(
    backbone: Backbone,
    layers: Sequence[Layer],
    *,
    precision: str = "auto",
    device: str = "auto",
    batch_size: int | None = None,
) -> Engine:
    """Choose and build an engine. The backbone's own module is copied, never changed.

    Args:
        backbone: Whose features.
        layers: From `Backbone.resolve_layers`.
        precision: ``fp32``, ``bf16``, ``fp16``, or ``auto``: bf16 where the device computes it natively, else fp32.
        device: ``cpu``, ``cuda``, ``mps``, or ``auto``: the first that is there of cuda, mps, cpu.
        batch_size: Images per batch; None chooses by the device and its memory.

    Raises:
        EngineError: That device or precision isn't available here, or the batch size isn't positive.
    """
    if not layers:
        raise EngineError("no layers to compute; expected at least one, from Backbone.resolve_layers")
    chosen = _device(device)
    size = _auto_batch_size(backbone, chosen) if batch_size is None else batch_size
    if size < 1:
        raise EngineError(f"batch size {size}; expected at least 1")
    return EagerEngine(
        backbone, layers, precision=_precision(precision, chosen), device=chosen, batch_size=size
    )


class EagerEngine:
    """PyTorch as it is, one operation after the other: the reference for every other engine.

    Convolutions run in channels_last memory with their batch normalisations folded in; on CUDA, a batch is copied to the
    device while the one before is computed.
    """

    def __init__(
        self,
        backbone: Backbone,
        layers: Sequence[Layer],
        *,
        precision: Precision,
        device: Device,
        batch_size: int,
    ) -> None:
        self.layers = tuple(layers)
        self.precision: Precision = precision
        self.device: Device = device
        self.batch_size = batch_size
        self.name = "eager, tf32 off" if device == "cuda" else "eager"
        module = FeatureModule(backbone, layers, fold=True)
        self.module = module.to(memory_format=torch.channels_last).to(device)
        self._keys = [layer.key for layer in layers]

    def run(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Features]]:
        """Compute the features of each batch, in order.

        Yields:
            The batch, and by layer key (k, 1, dim) float32 for its k rows; the padding is dropped.

        Raises:
            DeviceMemoryError: A batch doesn't fit; says so with the remedy.
            RuntimeError: The module was put into training mode.
        """
        if any(part.training for part in self.module.modules()):
            raise RuntimeError("the engine's module is in training mode; a backbone is frozen")
        launch: Callable[[Tensor], _Launched] = (
            _CudaLauncher(self._forward) if self.device == "cuda" else self._launch
        )
        waiting: deque[tuple[Batch, _Launched]] = deque()
        ahead = 1 if self.device == "cuda" else 0
        for batch in batches:
            waiting.append((batch, launch(torch.from_numpy(batch.pixels))))
            if len(waiting) > ahead:
                yield self._collect(*waiting.popleft())
        for batch, launched in waiting:
            yield self._collect(batch, launched)

    def _launch(self, pixels: Tensor) -> "_Launched":
        return _Launched(tuple(output.cpu() for output in self._forward(pixels.to(self.device))))

    def _forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode(), _settings(self.device, self.precision), self._memory_explained():
            outputs: tuple[Tensor, ...] = self.module(pixels)
        return outputs

    def _collect(self, batch: Batch, launched: "_Launched") -> tuple[Batch, Features]:
        with self._memory_explained():
            launched.wait()
        rows = len(batch.rows)
        arrays = (output[:rows, None].numpy() for output in launched.outputs)
        return batch, dict(zip(self._keys, arrays, strict=True))

    @contextmanager
    def _memory_explained(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
                raise
            raise DeviceMemoryError(
                f"a batch of {self.batch_size} images doesn't fit into the memory of {self.device} at "
                f"{self.precision}; use a smaller --batch-size ({str(error).strip().partition(chr(10))[0]})"
            ) from error


@dataclass(frozen=True)
class _Launched:
    """A batch's outputs in the host's memory, once `wait` has returned."""

    outputs: tuple[Tensor, ...]
    event: Any = None

    def wait(self) -> None:
        if self.event is not None:
            self.event.synchronize()


class _CudaLauncher:
    """Copies pixels in on a stream of their own, so that the copy runs beside the forward pass before it.

    Nothing here waits for the device: `_Launched.wait` does, when the next batch is under way.
    """

    def __init__(self, forward: Callable[[Tensor], tuple[Tensor, ...]]) -> None:
        self._forward = forward
        self._copies: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def __call__(self, pixels: Tensor) -> _Launched:
        pinned = pixels.pin_memory()
        with torch.cuda.stream(self._copies):
            resident = pinned.to("cuda", non_blocking=True)
        compute = torch.cuda.current_stream()
        compute.wait_stream(self._copies)
        resident.record_stream(compute)
        outputs = tuple(_to_host(output) for output in self._forward(resident))
        event: torch.cuda.Event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(compute)
        return _Launched(outputs, event)


def _to_host(output: Tensor) -> Tensor:
    host = torch.empty(output.shape, dtype=output.dtype, pin_memory=True)
    return host.copy_(output, non_blocking=True)


@contextmanager
def _settings(device: Device, precision: Precision) -> Iterator[None]:
    with (
        nullcontext() if precision == "fp32" else torch.autocast(device, dtype=_REDUCED[precision]),
        _cuda_settings() if device == "cuda" else nullcontext(),
    ):
        yield


@contextmanager
def _cuda_settings() -> Iterator[None]:
    """fp32 means fp32: no TF32. Shapes are static, so cuDNN may measure which of its kernels is the fastest."""
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
            yield
    finally:
        matmul.allow_tf32 = before


def _device(asked: str) -> Device:
    available: dict[Device, bool] = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if asked == "auto":
        return next(device for device, there in available.items() if there)
    if asked not in available:
        raise EngineError(f"device {asked!r}; expected auto, {', '.join(available)}")
    if not available[asked]:
        there = [name for name, here in available.items() if here]
        raise EngineError(
            f"device {asked!r} isn't available to torch {torch.__version__} here; expected auto, {', '.join(there)}"
        )
    return asked


def _precision(asked: str, device: Device) -> Precision:
    if asked == "auto":
        return "bf16" if _native_bf16(device) else "fp32"
    if asked not in get_args(Precision):
        raise EngineError(f"precision {asked!r}; expected auto, {', '.join(get_args(Precision))}")
    if asked == "fp16" and device == "cpu" and not _cpu_capabilities().get("amx_fp16"):
        raise EngineError(
            "precision 'fp16' on this CPU, which has no arithmetic for it; expected auto, fp32 or bf16"
        )
    return cast("Precision", asked)


def _native_bf16(device: Device) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":
        return any(_cpu_capabilities().get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return False


def _cpu_capabilities() -> Mapping[str, Any]:
    """What the CPU can do, by the names of `torch.cpu.get_capabilities`, which came with torch 2.10."""
    if hasattr(torch.cpu, "get_capabilities"):
        return torch.cpu.get_capabilities()
    return {
        "amx_bf16": torch.cpu._is_amx_tile_supported(),  # noqa: SLF001  # all that older versions have
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),  # noqa: SLF001
    }


def _auto_batch_size(backbone: Backbone, device: Device) -> int:
    """The largest power of two, at most a block of the cache, that surely fits."""
    if device != "cuda":
        return _CPU_BATCH
    largest = max(int(np.prod(info.shape)) for info in backbone.layers().values())
    free, _total = torch.cuda.mem_get_info()
    fitting = free // 2 // (largest * 4 * _LIVE_OUTPUTS)
    return max(1, min(_MAX_BATCH, 1 << max(0, fitting.bit_length() - 1)))
