"""Specification of everything that a feature vector depends on. Its digest is the cache key."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeAlias

import msgspec

from frostline.files.documents import convert, parse_json

FORMAT_VERSION = 1

Precision = Literal["fp32", "bf16", "fp16"]
Dtype = Literal["float32", "float16", "bfloat16"]

MIN_COSINE = 0.999
"""Numerical contract: smallest cosine similarity to eager fp32, over the checked images, at which features
computed in different ways may be combined. It is also the default threshold of ``auto``."""

_COMPUTATION = frozenset({"engine", "device", "precision", "versions.torch"})

IMPORTED = "imported"
"""Engine of vectors that were computed elsewhere, and the first part of their backbone; see `cache.imported.facts`."""

_IMPORTED_ROWS = frozenset({"versions.numbers", "versions.content"})


_MAX_SIZE = 2**31
_MAX_LEVEL = 1e6  # of the mean and std of pixels
Size: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=_MAX_SIZE)]
Whole: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Difference(NamedTuple):
    """One field in which two specifications differ."""

    field: str
    ours: Any
    theirs: Any

    @property
    def is_of_computation(self) -> bool:
        """Whether the field concerns how features were computed (engine, device, precision, torch version)."""
        return self.field in _COMPUTATION

    @property
    def is_of_imported_rows(self) -> bool:
        """Whether the field tells which rows were imported, and not how their vectors were made."""
        return self.field in _IMPORTED_ROWS


@dataclass(frozen=True)
class Layer:
    """One output of a backbone and its pooling into a vector.

    Attributes:
        name: Name of the layer, e.g. ``embedding`` or ``blocks.4``.
        pool: ``avg``, ``max``, ``gem``, ``cls`` or ``none``.
        dim: Length of the resulting vector.
    """

    name: str
    pool: str
    dim: Size

    @property
    def key(self) -> str:
        """Name of the layer's dataset in a cache: ``blocks.4:avg``, or ``embedding`` without pooling."""
        return self.name if self.pool == "none" else f"{self.name}:{self.pool}"


@dataclass(frozen=True)
class Transform:
    """Preprocessing from an image to the network's input: resize, centre crop (padding small images), normalise.

    Attributes:
        resize: Length in pixels of the side that ``resize_mode`` names, or (height, width) for ``squash``.
        resize_mode: ``shortest`` side to ``resize``, ``longest`` side to ``resize``, or ``squash`` to an exact
            size.
        crop: (height, width) in pixels of the network's input.
        interpolation: ``nearest``, ``bilinear``, ``bicubic``, ``lanczos``, ``box`` or ``hamming``, antialiased.
        mean: Per-channel mean subtracted from pixels in [0, 1], RGB.
        std: Per-channel divisor.
    """

    resize: int | tuple[Size, Size]  # msgspec 0.22 crashes for a bounded number in a union with a tuple
    resize_mode: Literal["shortest", "longest", "squash"]
    crop: tuple[Size, Size]
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if isinstance(self.resize, int) and not 1 <= self.resize <= _MAX_SIZE:
            raise ValueError(f"expected resize to be 1 to {_MAX_SIZE}, it is {self.resize}")
        for name, low in (("mean", -_MAX_LEVEL), ("std", 1 / _MAX_LEVEL)):
            values = getattr(self, name)
            if len(values) != 3 or not all(low <= value <= _MAX_LEVEL for value in values):
                raise ValueError(
                    f"expected {name} to be three numbers from {low:g} to {_MAX_LEVEL:g}, it is {values}"
                )

    def at_size(self, side: int) -> "Transform":
        """Return this transform for an input of (side, side) pixels. The ratio of resize to crop is kept.

        Raises:
            ValueError: `side` is less than 1.
        """
        if side < 1:
            raise ValueError(f"image size: got {side}, expected at least 1 pixel")
        rows, columns = self.crop
        if isinstance(self.resize, int):
            resize: int | tuple[int, int] = max(side, round(self.resize * side / min(rows, columns)))
        else:
            resize = (
                max(1, round(self.resize[0] * side / rows)),
                max(1, round(self.resize[1] * side / columns)),
            )
        return dataclasses.replace(self, resize=resize, crop=(side, side))


@dataclass(frozen=True)
class FeatureSpec:
    """Specification of everything that a feature vector depends on.

    Batch size, number of workers and file names are excluded.

    Attributes:
        backbone: Full name, e.g. ``timm:resnet18.a1_in1k``.
        weights_sha256: Digest of the backbone's parameters and buffers.
        transform: Preprocessing from image to network input.
        layers: Stored layers, one dataset each.
        precision: Number format of the forward pass.
        dtype: Number format in the file.
        engine: Name of the engine that executed the forward pass, with its version and settings.
        device: ``cpu``, ``cuda`` or ``mps``.
        decoder: Library and version that decoded the image files.
        versions: Versions of the libraries that affect the numbers.
        views: Augmented passes per image; 1 is the plain image.
        seed: Random seed of the views.
        format_version: Version of the specification.
    """

    backbone: str
    weights_sha256: str
    transform: Transform
    layers: tuple[Layer, ...]
    precision: Precision
    dtype: Dtype
    engine: str
    device: str
    decoder: str
    versions: Mapping[str, str] = field(hash=False)
    views: Size = 1
    seed: Whole = 0
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """Return the canonical JSON text: sorted keys, no spaces, ASCII."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"), default=dict)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse a specification from the text that `to_json` returns.

        Raises:
            ValueError: The text is not such a JSON document; the message names the field.
        """
        spec = convert(parse_json(text), cls)
        if spec.to_json() != text:
            raise ValueError(f"not a canonical specification; got {text!r}, expected {spec.to_json()!r}")
        return spec

    @property
    def digest(self) -> str:
        """Cache key: SHA-256 of the canonical JSON, 64 hexadecimal digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def is_reference(self) -> bool:
        """Whether the features were computed by the reference, eager fp32."""
        return engine_kind(self.engine) == "eager" and self.precision == "fp32"

    @property
    def is_imported(self) -> bool:
        """Whether the vectors were computed elsewhere and imported."""
        return engine_kind(self.engine) == IMPORTED

    def differences(self, other: Self) -> list[Difference]:
        """Return the fields in which `other` differs from this specification, sorted by dotted name."""
        ours, theirs = _flatten(dataclasses.asdict(self)), _flatten(dataclasses.asdict(other))
        return [
            Difference(name, ours.get(name), theirs.get(name))
            for name in sorted({*ours, *theirs})
            if ours.get(name) != theirs.get(name)
        ]


def engine_kind(name: str) -> str:
    """Return an engine's kind: its name in a specification without version and settings."""
    return name.replace(",", " ").partition(" ")[0]


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if name == "layers":
            flat[name] = ", ".join(Layer(**layer).key for layer in value)
        elif isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
