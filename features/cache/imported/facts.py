"""Specification of imported vectors: their name, what the user declares of them, and a digest of the numbers."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from frostline.features.errors import VectorsError
from frostline.features.spec import IMPORTED, Dtype, FeatureSpec, Layer, Transform

Content = Literal["images", "vectors"]

POOLS: Final = ("avg", "max", "gem", "cls")
"""Ends of the names of layers that are pooled, after a colon."""

_PREFIX = f"{IMPORTED}:"
_DECLARED = "declared."
_NEUTRAL = Transform(1, "squash", (1, 1), "nearest", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_LONGEST = 200  # characters of a name or a declared value
_MOST = 50  # declared facts


def imported_spec(
    name: str,
    layers: Sequence[Layer],
    *,
    dtype: Dtype,
    declared: Mapping[str, str],
    content: Content,
    numbers: str,
) -> FeatureSpec:
    """Return the specification of imported vectors.

    Weights and transform are unknown, so their fields are neutral and mean nothing.

    Args:
        name: Name of the vectors.
        layers: Layers.
        dtype: Number format in the file.
        declared: What the user says of their origin, such as ``{"model": "ViT-B/32"}``.
        content: What the digests in ``/content`` are made of: the bytes of the images, or the vectors themselves.
        numbers: Digest of the ids and vectors of all rows.
    """
    return FeatureSpec(
        backbone=f"{_PREFIX}{name}",
        weights_sha256="",
        transform=_NEUTRAL,
        layers=tuple(layers),
        precision="fp32",
        dtype=dtype,
        engine=IMPORTED,
        device="cpu",
        decoder="none",
        versions={
            "numbers": numbers,
            "content": content,
            **{f"{_DECLARED}{key}": value for key, value in declared.items()},
        },
    )


def imported_name(spec: FeatureSpec) -> str:
    """Return the name that imported vectors were given."""
    return spec.backbone.removeprefix(_PREFIX)


def declared_facts(spec: FeatureSpec) -> dict[str, str]:
    """Return what the user declared of imported vectors."""
    return {
        key.removeprefix(_DECLARED): value
        for key, value in spec.versions.items()
        if key.startswith(_DECLARED)
    }


def describe_imported(spec: FeatureSpec) -> str:
    """Return the name of imported vectors and what was declared of them: ``imported clip, declared model=ViT-B/32``."""
    declared = ", ".join(f"{key}={value}" for key, value in sorted(declared_facts(spec).items()))
    return f"imported {imported_name(spec)}, {f'declared {declared}' if declared else 'nothing declared'}"


def remedy(spec: FeatureSpec, extracted: str) -> str:
    """Return what makes a damaged cache whole: `extracted` for one of images, another import for imported vectors."""
    return "import the vectors again with --overwrite" if imported_name(spec) else extracted


def describe_vectors(spec: FeatureSpec) -> str:
    """Return what the vectors of any cache are: ``vectors that were imported clip, ...``, or ``features of NETWORK``."""
    return (
        f"vectors that were {describe_imported(spec)}" if spec.is_imported else f"features of {spec.backbone}"
    )


def tells_images(spec: FeatureSpec) -> bool:
    """Return whether the digests in ``/content`` are of the bytes of images, and not of the vectors themselves."""
    return not spec.is_imported or spec.versions.get("content") == "images"


def check_name(name: str) -> None:
    """Raise `VectorsError` unless a text can be the name of imported vectors."""
    if not name.strip() or len(name) > _LONGEST or not name.isprintable():
        raise VectorsError(
            f"name: got {name[:_LONGEST]!r}, expected 1 to {_LONGEST} printable characters, such as the name of the model"
        )


def check_declared(declared: Mapping[str, str]) -> dict[str, str]:
    """Return declared facts as texts.

    Raises:
        VectorsError: There are too many, or a name or a value is empty, too long or not printable.
    """
    if len(declared) > _MOST:
        raise VectorsError(f"declared: got {len(declared)} facts, expected at most {_MOST}")
    facts = {str(key): str(value) for key, value in declared.items()}
    for key, value in facts.items():
        for text in (key, value):
            if not text.strip() or len(text) > _LONGEST or not text.isprintable():
                raise VectorsError(
                    f"declared: got {key[:_LONGEST]!r}={value[:_LONGEST]!r}, expected 1 to {_LONGEST} printable characters"
                    " on each side, such as model=ViT-B/32"
                )
    return facts


def layer_of(key: str, dim: int) -> Layer:
    """Return the layer with a key, such as ``embedding`` or ``blocks.4:avg``.

    Raises:
        VectorsError: The key can't be the name of a layer.
    """
    if not key.strip() or not key.isprintable() or {"/", "+"} & {*key} or key in {".", "all", "none"}:
        raise VectorsError(
            f"layer {key!r}: expected a printable name without '/' and '+', and none of '.', 'all' and 'none'. Rename it"
        )
    name, _, pool = key.rpartition(":")
    return Layer(name, pool, dim) if name and pool in POOLS else Layer(key, "none", dim)
