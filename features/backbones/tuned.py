"""Fine-tuned backbones: ``run:DIR``.

A tuned backbone has the architecture of its base without the classifier, other weights, and possibly another
transform. Its folder holds ``backbone.safetensors`` (parameters and buffers) and ``backbone.json`` (base,
transform and digest).
"""

import dataclasses
import reprlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from safetensors.torch import save
from torch import nn

from frostline.features.backbones.backbone import Backbone
from frostline.features.backbones.providers.registry import find
from frostline.features.backbones.weights import fingerprint, match, read_weights
from frostline.features.errors import BackboneError, WeightsError
from frostline.features.spec import Transform
from frostline.files.checksums import read_listed
from frostline.files.documents import MAX_BYTES, Document, Name, Sha256
from frostline.system.atomic import replace_file
from frostline.system.files import resolved

TUNED = "run:"  # prefix of the folder

_FORMAT = "frostline backbone"
_FORMAT_VERSION = 1
TUNED_RECORD, TUNED_WEIGHTS = "backbone.json", "backbone.safetensors"
_REMEDY = "Restore the file from a copy, or train again."


@dataclass(frozen=True)
class TunedRecord:
    """Content of ``backbone.json``.

    Attributes:
        format: ``frostline backbone``.
        format_version: Version of the format.
        backbone: Name of the base.
        transform: Preprocessing from image to input.
        weights_sha256: Digest of the weights.
    """

    format: str
    format_version: int
    backbone: Name
    transform: Transform
    weights_sha256: Sha256


def save_tuned(folder: str | Path, backbone: Backbone, trunk: nn.Module, transform: Transform) -> None:
    """Save a trained backbone, so that it can be loaded as ``run:FOLDER``.

    Args:
        folder: Output folder, created if missing.
        backbone: Base backbone, which defines the architecture.
        trunk: Trained module from `frostline.features.backbones.frost_line.trunk`.
        transform: Preprocessing from image to input that was used in training.
    """
    folder = Path(folder)
    # safetensors accepts only contiguous tensors that share no memory
    state = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in trunk.state_dict().items()
    }
    record = TunedRecord(_FORMAT, _FORMAT_VERSION, backbone.name, transform, fingerprint(trunk))
    replace_file(folder / TUNED_WEIGHTS, save(state))
    replace_file(folder / TUNED_RECORD, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


def load_tuned(folder: str | Path) -> Backbone:
    """Load the backbone that `save_tuned` wrote to `folder`. It has the name of its base.

    Raises:
        BackboneError: The folder holds no backbone, or a later version wrote it.
        WeightsError: The weights differ from the saved ones, or don't fit the base.
    """
    folder = Path(folder)
    record = read_tuned_record(folder)
    source, name = find(record.backbone)
    network = source.build(name, "random")
    readout = network.readout.without_classifier(network.module)
    file = folder / TUNED_WEIGHTS
    match(network.module, read_weights(file), where=str(file))
    tuned = dataclasses.replace(network, readout=readout, transform=record.transform, weights=str(file))
    backbone = Backbone(f"{source.prefix}:{name}", tuned, origin=str(resolved(file)))
    if backbone.weights_sha256 != record.weights_sha256:
        raise WeightsError(
            f"weights {file}: their SHA-256 is {backbone.weights_sha256}, expected {record.weights_sha256} of {TUNED_RECORD}; "
            "they were changed or damaged after training. Copy the folder again, or train again"
        )
    return backbone


def read_tuned_record(folder: Path) -> TunedRecord:
    """Read ``backbone.json``.

    Raises:
        BackboneError: The file is missing, malformed or of a later version, or was changed.
    """
    path = folder / TUNED_RECORD
    try:
        text = read_listed(folder, TUNED_RECORD, raises=BackboneError, remedy=_REMEDY, limit=MAX_BYTES)
    except FileNotFoundError as error:
        raise BackboneError(
            f"backbone {TUNED}{folder}: no {TUNED_RECORD} found ({error.strerror}); expected an output folder of frostline finetune. "
            "A run of train-head has no backbone of its own: use the backbone of its cache"
        ) from error
    described = Document(path, "the record of a backbone", _REMEDY, BackboneError)
    document = described.parse(text)
    found = document.get("format"), document.get("format_version")
    if found != (_FORMAT, _FORMAT_VERSION) or isinstance(found[1], bool):
        raise BackboneError(
            f"{path}: format {reprlib.repr(found[0])} {reprlib.repr(found[1])}; expected {_FORMAT!r} {_FORMAT_VERSION}. Update "
            "Frostline if a newer version wrote it"
        )
    return described.convert(document, TunedRecord)
