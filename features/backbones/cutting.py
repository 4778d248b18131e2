"""A trainable copy of a network, and what lies above and below a line between two of its stages."""

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

_EQUAL = 1e-3  # relative difference of embeddings that are the same, computed twice; a lost connection changes far more
_PROBE = 2  # images


def trunk(backbone: Backbone) -> nn.Module:
    """A copy of the network to be trained, its classifier taken off and every parameter requiring a gradient.

    Returns:
        In evaluation mode; (b, 3, h, w) normalised images to the ``embedding`` layer, (b, dim).
    """
    module = copy.deepcopy(backbone.module)
    backbone.network.readout.without_classifier(module)
    return module.requires_grad_(requires_grad=True)


class Lower(nn.Module):
    """What lies below a line: images to the activations there. Nothing above is computed.

    Args:
        trunk: From `trunk`; its modules below the line are shared, not copied.
        stages: Of its backbone.
        line: Position of the last stage below the line.
    """

    def __init__(self, trunk: nn.Module, stages: Sequence[Stage], line: int) -> None:
        super().__init__()
        below, above, end = _cut(stages, line)
        parts: dict[str, nn.Module] = {name: nn.Identity() for stage in above for name in stage.modules}
        parts |= {name: trunk.get_submodule(name) for stage in below for name in stage.modules}
        parts[end] = _Last(parts[end])
        self.network = _rebuilt(trunk, parts, _tensors(below), _tensors(above))

    def forward(self, images: Tensor) -> Tensor:
        """Compute the activations.

        Args:
            images: (b, 3, h, w), normalised.

        Returns:
            (b, *shape) of the stage's shape.
        """
        try:
            self.network(images)
        except _Reached as reached:
            return reached.activations
        raise BackboneError("the line was never reached; choose another")


class Upper(nn.Module):
    """What lies above a line: activations there to the embedding, by the network's own forward pass.

    The modules below the line are left out and give zeros that take no memory, so nothing above may depend on them but
    through the activations: that is proven on a probe when it is made. Its parameters, its state and its mode of
    training are those of the part above alone; they are named as in the trunk, behind ``network.``.

    Args:
        trunk: From `trunk`; its modules above the line are shared, not copied.
        stages: Of its backbone.
        line: Position of the last stage below the line.
        size: (height, width) of the images.

    Raises:
        BackboneError: This network can't be cut there, and what to do instead.
    """

    def __init__(self, trunk: nn.Module, stages: Sequence[Stage], line: int, size: tuple[int, int]) -> None:
        super().__init__()
        below, above, end = _cut(stages, line)
        self._feed = _Feed(size)
        with _evaluating(trunk), torch.no_grad():
            outputs, embedding = _probed(trunk, [name for stage in below for name in stage.modules], size)
            activations = outputs[end]
            _check_shape(activations, stages[line], size)
            kept: dict[str, nn.Module] = {
                name: trunk.get_submodule(name) for stage in above for name in stage.modules
            }
            forwards = {name: _Zeros(self._feed, output) for name, output in outputs.items()}
            modules = stages[line].modules
            given = dict.fromkeys(
                modules[modules.index(end) :], _Given(self._feed)
            )  # behind its end, a stage only passes on
            left_out = {
                name: _stand_in(trunk.get_submodule(name), forward)
                for name, forward in (forwards | given).items()
            }
            self.network = _rebuilt(trunk, kept | left_out, _tensors(above), _tensors(below))
            self._prove(activations, embedding, stages[line])

    def forward(self, activations: Tensor) -> Tensor:
        """Compute the embedding.

        Args:
            activations: (b, *shape) of the stage's shape. Like any output of a module, they may be overwritten.

        Returns:
            (b, dim).
        """
        self._feed.activations = activations
        try:
            embedding: Tensor = self.network(self._feed.zeros((3, *self._feed.size)))
        finally:
            self._feed.activations = None
        return embedding

    def _prove(self, activations: Tensor, embedding: Tensor, stage: Stage) -> None:
        remedy = "Draw the line elsewhere, or train without cached activations"
        try:
            ours = self(activations.clone())
        except (RuntimeError, TypeError, ValueError) as error:
            raise BackboneError(
                f"the network can't be run from the end of stage {stage.name!r} on: {error}. {remedy}"
            ) from error
        if ours.shape != embedding.shape or (ours - embedding).norm() > _EQUAL * embedding.norm():
            raise BackboneError(
                f"what lies above stage {stage.name!r} doesn't depend on its output alone: a connection skips the line. "
                f"{remedy}"
            )


class _Reached(Exception):  # noqa: N818  # not an error: the line was reached
    """Leaves a forward pass at the line."""

    def __init__(self, activations: Tensor) -> None:
        super().__init__()
        self.activations = activations


class _Last(nn.Module):
    """The last module below the line."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        raise _Reached(self.module(*args, **kwargs))


class _Feed:
    """What the stand-ins for the part below the line give in the forward pass that is under way."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.activations: Tensor | None = None

    @property
    def given(self) -> Tensor:
        if self.activations is None:
            raise BackboneError("no activations; run the module that lies above the line as a whole")
        return self.activations

    def zeros(self, shape: Iterable[int]) -> Tensor:
        """Zeros for each image, which all share one number."""
        return self.given.new_zeros(()).expand(len(self.given), *shape)


class _Given:
    """Forward pass that gives the activations, whatever it gets."""

    def __init__(self, feed: _Feed) -> None:
        self._feed = feed

    def __call__(self, *_args: Any, **_kwargs: Any) -> Tensor:
        return self._feed.given


class _Zeros:
    """Forward pass that gives zeros in the shape of what a module below the line gave."""

    def __init__(self, feed: _Feed, output: Any) -> None:
        self._feed = feed
        self._output = tree_map_only(Tensor, lambda tensor: _Shape(tensor.shape[1:]), output)

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        return tree_map_only(_Shape, lambda shape: self._feed.zeros(shape.sizes), self._output)


class _Shape:
    """A shape, as a leaf of a nested output."""

    def __init__(self, sizes: Iterable[int]) -> None:
        self.sizes = tuple(sizes)


def _stand_in(module: nn.Module, forward: Callable[..., Any]) -> nn.Module:
    """Another forward pass in place of a module, with its plain attributes and methods, which others may read."""
    stand_in = module.__new__(type(module))
    nn.Module.__init__(stand_in)
    own = {name: value for name, value in vars(module).items() if name not in vars(stand_in)}
    stateless = {"_load_from_state_dict": _nothing, "_save_to_state_dict": _nothing, "extra_repr": _no_text}
    vars(stand_in).update(own, forward=forward, **stateless)
    return stand_in


def _nothing(*_args: object, **_kwargs: object) -> None:
    pass


def _no_text() -> str:
    return ""


def _cut(stages: Sequence[Stage], line: int) -> tuple[Sequence[Stage], Sequence[Stage], str]:
    """The stages below and above the line, and the module that ends the ones below.

    Raises:
        BackboneError: There is nothing above the line.
    """
    if not 0 <= line < len(stages) - 1:
        raise BackboneError(
            f"a line behind stage {line} of {len(stages)} has nothing to train above it; expected 0 to {len(stages) - 2}"
        )
    return stages[: line + 1], stages[line + 1 :], stages[line].end


def _tensors(stages: Iterable[Stage]) -> list[str]:
    return [name for stage in stages for name in stage.tensors]


def _rebuilt(
    trunk: nn.Module, parts: Mapping[str, nn.Module], shared: Iterable[str], constant: Iterable[str]
) -> nn.Module:
    """The trunk's own containers, around other parts.

    Args:
        trunk: Whose forward pass it is.
        parts: What stands where, by qualified name; nothing of these is copied.
        shared: Names of tensors that belong to containers, and to this part of the network.
        constant: Likewise, but of the other part of the network: neither parameters nor state here.
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
    """Evaluation mode for a while, and then each part's own mode again."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def _probed(trunk: nn.Module, names: Sequence[str], size: tuple[int, int]) -> tuple[dict[str, Any], Tensor]:
    """What each named module gave for a few random images, and their embedding."""
    parameter = next(trunk.parameters())
    images = torch.randn(_PROBE, 3, *size, generator=torch.Generator().manual_seed(0)).to(parameter)
    outputs: dict[str, Any] = {}

    def keep(name: str) -> Any:
        def hook(_part: nn.Module, _inputs: object, output: Any) -> None:
            if name in outputs:
                raise BackboneError(
                    f"module {name!r} runs more than once in a forward pass, so the network can't be cut above it; train "
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
            f"stage {stage.name!r} gives {got} for images of {size[0]} x {size[1]} pixels; expected {stage.shape}, which is "
            "of the backbone's own transform: give its size, or a backbone with another transform"
        )
