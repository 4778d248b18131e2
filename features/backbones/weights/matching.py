"""Comparison of the tensors of a file with those of a network, and loading them by name."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from frostline.features.backbones.weights.errors import some
from frostline.features.errors import WeightsError

# Usual names of classifiers, and of parts that only the training of a network needs: decoders of masked
# autoencoders, projections and queues of contrastive learning, auxiliary classifiers and losses.
_CLASSIFIERS = ("classifier", "fc", "head", "head_dist", "heads", "last_linear", "linear", "_fc")
_TRAINING_ONLY = (
    "aux",
    "criterion",
    "decoder",
    "dino_",
    "ibot_",
    "lm_head",
    "logit_bias",
    "logit_scale",
    "loss",
    "mask_token",
    "n_averaged",
    "predictor",
    "proj_head",
    "projection",
    "projector",
    "prototypes",
    "queue",
)
_VARIANCE = "running_var"  # of batch normalisation


@dataclass(frozen=True)
class Differences:
    """Differences between the tensors of a file and those of a network.

    Attributes:
        missing: Names that are missing in the file.
        unexpected: Names that the network does not have.
        reshaped: Names with different shapes, and a description of both shapes.
        unused: Names that the network does not have and does not need: those of a classifier or of training.
        whole: Whether the file holds the network's classifier.
    """

    missing: Sequence[str]
    unexpected: Sequence[str]
    reshaped: Mapping[str, str]
    unused: Sequence[str] = ()
    whole: bool = True

    @classmethod
    def between(
        cls, ours: Mapping[str, Tensor], state: Mapping[str, Tensor], classifier: Iterable[str] = ()
    ) -> Self:
        """Compare tensors with those of a network.

        Args:
            ours: Tensors of the network.
            state: Tensors of the file.
            classifier: Names of the network's modules that compute class scores. Their tensors may be missing,
                have another shape, or belong to other modules.
        """
        # The batch counter matters only in training, and files of early torch versions lack it.
        missing = [key for key in ours if key not in state and not key.endswith("num_batches_tracked")]
        shapes = {key: (tuple(state[key].shape), tuple(ours[key].shape)) for key in ours if key in state}
        found = cls(
            missing=missing,
            unexpected=[key for key in state if key not in ours],
            reshaped={
                key: f"{key} {got}, expected {wanted}"
                for key, (got, wanted) in shapes.items()
                if got != wanted
            },
        )
        return found._without(ours, state, tuple(classifier))

    @property
    def count(self) -> int:
        """Number of differences that prevent loading."""
        return len(self.missing) + len(self.unexpected) + len(self.reshaped)

    def describe(self) -> str:
        """Return a description of the differences; empty for none."""
        problems = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "of another shape": list(self.reshaped.values()),
        }
        return "; ".join(f"{len(keys)} {what}: {some(keys)}" for what, keys in problems.items() if keys)

    def _without(
        self, ours: Mapping[str, Tensor], state: Mapping[str, Tensor], classifier: tuple[str, ...]
    ) -> Self:
        """Return the differences without those that concern the classifier or training only."""
        heads = tuple(f"{name}." for name in classifier)
        tops = {key.partition(".")[0] for key in ours}
        extra = [key for key in self.unexpected if _is_unneeded(key, tops, classifier)]
        unneeded = set(extra)
        whole = not any(key.startswith(heads) for key in (*self.missing, *self.reshaped, *self.unexpected))
        if not whole:
            extra += [key for key in ours if key.startswith(heads) and key in state]
        return replace(
            self,
            missing=[key for key in self.missing if not key.startswith(heads)],
            unexpected=[key for key in self.unexpected if key not in unneeded],
            reshaped={key: text for key, text in self.reshaped.items() if not key.startswith(heads)},
            unused=extra,
            whole=whole,
        )


def _is_unneeded(key: str, tops: set[str], classifier: tuple[str, ...]) -> bool:
    """Return whether a tensor that the network lacks belongs to another classifier, or to training only."""
    top = key.partition(".")[0]
    if top not in tops:
        return top in _CLASSIFIERS or top.startswith(_TRAINING_ONLY)
    return any(_is_of_classifier(key, name) for name in classifier)


def _is_of_classifier(key: str, name: str) -> bool:
    """Return whether a tensor lies in, after or in place of the classifier `name`.

    ``classifier.6.1.weight`` and ``classifier.7.weight`` do for the classifier ``classifier.6``, and so does
    ``head.weight`` for ``head.fc``. ``head.pre_logits.weight`` doesn't: it changes the embedding.
    """
    if key.startswith(f"{name}."):
        return True
    parent, _, last = name.rpartition(".")
    if not parent or not key.startswith(f"{parent}."):
        return False
    part, *below = key.removeprefix(f"{parent}.").split(".")
    return not below or (part.isdigit() and last.isdigit() and int(part) > int(last))


def match(
    module: nn.Module, state: Mapping[str, Tensor], *, where: str, classifier: Iterable[str] = ()
) -> bool:
    """Load `state` into `module`, name by name.

    Args:
        module: Module that receives the weights.
        state: Tensors by name.
        where: Name of the weights in error messages.
        classifier: Names of modules that compute class scores, whose tensors need not fit.

    Returns:
        True if the classifier was loaded as well; otherwise no part of it was loaded.

    Raises:
        WeightsError: Names are missing or unexpected, or shapes differ. The message lists them, and nothing is
            loaded.
    """
    ours = module.state_dict()
    differences = Differences.between(ours, state, classifier)
    if problems := differences.describe():
        raise misfit(where, len(ours), problems)
    unused = set(differences.unused)
    load_tensors(module, {key: value for key, value in state.items() if key not in unused}, strict=False)
    return differences.whole


def misfit(where: str, count: int, problems: str) -> WeightsError:
    """Return the error for weights of another network.

    Args:
        where: Name of the weights.
        count: Number of tensors of the network.
        problems: Description of the differences.
    """
    return WeightsError(
        f"weights {where} don't fit this backbone, which has {count} tensors: {problems}. "
        "Use the backbone that the weights were saved from, or rename the keys"
    )


def load_tensors(module: nn.Module, state: Mapping[str, Tensor], *, strict: bool = True) -> None:
    """Load parameters and buffers by name, like `torch.nn.Module.load_state_dict`.

    A safetensors file holds only names and tensors. Its state is assumed to have the versions of the module's own
    submodules, because modules such as torchvision's MNASNet reject a state dict without versions.

    Args:
        module: Module that receives the tensors.
        state: Tensors by name.
        strict: Whether a missing name is an error as well.

    Raises:
        RuntimeError: Names or shapes differ.
    """
    versioned = module.state_dict()
    for name in [*versioned] if strict else ():
        if name not in state:
            del versioned[name]
    versioned.update(state)
    module.load_state_dict(versioned)


def usable(state: Mapping[str, Tensor], ours: Mapping[str, Tensor], *, where: str) -> dict[str, Tensor]:
    """Return tensors in number formats that can be loaded and computed with.

    Args:
        state: Tensors by name, all of which the network has.
        ours: Tensors of the network.
        where: Name of the weights in error messages.

    Raises:
        WeightsError: A tensor has numbers that can't be the weights of a network.
    """
    return {key: _usable(key, tensor, ours[key], where) for key, tensor in state.items()}


def _usable(key: str, tensor: Tensor, ours: Tensor, where: str) -> Tensor:
    if tensor.layout != torch.strided:
        raise WeightsError(
            f"weights {where}: {key} is a sparse tensor; expected a dense one: save {key}.to_dense()"
        )
    if tensor.is_complex():
        raise WeightsError(
            f"weights {where}: {key} holds complex numbers ({tensor.dtype}); expected real ones. Save the weights of a "
            "network of real numbers"
        )
    if not ours.is_floating_point():
        return tensor
    if not tensor.is_floating_point():
        raise WeightsError(
            f"weights {where}: {key} holds integers ({tensor.dtype}) without their scale; expected floating-point "
            "numbers. Save the weights before they are quantised, or multiplied by their scales"
        )
    try:
        numbers = tensor.to(ours.dtype)
    except (NotImplementedError, RuntimeError) as error:
        raise WeightsError(
            f"weights {where}: {key} has numbers of the type {tensor.dtype}, which this PyTorch can't convert to {ours.dtype};"
            " expected floating-point numbers. Save the weights as float32"
        ) from error
    if not numbers.isfinite().all():
        bad = int((~numbers.isfinite()).sum())
        raise WeightsError(
            f"weights {where}: {key}: {bad} of {numbers.numel()} numbers are NaN or infinite; expected finite ones. The "
            "training diverged, or the file is damaged: use an earlier checkpoint, or copy the file again"
        )
    if key.rpartition(".")[2] == _VARIANCE and (numbers < 0).any():
        raise WeightsError(
            f"weights {where}: {key}: {int((numbers < 0).sum())} of {numbers.numel()} variances are negative, and features"
            " would be NaN; expected zero or more. The file is damaged, or not of this network: copy it again"
        )
    return numbers
