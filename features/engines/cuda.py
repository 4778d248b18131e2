"""CUDA execution: numeric settings, overlapped copies, and CUDA graphs."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from frostline.features.engines.in_flight import LaunchedBatch

_log = logging.getLogger(__name__)

# Warm-up passes before a capture, as torch's documentation recommends. cuDNN chooses kernels in them, and libraries
# allocate memory.
_WARM_UPS = 3

Forward = Callable[[Tensor], tuple[Tensor, ...]]


@contextmanager
def cuda_settings() -> Iterator[None]:
    """Disable TF32 and enable cuDNN's benchmark mode, which suits static shapes."""
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
            yield
    finally:
        matmul.allow_tf32 = before


class CudaLauncher:
    """Launcher that copies pixels on a separate stream, so that the copy overlaps with the previous forward pass.

    Launching never waits for the device. `LaunchedBatch.wait` does so after the next batch has been launched.
    """

    def __init__(self, forward: Forward) -> None:
        self._forward = _Graphed(forward)
        self._copies: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def __call__(self, pixels: Tensor) -> LaunchedBatch:
        """Launch the forward pass of (b, h, w, 3) uint8 pixels."""
        pinned = pixels.pin_memory()
        with torch.cuda.stream(self._copies):
            resident = pinned.to("cuda", non_blocking=True)
        compute = torch.cuda.current_stream()
        compute.wait_stream(self._copies)
        resident.record_stream(compute)
        outputs = tuple(_to_host(output) for output in self._forward(resident))
        event: torch.cuda.Event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(compute)
        return LaunchedBatch(outputs, event.synchronize)


class _Graphed:
    """Forward pass that replays a CUDA graph captured on the first batch.

    All batches must have the shape of the first one. The graph uses static memory, so its outputs are valid until
    the next call on the same stream. A network that can't be captured runs without a graph.
    """

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self._graph: torch.cuda.CUDAGraph | None = None
        self._pixels = torch.empty(0)
        self._outputs: tuple[Tensor, ...] = ()
        self._capturable = True

    def __call__(self, pixels: Tensor) -> tuple[Tensor, ...]:
        if self._graph is None and self._capturable:
            self._capture(pixels)
        if self._graph is None:
            return self._forward(pixels)
        self._pixels.copy_(pixels, non_blocking=True)
        self._graph.replay()
        return self._outputs

    def _capture(self, pixels: Tensor) -> None:
        self._pixels = pixels.clone()
        warm_up: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        warm_up.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(warm_up):
            for _ in range(_WARM_UPS):
                self._forward(self._pixels)
        torch.cuda.current_stream().wait_stream(warm_up)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._outputs = self._forward(self._pixels)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            _log.warning("the network can't be captured as a CUDA graph, so it runs without one: %s", error)
            self._capturable = False
            return
        self._graph = graph


def _to_host(output: Tensor) -> Tensor:
    host = torch.empty(output.shape, dtype=output.dtype, pin_memory=True)
    return host.copy_(output, non_blocking=True)
