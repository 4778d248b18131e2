"""What will execute the forward pass, decided before anything is built."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast, get_args

import numpy as np
import torch

from frostline.features.backbones import Backbone
from frostline.features.engines.compiled import CompiledEngine
from frostline.features.engines.eager import EagerEngine, engine_name
from frostline.features.engines.engine import KINDS, Device, Engine, EngineError, Kind
from frostline.features.engines.openvino import OpenVinoEngine, openvino_installed, openvino_name
from frostline.features.spec import Layer, Precision, engine_kind

CONVERSION_PAYS = 256
"""Images from which ``auto`` converts a network for OpenVINO.

Importing, tracing, converting and the check against the reference take 4 to 7 s on two AVX2 cores; what it then saves
is 30 ms an image for efficientnet_lite0 and resnet50 alike. A number of images, not a measurement, because the engine
is part of the cache key and must be the same whenever the same command runs.
"""

_MAX_BATCH = 256  # rows in a block of the cache, which a batch never straddles
_CPU_BATCH = 32  # larger ones are no faster on a CPU, and take more memory
_REQUEST_BATCH = 8  # of OpenVINO: 1 to 32 are equally fast, small ones keep every stream busy to the end
_LIVE_OUTPUTS = (
    6  # of the largest layer's size, alive at once: input, output, and what the kernels need beside them
)


@dataclass(frozen=True)
class Plan:
    """An engine that isn't built yet: all of it that a specification needs.

    Attributes:
        kind: ``eager``, ``compile`` or ``openvino``.
        precision: Number format of the forward pass.
        device: ``cpu``, ``cuda`` or ``mps``.
        batch_size: Images in each batch.
        reason: Why it was chosen, in words; empty where the user did.
    """

    kind: Kind
    precision: Precision
    device: Device
    batch_size: int
    reason: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """The engine's name in a specification."""
        return openvino_name() if self.kind == "openvino" else engine_name(self.kind, self.device)

    @property
    def is_reference(self) -> bool:
        """Whether it is what other engines are compared with: eager fp32."""
        return self.kind == "eager" and self.precision == "fp32"

    def build_reference(self, backbone: Backbone, layers: Sequence[Layer]) -> Engine:
        """Build what its features are compared with: eager fp32, without anything folded."""
        return EagerEngine(
            backbone,
            layers,
            precision="fp32",
            device=self.device,
            batch_size=min(self.batch_size, _CPU_BATCH),
            fold=False,
        )

    def build(self, backbone: Backbone, layers: Sequence[Layer]) -> Engine:
        """Build it; the backbone's own module is copied, never changed.

        Raises:
            ConversionError: The engine can't take this network, or not in this precision.
        """
        if self.kind == "openvino":
            return OpenVinoEngine(backbone, layers, precision=self.precision, batch_size=self.batch_size)
        engine = CompiledEngine if self.kind == "compile" else EagerEngine
        return engine(
            backbone, layers, precision=self.precision, device=self.device, batch_size=self.batch_size
        )


def kind_of(name: str) -> Kind | None:
    """The kind of an engine that a specification names, if this version has it."""
    return next((kind for kind in KINDS if kind == engine_kind(name)), None)


def plan_engines(
    backbone: Backbone,
    *,
    engine: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    batch_size: int | None = None,
    images: int = 0,
    views: int = 1,
) -> tuple[Plan, ...]:
    """Ways to compute a backbone's features here, the fastest first; the same ones whenever it is asked.

    Args:
        backbone: Whose features.
        engine: ``eager``, ``compile``, ``openvino``, or ``auto``: on a CPU openvino where it is installed and there are
            `CONVERSION_PAYS` images or more, else eager.
        precision: ``fp32``, ``bf16``, ``fp16``, or ``auto``: those that the device computes natively.
        device: ``cpu``, ``cuda``, ``mps``, or ``auto``: the first that is there of cuda, mps, cpu.
        batch_size: Images per batch; None chooses by the device and its memory.
        images: How many images there are in the data set.
        views: Of each image; a batch holds at least those of one.

    Raises:
        EngineError: That engine, device or precision isn't available here, or the batch size is too small.
    """
    if batch_size is not None and batch_size < views:
        needed = f"; a batch has to hold the {views} views of an image" if views > 1 else ""
        raise EngineError(f"batch size {batch_size}; expected at least {views}{needed}")
    chosen = _device(device)
    kinds = _kinds(engine, chosen, images)
    precisions = _precisions(precision, chosen)
    return tuple(
        Plan(kind, each, chosen, batch_size or max(views, _auto_batch_size(kind, backbone, chosen)), reason)
        for kind, reason in kinds.items()
        for each in precisions
    )


def _kinds(asked: str, device: Device, images: int) -> Mapping[Kind, str]:
    """Engines and why they are chosen, the fastest first."""
    if asked == "auto":
        return _auto_kinds(device, images)
    if asked not in KINDS:
        raise EngineError(f"engine {asked!r}; expected auto, {', '.join(KINDS)}")
    if asked == "openvino":
        openvino_name()  # installed?
        if device != "cpu":
            raise EngineError(f"engine 'openvino' computes on the cpu, not on {device}; add --device cpu")
    return {asked: ""}


def _auto_kinds(device: Device, images: int) -> Mapping[Kind, str]:
    if device != "cpu":
        return {"eager": f"the engine for {device}"}
    if not openvino_installed():
        return {"eager": "OpenVINO, several times as fast on a CPU, is not installed: 'frostline[openvino]'"}
    if images < CONVERSION_PAYS:
        return {"eager": f"fewer than {CONVERSION_PAYS} images don't repay converting the network"}
    return {
        "openvino": f"{CONVERSION_PAYS} images or more repay converting the network",
        "eager": "OpenVINO can't be used with this network",
    }


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


def _precisions(asked: str, device: Device) -> tuple[Precision, ...]:
    """Precisions to try, the fastest first."""
    if asked == "auto":
        reduced: tuple[Precision, ...] = ("bf16",) if _native_bf16(device) else ()
        # As fast as bf16 on a GPU and eight times as fine, but with a range that activations can leave.
        reduced += ("fp16",) if device == "cuda" else ()
        return (*reduced, "fp32")
    if asked not in get_args(Precision):
        raise EngineError(f"precision {asked!r}; expected auto, {', '.join(get_args(Precision))}")
    if asked == "fp16" and device == "cpu" and not _cpu_capabilities().get("amx_fp16"):
        raise EngineError(
            "precision 'fp16' on this CPU, which has no arithmetic for it; expected auto, fp32 or bf16"
        )
    return (cast("Precision", asked),)


def _native_bf16(device: Device) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":
        return any(_cpu_capabilities().get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return False


def _cpu_capabilities() -> Mapping[str, Any]:
    """What the CPU can do, by the names of `torch.cpu.get_capabilities`, which came with torch 2.10."""
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
    else:
        found = {
            "amx_bf16": torch.cpu._is_amx_tile_supported(),  # noqa: SLF001  # all that older versions have
            "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),  # noqa: SLF001
        }
    there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if there and not torch.ops.mkldnn._is_mkldnn_bf16_supported():  # noqa: SLF001
        # Held to fewer instructions, e.g. by ONEDNN_MAX_CPU_ISA: what the processor has besides is of no use.
        return {name: able for name, able in found.items() if "bf16" not in name}
    return found


def _auto_batch_size(kind: Kind, backbone: Backbone, device: Device) -> int:
    """The largest power of two, at most a block of the cache, that surely fits."""
    if kind == "openvino":
        return _REQUEST_BATCH
    if device != "cuda":
        return _CPU_BATCH
    largest = max(int(np.prod(info.shape)) for info in backbone.layers().values())
    free, _total = torch.cuda.mem_get_info()
    fitting = free // 2 // (largest * 4 * _LIVE_OUTPUTS)
    return max(1, min(_MAX_BATCH, 1 << max(0, fitting.bit_length() - 1)))
