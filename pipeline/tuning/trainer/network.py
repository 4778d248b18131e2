"""The network in training, its frozen stages, and the learning rates of the others."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from frostline.features.backbones import Stage
from frostline.features.backbones.forward.normalisation import Normalise
from frostline.features.spec import Transform
from frostline.pipeline.options.learning.recipe import Recipe
from frostline.pipeline.tuning.trainer.decay import decaying


class Network(nn.Module):
    """A backbone, or the part above its frost line, with a linear classifier on its embedding.

    Args:
        body: Module that maps (b, 3, h, w) normalised images, or (b, ...) activations, to a (b, dim) embedding.
        head: Linear layer that maps (b, dim) to (b, classes).
        transform: Image transform with the mean and standard deviation for normalisation; None for activations.
        dropout: Dropout probability of the embedding.
    """

    def __init__(self, body: nn.Module, head: nn.Linear, transform: Transform | None, dropout: float) -> None:
        super().__init__()
        self.normalise = Normalise(transform) if transform is not None else nn.Identity()
        self.body = body
        self.head = head
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute logits.

        Args:
            inputs: (b, 3, h, w) RGB from 0 to 255, or (b, ...) activations.

        Returns:
            (b, classes) logits.
        """
        logits: Tensor = self.head(self.dropout(self.body(self.normalise(inputs))))
        return logits


@dataclass(frozen=True)
class FrostLine:
    """The boundary between the frozen stages and the trained ones.

    Attributes:
        trunk: The whole backbone.
        stages: Stages of the backbone, the lowest first.
        frozen: Number of stages that are frozen in the first epoch.
        unfreeze_every: Number of epochs after which one more stage is unfrozen, repeatedly; None for a fixed line.
        keeps_statistics: Whether batch normalisation above the line also keeps its statistics.
    """

    trunk: nn.Module
    stages: Sequence[Stage]
    frozen: int
    unfreeze_every: int | None = None
    keeps_statistics: bool = False

    def frozen_at(self, epoch: int) -> int:
        """Return the number of frozen stages in an epoch, counted from 0."""
        return max(0, self.frozen - (epoch // self.unfreeze_every if self.unfreeze_every else 0))

    def name_at(self, epoch: int) -> str:
        """Return the name of the last frozen stage in an epoch."""
        return line_name(self.stages, self.frozen_at(epoch))

    def draw(self, epoch: int) -> None:
        """Set `requires_grad` of the parameters of all stages for an epoch."""
        frozen = self.frozen_at(epoch)
        for index, parameters in enumerate(self._parameters()):
            for parameter in parameters:
                parameter.requires_grad_(index >= frozen)

    def train(self, network: nn.Module, epoch: int) -> None:
        """Set a network to training mode, and its frozen modules to evaluation mode to keep their statistics."""
        network.train()
        for stage in self.stages[: self.frozen_at(epoch)]:
            for name in stage.modules:
                self.trunk.get_submodule(name).eval()
        if self.keeps_statistics:
            for module in network.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()

    def fingerprint(self, epoch: int) -> str:
        """Return the SHA-256 digest of the parameters and buffers that are frozen in an epoch."""
        digest = hashlib.sha256()
        frozen = self.frozen_at(epoch)
        for name, tensor in sorted(self.trunk.state_dict().items()):
            if self._stage_of(name) < frozen:
                digest.update(f"{name}\0".encode())
                digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def groups(self, network: Network, recipe: Recipe, *, from_scratch: bool) -> list[dict[str, Any]]:
        """Return parameter groups for an optimizer: one per learning rate, with and without weight decay.

        Parameters that are unfrozen later are included: without a gradient they are not updated.
        """
        lr = recipe.peak_lr(from_scratch=from_scratch)
        share = recipe.backbone_share(from_scratch=from_scratch)
        rates = {id(parameter): lr for parameter in network.parameters()}
        for index, parameters in enumerate(self._parameters()):
            below = len(self.stages) - index
            for parameter in parameters:
                rates[id(parameter)] = lr * share * recipe.layer_decay**below
        frozen = {
            id(parameter)
            for parameters in self._parameters()[: self.frozen_at(recipe.epochs - 1)]
            for parameter in parameters
        }
        decays = decaying(self.trunk) | decaying(network.head)
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for parameter in network.parameters():
            if id(parameter) not in frozen:
                groups.setdefault((rates[id(parameter)], id(parameter) in decays), []).append(parameter)
        return [
            {"params": parameters, "lr": rate, "weight_decay": recipe.decay() if decay else 0.0}
            for (rate, decay), parameters in groups.items()
        ]

    def _parameters(self) -> list[list[nn.Parameter]]:
        """Return the parameters of each stage."""
        found: list[list[nn.Parameter]] = [[] for _ in self.stages]
        for name, parameter in self.trunk.named_parameters():
            found[self._stage_of(name)].append(parameter)
        return found

    def _stage_of(self, name: str) -> int:
        return next(index for index, stage in enumerate(self.stages) if stage.owns(name))


def single_value_norms(network: nn.Module, inputs: Tensor) -> list[str]:
    """Return the names of the batch normalisations that would be trained on one value per channel, which torch refuses.

    Args:
        network: Network in the mode of training. It is left in evaluation mode, and its statistics stay.
        inputs: (1, ...) inputs of one image.
    """
    names: list[str] = []

    def look(name: str, values: Tensor) -> None:
        if values.numel() == values.shape[1]:
            names.append(name)

    training = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm) and module.training
    }
    hooks = [
        module.register_forward_pre_hook(lambda _module, given, name=name: look(name, given[0]))
        for name, module in training.items()
    ]
    try:
        with torch.inference_mode():
            network.eval()(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return names


def line_name(stages: Sequence[Stage], frozen: int) -> str:
    """Return the name of the frost line above the given number of frozen stages."""
    if frozen == len(stages):
        return "all"
    return stages[frozen - 1].name if frozen else "none"
