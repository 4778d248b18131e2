"""Plans of engines, decided before anything is built."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import torch

from frostline.features.backbones import Backbone
from frostline.features.engines.eager import EagerEngine
from frostline.features.engines.engine import ENGINES, Device, Engine
from frostline.features.errors import EngineError
from frostline.features.spec import Layer, Precision, engine_kind

_MAX_BATCH = 256  # rows per block of the cache, which a batch never spans
_CPU_BATCH = 32  # larger batches are no faster on a CPU and need more memory
_LIVE_OUTPUTS = 6  # live tensors of the largest layer's size: input, output and the workspace of the kernels


@dataclass(frozen=True)
class Plan:
    """Everything that the specification needs to know about an engine, before it is built.

    Attributes:
        kind: Name in `ENGINES`.
        precision: Number format of the forward pass.
        device: ``cpu``, ``cuda`` or ``mps``.
        batch_size: Images per batch.
        reason: Reason for the choice, for messages; empty if the user chose the engine.
    """

    kind: str
    precision: Precision
    device: Device
    batch_size: int
    reason: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """The engine's name in a specification."""
        return ENGINES.load(self.kind).label(self.device)

    @property
    def is_reference(self) -> bool:
        """Whether the engine is the reference, eager fp32."""
        return self.kind == "eager" and self.precision == "fp32"

    def build_reference(self, backbone: Backbone, layers: Sequence[Layer]) -> Engine:
        """Build the reference engine: eager fp32 without folding, on the same device."""
        return EagerEngine(
            backbone,
            layers,
            precision="fp32",
            device=self.device,
            batch_size=min(self.batch_size, _CPU_BATCH),
            fold=False,
        )

    def build(self, backbone: Backbone, layers: Sequence[Layer]) -> Engine:
        """Build the engine. The backbone's module is copied, never changed.

        Raises:
            ConversionError: The engine doesn't support this network in this precision.
        """
        return ENGINES[self.kind].build(
            backbone, layers, precision=self.precision, device=self.device, batch_size=self.batch_size
        )


def kind_of(name: str) -> str | None:
    """Return the kind of the engine that a specification names, or None if it is not registered."""
    kind = engine_kind(name)
    return kind if kind in ENGINES else None


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
    """Return the plans that can compute a backbone's features on this machine, fastest first.

    The plans are deterministic.

    Args:
        backbone: Backbone that computes the features.
        engine: Name in `ENGINES`, or ``auto``: on a CPU openvino, if it is installed and there are enough images
            for the conversion to pay off (see `EngineKind.auto_from`), otherwise eager.
        precision: ``fp32``, ``bf16``, ``fp16``, or ``auto`` for those that the device supports natively.
        device: ``cpu``, ``cuda``, ``mps``, or ``auto`` for the first of cuda, mps, cpu that is available and
            supported by the engine.
        batch_size: Images per batch; None chooses by the device and its memory.
        images: Number of images in the data set.
        views: Views per image. A batch must hold at least the views of one image.

    Raises:
        EngineError: The engine, device or precision isn't available, or the batch size is too small.
    """
    if batch_size is not None and batch_size < views:
        needed = f"; a batch must hold the {views} views of an image" if views > 1 else ""
        raise EngineError(f"batch size {batch_size}; expected at least {views}{needed}")
    if precision not in ("auto", *get_args(Precision)):
        raise EngineError(f"precision {precision!r}; expected auto, {', '.join(get_args(Precision))}")
    chosen = _device(device, engine)
    kinds = _auto_kinds(chosen, precision, images) if engine == "auto" else {engine: ""}
    return tuple(
        Plan(name, each, chosen, batch_size or max(views, _auto_batch_size(name, backbone, chosen)), reason)
        for name, reason in kinds.items()
        for each in _precisions(precision, name, chosen)
    )


def _auto_kinds(device: Device, precision: str, images: int) -> Mapping[str, str]:
    """Return engines with the reason for their choice, fastest first. Those of other packages must be requested."""
    kinds = ((name, ENGINES.load(name)) for name in ENGINES.builtin)
    suited = [
        (kind.auto_from, name)
        for name, kind in kinds
        if kind.auto_from is not None and device in kind.devices and precision in ("auto", *kind.precisions)
    ]
    chosen = {}
    reason = f"the engine for {device}"
    for needed, name in sorted(suited, reverse=True):
        if missing := ENGINES.missing(name):
            reason = f"{name} is several times as fast, but {missing}"
        elif images < needed:
            reason = f"fewer than {needed} images don't repay converting the network"
        else:
            chosen[name] = f"{needed} images or more repay converting the network" if needed else reason
            reason = f"{name} can't be used with this network"
    return chosen


def _device(requested: str, engine: str) -> Device:
    known: dict[Device, bool] = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if requested != "auto" and requested not in known:
        raise EngineError(f"device {requested!r}; expected auto, {', '.join(known)}")
    available = [device for device, usable in known.items() if usable]
    if requested != "auto" and requested not in available:
        raise EngineError(
            f"device {requested!r} isn't available to torch {torch.__version__}; expected auto, {', '.join(available)}"
        )
    devices = get_args(Device) if engine == "auto" else ENGINES[engine].devices
    suited = [device for device in available if device in devices and requested in ("auto", device)]
    if not suited:
        unsuited = " or ".join(available) if requested == "auto" else requested
        raise EngineError(
            f"engine {engine!r} computes on {' or '.join(devices)}, not on {unsuited}; use another --engine or --device"
        )
    return suited[0]


def _precisions(requested: str, engine: str, device: Device) -> tuple[Precision, ...]:
    """Return the precisions to try, fastest first."""
    able = ENGINES[engine].precisions
    if requested == "auto":
        reduced: tuple[Precision, ...] = ("bf16",) if _native_bf16(device) else ()
        # fp16 is as fast as bf16 on a GPU and eight times as precise, but activations can exceed its range.
        reduced += ("fp16",) if device == "cuda" else ()
        return tuple(each for each in (*reduced, "fp32") if each in able) or able[:1]
    if requested not in able:
        raise EngineError(
            f"engine {engine!r} doesn't support precision {requested}; expected auto, {', '.join(able)}"
        )
    if requested == "fp16" and device == "cpu" and not _cpu_capabilities().get("amx_fp16"):
        raise EngineError("precision 'fp16' isn't supported by this CPU; expected auto, fp32 or bf16")
    return (requested,)


def _native_bf16(device: Device) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":
        return any(_cpu_capabilities().get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return False


def _cpu_capabilities() -> Mapping[str, Any]:
    """Return the CPU's capabilities by the names of `torch.cpu.get_capabilities`, which was added in torch 2.10."""
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
    else:
        found = {
            "amx_bf16": torch.cpu._is_amx_tile_supported(),  # noqa: SLF001  # the only checks in older versions
            "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),  # noqa: SLF001
        }
    there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if there and not torch.ops.mkldnn._is_mkldnn_bf16_supported():  # noqa: SLF001
        # oneDNN is limited to fewer instructions, e.g. by ONEDNN_MAX_CPU_ISA, and doesn't use the CPU's bf16.
        return {name: able for name, able in found.items() if "bf16" not in name}
    return found


def _auto_batch_size(engine: str, backbone: Backbone, device: Device) -> int:
    """Return the engine's batch size, or the largest power of two, up to `_MAX_BATCH`, that safely fits."""
    if own := ENGINES[engine].batch_size:
        return own
    if device != "cuda":
        return _CPU_BATCH
    largest = max(int(np.prod(info.shape)) for info in backbone.layers().values())
    free, _total = torch.cuda.mem_get_info()
    fitting = free // 2 // (largest * 4 * _LIVE_OUTPUTS)
    return max(1, min(_MAX_BATCH, 1 << max(0, fitting.bit_length() - 1)))


def make_engine(
    backbone: Backbone,
    layers: Sequence[Layer],
    *,
    engine: str = "eager",
    precision: str = "auto",
    device: str = "auto",
    batch_size: int | None = None,
) -> Engine:
    """Build the fastest engine of `plan_engines`, without comparing its features with the reference.

    Args:
        backbone: Backbone that computes the features. Its module is copied, never changed.
        layers: Layers from `Backbone.resolve_layers`.
        engine: See `plan_engines`.
        precision: See `plan_engines`.
        device: See `plan_engines`.
        batch_size: Images per batch; None chooses by the device and its memory.

    Raises:
        EngineError: The engine, device or precision isn't available, or the batch size isn't positive.
    """
    if not layers:
        raise EngineError("no layers to compute; expected at least one, from Backbone.resolve_layers")
    plans = plan_engines(backbone, engine=engine, precision=precision, device=device, batch_size=batch_size)
    return plans[0].build(backbone, layers)
