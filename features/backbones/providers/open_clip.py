"""Image towers of open_clip: ``open_clip:NAME/PRETRAINED``, e.g. ``open_clip:ViT-B-32/laion2b_s34b_b79k``."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from frostline.features.backbones.network import Availability, Network
from frostline.features.backbones.readout import OutputReadout
from frostline.features.backbones.weights import (
    download_error,
    load_file,
    seed_of_random_weights,
    seeded,
)
from frostline.features.errors import BackboneError
from frostline.features.spec import Transform


class OpenClipSource:
    """Source of CLIP-like models. The embedding is that of the image tower, in the space shared with text."""

    prefix = "open_clip"

    def names(self) -> Iterator[str]:
        """Iterate over every pretrained tag of every model."""
        import open_clip

        return (f"{model}/{tag}" for model, tag in open_clip.list_pretrained())

    def find(self, name: str) -> str | None:
        """Return the name itself, because there is no default tag, or None if it is unknown."""
        return name if name in self.names() else None

    def build(self, name: str, weights: str | Path | None) -> Network:
        """Build the image tower.

        Raises:
            WeightsError: The weights are not available or don't fit.
        """
        import open_clip

        architecture, _, tag = name.partition("/")
        seed = seed_of_random_weights(weights)
        try:
            with seeded(seed or 0):
                model: Any = open_clip.create_model(architecture, pretrained=tag if weights is None else None)
        except (OSError, RuntimeError, ValueError) as error:
            remedy = "Download them on a machine with network access and pass --weights FILE"
            raise download_error(f"open_clip:{name}", "the location in open_clip", error, remedy) from error
        module = model.visual
        note = load_file(module, weights).note if weights is not None and seed is None else ""
        settings = open_clip.get_model_preprocess_cfg(model) | open_clip.get_pretrained_cfg(architecture, tag)
        return Network(
            module=module,
            transform=_transform(settings),
            readout=OutputReadout(),
            weights=str(weights) if weights is not None else f"pretrained, open_clip {tag}",
            versions={"open_clip": open_clip.__version__},
            note=note,
        )

    def availability(self, name: str) -> Availability:
        """Return whether the Hugging Face hub's cache holds the weights."""
        import open_clip
        from huggingface_hub import try_to_load_from_cache

        architecture, _, tag = name.partition("/")
        config: Mapping[str, Any] = open_clip.get_pretrained_cfg(architecture, tag)
        repository = str(config.get("hf_hub", "")).rstrip("/")
        files = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
        found = repository and any(
            isinstance(try_to_load_from_cache(repository, file), str) for file in files
        )
        return "local" if found else "download"

    def version(self) -> str:
        """Return the version of open_clip."""
        import open_clip

        return f"open_clip {open_clip.__version__}"


OPEN_CLIP = OpenClipSource()


def _transform(settings: Mapping[str, Any]) -> Transform:
    size = settings["size"]
    height, width = (size, size) if isinstance(size, int) else size
    squash = settings["resize_mode"] == "squash"
    if not squash and height != width:
        raise BackboneError(
            f"open_clip input of {height} x {width} pixels; expected a square, or resize_mode squash"
        )
    return Transform(
        resize=(height, width) if squash else height,
        resize_mode=settings["resize_mode"],
        crop=(height, width),
        interpolation=settings["interpolation"],
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
    )
