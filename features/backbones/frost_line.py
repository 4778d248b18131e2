"""Trainable copies of a network, and its parts below and above a line between two stages."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from frostline.features.backbones.backbone import Backbone
from frostline.features.backbones.stages import Stage
from frostline.features.errors import BackboneError

_EQUAL = 1e-3  # relative tolerance for equal embeddings; a lost connection causes a far larger difference
_PROBE = 2  # images


def trunk(backbone: Backbone) -> nn.Module:
    """Return a trainable copy of the network without its classifier. Every parameter requires a gradient.

    Returns:
        Module in evaluation mode. It maps (b, 3, h, w) normalised images to the ``embedding`` layer, (b, dim).
    """
    module = copy.deepcopy(backbone.module)
    backbone.network.readout.without_classifier(module)
    return module.requires_grad_(requires_grad=True)


class Lower(nn.Module):
    """Part of a network below a line, from images to the activations at the line. Nothing above it is computed.

    Args:
        trunk: Module from `trunk`. Its modules below the line are shared, not copied.
        stages: Stages of its backbone.
        line: Position of the last stage below the line.
    """

    def __init__(self, trunk: nn.Module, stages: Sequence[Stage], line: int) -> None:
        super().__init__()
        below, above, end = _cut(stages, line)
        parts: dict[str, nn.Module] = {name: nn.Identity() for stage in above for name in stage.modules}
        parts |= {name: trunk.get_submodule(name) for stage in below for name in stage.modules}
        parts[end] = _LastModule(parts[end])
        self.network = _rebuilt(trunk, parts, _tensors(below), _tensors(above))

    def forward(self, images: Tensor) -> Tensor:
        """Compute the activations at the line.

        Args:
            images: (b, 3, h, w) normalised images.

        Returns:
            (b, *shape) activations, with the shape of the last stage below the line.
        """
        try:
            self.network(images)
        except _Reached as reached:
            return reached.activations
        raise BackboneError("the forward pass never reached the line; choose another line")


class Upper(nn.Module):
    """Part of a network above a line, from activations to the embedding, run by the network's own forward pass.

    The modules below the line are replaced by placeholders that return zeros without using memory. Modules above
    the line may depend on them only through the activations. The constructor checks this on random images.
    Parameters, state and training mode cover only the part above the line. Names are those of the trunk with the
    prefix ``network.``.

    Args:
        trunk: Module from `trunk`. Its modules above the line are shared, not copied.
        stages: Stages of its backbone.
        line: Position of the last stage below the line.
        size: (height, width) of the images in pixels.

    Raises:
        BackboneError: The network can't be cut at this line. The message says what to do instead.
    """

    def __init__(self, trunk: nn.Module, stages: Sequence[Stage], line: int, size: tuple[int, int]) -> None:
        super().__init__()
        below, above, end = _cut(stages, line)
        self._feed = _Feed(size)
        with _evaluating(trunk), torch.no_grad():
            outputs, embedding = _probe(trunk, [name for stage in below for name in stage.modules], size)
            activations = outputs[end]
            _check_shape(activations, stages[line], size)
            kept: dict[str, nn.Module] = {
                name: trunk.get_submodule(name) for stage in above for name in stage.modules
            }
            forwards = {name: _ReturnZeros(self._feed, output) for name, output in outputs.items()}
            modules = stages[line].modules
            given = dict.fromkeys(
                modules[modules.index(end) :], _ReturnActivations(self._feed)
            )  # modules after the end of a stage pass their input through
            left_out = {
                name: _placeholder(trunk.get_submodule(name), forward)
                for name, forward in (forwards | given).items()
            }
            self.network = _rebuilt(trunk, kept | left_out, _tensors(above), _tensors(below))
            self._check_embedding(activations, embedding, stages[line])

    def forward(self, activations: Tensor) -> Tensor:
        """Compute the embedding.

        Args:
            activations: (b, *shape), with the shape of the last stage below the line. They may be overwritten.

        Returns:
            (b, dim) embedding.
        """
        self._feed.activations = activations
        try:
            embedding: Tensor = self.network(self._feed.zeros((3, *self._feed.size)))
        finally:
            self._feed.activations = None
        return embedding

    def _check_embedding(self, activations: Tensor, embedding: Tensor, stage: Stage) -> None:
        remedy = "Draw the line elsewhere, or train without cached activations"
        try:
            ours = self(activations.clone())
        except (RuntimeError, TypeError, ValueError) as error:
            raise BackboneError(
                f"the network can't be run from the end of stage {stage.name!r} on: {error}. {remedy}"
            ) from error
        if ours.shape != embedding.shape or (ours - embedding).norm() > _EQUAL * embedding.norm():
            raise BackboneError(
                f"the network above stage {stage.name!r} depends on more than its output: a connection skips the line. "
                f"{remedy}"
            )


class _Reached(Exception):  # noqa: N818  # control flow, not an error
    """Signal that ends a forward pass at the line."""

    def __init__(self, activations: Tensor) -> None:
        super().__init__()
        self.activations = activations


class _LastModule(nn.Module):
    """Wrapper of the last module below the line. It ends the forward pass."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        raise _Reached(self.module(*args, **kwargs))


class _Feed:
    """Activations of the current forward pass, shared by the placeholders below the line."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.activations: Tensor | None = None

    @property
    def given(self) -> Tensor:
        if self.activations is None:
            raise BackboneError("no activations; call the part above the line as a whole, not its modules")
        return self.activations

    def zeros(self, shape: Iterable[int]) -> Tensor:
        """Return zeros of a shape for each image, expanded from a single number."""
        return self.given.new_zeros(()).expand(len(self.given), *shape)


class _ReturnActivations:
    """Forward pass that ignores its arguments and returns the activations."""

    def __init__(self, feed: _Feed) -> None:
        self._feed = feed

    def __call__(self, *_args: Any, **_kwargs: Any) -> Tensor:
        return self._feed.given


class _ReturnZeros:
    """Forward pass that returns zeros in the shape of the output of a module below the line."""

    def __init__(self, feed: _Feed, output: Any) -> None:
        self._feed = feed
        self._output = tree_map_only(Tensor, lambda tensor: _Shape(tensor.shape[1:]), output)

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        return tree_map_only(_Shape, lambda shape: self._feed.zeros(shape.sizes), self._output)


class _Shape:
    """Shape as a leaf of a nested output."""

    def __init__(self, sizes: Iterable[int]) -> None:
        self.sizes = tuple(sizes)


def _placeholder(module: nn.Module, forward: Callable[..., Any]) -> nn.Module:
    """Return a placeholder with another forward pass, but with the module's plain attributes and methods."""
    placeholder = module.__new__(type(module))
    nn.Module.__init__(placeholder)
    own = {name: value for name, value in vars(module).items() if name not in vars(placeholder)}
    stateless = {"_load_from_state_dict": _nothing, "_save_to_state_dict": _nothing, "extra_repr": _no_text}
    vars(placeholder).update(own, forward=forward, **stateless)
    return placeholder


def _nothing(*_args: object, **_kwargs: object) -> None:
    pass


def _no_text() -> str:
    return ""


def _cut(stages: Sequence[Stage], line: int) -> tuple[Sequence[Stage], Sequence[Stage], str]:
    """Return the stages below and above the line, and the name of the module that ends the lower ones.

    Raises:
        BackboneError: No stage is above the line.
    """
    if not 0 <= line < len(stages) - 1:
        raise BackboneError(
            f"a line after stage {line} of {len(stages)} has nothing to train above it; expected 0 to {len(stages) - 2}"
        )
    return stages[: line + 1], stages[line + 1 :], stages[line].end


def _tensors(stages: Iterable[Stage]) -> list[str]:
    return [name for stage in stages for name in stage.tensors]


def _rebuilt(
    trunk: nn.Module, parts: Mapping[str, nn.Module], shared: Iterable[str], constant: Iterable[str]
) -> nn.Module:
    """Copy the containers of the trunk around other modules.

    Args:
        trunk: Module that defines the forward pass.
        parts: Replacement modules by qualified name. They are not copied.
        shared: Names of the containers' tensors that belong to this part of the network.
        constant: Names of the containers' tensors that belong to the other part. They become non-persistent
            buffers.
    """
    tensors = dict([*trunk.named_parameters(), *trunk.named_buffers()])
    memo: dict[int, Any] = {id(tensors[name]): tensors[name] for name in (*shared, *constant)}
    memo |= {id(trunk.get_submodule(name)): part for name, part in parts.items()}
    rebuilt = copy.deepcopy(trunk, memo)
    for name in constant:
        owner, _, leaf = name.rpartition(".")
        parent = rebuilt.get_submodule(owner)
        delattr(parent, leaf)
        parent.register_buffer(leaf, tensors[name].detach(), persistent=False)
    return rebuilt


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Set evaluation mode temporarily, and restore the mode of each submodule afterwards."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def _probe(trunk: nn.Module, names: Sequence[str], size: tuple[int, int]) -> tuple[dict[str, Any], Tensor]:
    """Return the output of each named module for a few random images, and their embedding."""
    parameter = next(trunk.parameters())
    images = torch.randn(_PROBE, 3, *size, generator=torch.Generator().manual_seed(0)).to(parameter)
    outputs: dict[str, Any] = {}

    def keep(name: str) -> Any:
        def hook(_part: nn.Module, _inputs: object, output: Any) -> None:
            if name in outputs:
                raise BackboneError(
                    f"module {name!r} runs more than once in a forward pass, so the network can't be cut after it; train "
                    "without cached activations"
                )
            # a later module may overwrite its input
            outputs[name] = tree_map_only(Tensor, Tensor.clone, output)

        return hook

    handles = [trunk.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        embedding: Tensor = trunk(images)
    finally:
        for handle in handles:
            handle.remove()
    return outputs, embedding


def _check_shape(activations: object, stage: Stage, size: tuple[int, int]) -> None:
    got = tuple(activations.shape[1:]) if isinstance(activations, Tensor) else type(activations).__name__
    if got != stage.shape:
        raise BackboneError(
            f"stage {stage.name!r} returns {got} for images of {size[0]} x {size[1]} pixels; expected {stage.shape}, the "
            "shape for the backbone's own transform: use its size, or a backbone with another transform"
        )
