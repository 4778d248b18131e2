"""Stages of a network in execution order. A frost line can be drawn between two of them.

Stages are derived, not listed per network. They follow from the nesting of the modules and from the order in which
a forward pass on shapes only starts them.
"""

import copy
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.hooks import RemovableHandle

from frostline.features.backbones.layers import SAME_AS_INPUT, LayerInfo, without_data
from frostline.features.backbones.network import Network
from frostline.features.backbones.readout import EMBEDDING
from frostline.features.errors import BackboneError, LayerError

_STEM_SHARE = 0.1  # largest share of a network's depth in a stem, which may be built like a stage


@dataclass(frozen=True)
class Stage:
    """Stage of a trunk, which is a network without its classifier.

    Every parameter of the trunk belongs to exactly one stage.

    Attributes:
        name: ``stem``, ``top``, or the name of the main module.
        modules: Qualified names of the stage's modules, disjoint, in execution order.
        tensors: Qualified names of parameters and buffers whose owner spans several stages, such as class tokens
            and position embeddings.
        layer: Layer at the end of the stage, for `Backbone.resolve_layers`. The last stage ends in the embedding.
        shape: Shape of the output for one image, in the network's memory layout.
        parameters: Number of trainable parameters.
        flops: Multiply-adds per image.
    """

    name: str
    modules: tuple[str, ...]
    tensors: tuple[str, ...]
    layer: str
    shape: tuple[int, ...]
    parameters: int
    flops: int

    @property
    def end(self) -> str:
        """Name of the module whose output ends the stage; ``embedding`` for the last stage."""
        return self.layer.rpartition(":")[0]

    def owns(self, name: str) -> bool:
        """Return whether the parameter, buffer or module with a qualified name belongs to the stage."""
        return name in self.tensors or any(
            name == each or name.startswith(f"{each}.") for each in self.modules
        )


def find_stage(stages: Sequence[Stage], name: str) -> int:
    """Return the position of the stage called `name`.

    Raises:
        LayerError: The backbone has no such stage. The message lists similar names.
    """
    names = [stage.name for stage in stages]
    if name in names:
        return names.index(name)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? All: " if near else "expected one of "
    raise LayerError(f"stage {name!r}: this backbone has no such stage; {hint}{', '.join(names)}")


def derive_stages(network: Network, layers: Mapping[str, LayerInfo]) -> tuple[Stage, ...]:
    """Split the trunk of `network` into stages.

    The blocks are the modules inside the container that holds most of the network's depth, or the network's
    children if several containers share the depth. Modules that run before the first block form the ``stem``.
    Modules with parameters that run after the last block form the ``top``. Every stage ends in one of `layers`, so
    a block that returns several tensors is merged with the next one.

    Raises:
        BackboneError: The network can't be run without its classifier.
    """
    trunk, run = _watched(network)
    level = _main_container(trunk)
    pieces, spanning = _pieces(trunk, level, run)
    groups = _joined(_grouped(trunk, level, pieces), trunk, layers)
    owners = _owners(trunk, spanning, groups, run)
    return tuple(_stages(trunk, groups, owners, layers, run))


@dataclass
class _Run:
    """Record of one forward pass.

    Attributes:
        started: Modules in the order of their first start, with the number of starts before it.
        starts: Number of module starts.
        used: Tensors, with the number of module starts before their first use.
        flops: Modules, with the operations counted when they last finished.
    """

    started: dict[str, int] = field(default_factory=dict)
    starts: int = 0
    used: dict[str, int] = field(default_factory=dict)
    flops: dict[str, int] = field(default_factory=dict)
    total_flops: int = 0


class _Uses(TorchFunctionMode):
    """Recorder of the first use of each tensor as an argument of an operation."""

    def __init__(self, tensors: Mapping[str, Tensor], run: _Run) -> None:
        super().__init__()
        self._names = {id(tensor): name for name, tensor in tensors.items()}
        self._run = run

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for argument in tree_leaves((args, kwargs)):
            if id(argument) in self._names:
                self._run.used.setdefault(self._names[id(argument)], self._run.starts)
        return func(*args, **(kwargs or {}))


def _watched(network: Network) -> tuple[nn.Module, _Run]:
    """Return the trunk and the record of its forward pass, on the meta device unless the pass needs values."""
    try:
        return _run(network, without_data(network.module))
    except (RuntimeError, TypeError, ValueError):
        try:
            return _run(network, copy.deepcopy(network.module))
        except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            raise BackboneError(f"the network can't be run without its classifier: {error}") from error


def _run(network: Network, trunk: nn.Module) -> tuple[nn.Module, _Run]:
    network.readout.without_classifier(trunk)
    run = _Run()
    counter = FlopCounterMode(display=False)
    handles = [
        handle for name, part in trunk.named_modules() if name for handle in _hooks(name, part, run, counter)
    ]
    parameter = next(trunk.parameters(), torch.empty(0))
    images = torch.zeros(1, 3, *network.transform.crop, device=parameter.device, dtype=parameter.dtype)
    tensors = dict([*trunk.named_parameters(), *trunk.named_buffers()])
    try:
        with torch.no_grad(), counter, _Uses(tensors, run):
            trunk(images)
    finally:
        for handle in handles:
            handle.remove()
    run.total_flops = counter.get_total_flops()
    return trunk, run


def _hooks(name: str, part: nn.Module, run: _Run, counter: FlopCounterMode) -> tuple[RemovableHandle, ...]:
    def start(_part: nn.Module, _inputs: object) -> None:
        run.started.setdefault(name, run.starts)
        run.starts += 1

    def finish(_part: nn.Module, _inputs: object, _output: object) -> None:
        run.flops[name] = counter.get_total_flops()

    return part.register_forward_pre_hook(start), part.register_forward_hook(finish)


def _main_container(trunk: nn.Module) -> str:
    """Return the name of the module whose children are the blocks; empty for the network itself."""
    name, module = "", trunk
    while inner := _deepest(module):
        name, module = f"{name}.{inner}" if name else inner, module.get_submodule(inner)
    return name


def _deepest(module: nn.Module) -> str | None:
    """Return the child with more than half of the depth, or None if similar siblings exist: then all are blocks."""
    children = dict(module.named_children())
    total = sum(_depth(child) for child in children.values())
    for name, child in children.items():
        if 2 * _depth(child) > total and _is_container(child):
            others = [
                other for other in children.values() if other is not child and type(other) is type(child)
            ]
            alike = any(_depth(other) > _STEM_SHARE * total and _is_deep(other) for other in others)
            return None if alike else name
    return None


def _depth(module: nn.Module) -> int:
    """Return the number of modules inside that directly hold parameters."""
    return sum(1 for part in module.modules() if next(part.parameters(recurse=False), None) is not None)


def _is_container(module: nn.Module) -> bool:
    lists = (nn.Sequential, nn.ModuleList)
    return isinstance(module, lists) or any(isinstance(child, lists) for child in module.children())


def _composite(module: nn.Module) -> bool:
    return any(_trainable(child) for child in module.children())


def _is_deep(module: nn.Module) -> bool:
    return any(_composite(child) for child in module.children())


def _trainable(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _pieces(trunk: nn.Module, level: str, run: _Run) -> tuple[list[str], list[str]]:
    """Return the pieces that form the stages, in execution order, and the modules that span several pieces.

    A module list, which never runs itself, spans its members.
    """
    spanning = [""]
    pieces: list[str] = []

    def visit(name: str, module: nn.Module) -> None:
        inside = [each for each in run.started if each.startswith(f"{name}.")]
        if f"{level}.".startswith(f"{name}.") or (name not in run.started and inside):
            spanning.append(name)
            for child, part in module.named_children():
                visit(f"{name}.{child}", part)
        elif name in run.started or _trainable(module):
            pieces.append(name)

    for name, module in trunk.named_children():
        visit(name, module)
    return sorted(pieces, key=lambda piece: run.started.get(piece, run.starts)), spanning


@dataclass
class _Group:
    name: str
    pieces: list[str]


def _grouped(trunk: nn.Module, level: str, pieces: Sequence[str]) -> list[_Group]:
    """Group pieces by stage. Pieces without parameters join the preceding stage, which thus ends after pooling."""
    inside = [piece for piece in pieces if piece.startswith(f"{level}.") or not level]
    blocks, plain = _blocks({piece: trunk.get_submodule(piece) for piece in inside})
    groups: list[_Group] = []
    waiting: list[str] = []
    for piece in pieces:
        follows = (plain and piece in inside) or not _trainable(trunk.get_submodule(piece))
        if piece in blocks:
            if not groups and any(_trainable(trunk.get_submodule(each)) for each in waiting):
                groups.append(_Group("stem", waiting))
                waiting = []
            groups.append(_Group(piece, [*waiting, piece]))
            waiting = []
        elif follows and groups and not waiting:
            groups[-1].pieces.append(piece)
        else:
            waiting.append(piece)
    if any(_trainable(trunk.get_submodule(each)) for each in waiting) or not groups:
        return [*groups, _Group("top", waiting)]
    groups[-1].pieces += waiting
    return groups


def _blocks(pieces: Mapping[str, nn.Module]) -> tuple[list[str], bool]:
    """Return the pieces that begin a stage, and whether the pieces after a block belong to it.

    The blocks range from the first to the last piece that contains composite modules, such as a residual stage.
    Pieces before and after them form the stem and the top, even if they are composite (a convolution with its
    normalisation). Without such pieces, the composite ones are the blocks. In a plain network such as VGG, each
    convolution begins a stage.
    """
    for is_block in (_is_deep, _composite):
        deep = [name for name, part in pieces.items() if is_block(part)]
        if deep:
            names = list(pieces)
            span = names[names.index(deep[0]) : names.index(deep[-1]) + 1]
            return [name for name in span if _composite(pieces[name])], False
    return [name for name, part in pieces.items() if _has_matrix(part)], True


def _has_matrix(module: nn.Module) -> bool:
    return any(parameter.ndim > 1 for parameter in module.parameters())


def _joined(groups: Sequence[_Group], trunk: nn.Module, layers: Mapping[str, LayerInfo]) -> list[_Group]:
    """Merge each group that doesn't end in a layer with the next one."""
    joined: list[_Group] = []
    carried: list[str] = []
    for group in groups:
        group.pieces[:0] = carried
        last = group is groups[-1]
        carried = [] if last or _end(group, trunk, layers) else group.pieces
        if not carried:
            joined.append(group)
    return joined


def _end(group: _Group, trunk: nn.Module, layers: Mapping[str, LayerInfo]) -> str | None:
    """Return the layer that ends a group: its last module, ignoring modules that pass their input through."""
    for piece in reversed(group.pieces):
        if piece in layers:
            return piece
        if not isinstance(trunk.get_submodule(piece), SAME_AS_INPUT):
            return None
    return None


def _owners(
    trunk: nn.Module, spanning: Sequence[str], groups: Sequence[_Group], run: _Run
) -> list[list[str]]:
    """Assign each tensor outside all pieces to the group of the first piece that runs after its first use."""
    owners: list[list[str]] = [[] for _ in groups]
    starts = sorted(
        (run.started.get(piece, run.starts), number)
        for number, group in enumerate(groups)
        for piece in group.pieces
    )
    for parent in spanning:
        module = trunk.get_submodule(parent)
        for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            full = f"{parent}.{name}" if parent else name
            used = run.used.get(full, run.starts)
            owners[next((number for start, number in starts if start >= used), len(groups) - 1)].append(full)
    return owners


def _stages(
    trunk: nn.Module,
    groups: Sequence[_Group],
    owners: Sequence[Sequence[str]],
    layers: Mapping[str, LayerInfo],
    run: _Run,
) -> Iterator[Stage]:
    spent = 0
    sizes = {name: parameter.numel() for name, parameter in trunk.named_parameters()}
    for group, tensors in zip(groups, owners, strict=True):
        end = None if group is groups[-1] else _end(group, trunk, layers)
        counted = run.flops[end] if end else run.total_flops
        stage = partial(
            Stage,
            name=group.name,
            modules=tuple(group.pieces),
            tensors=tuple(tensors),
            layer=f"{end or EMBEDDING}:none",
            shape=layers[end or EMBEDDING].shape,
            flops=(counted - spent) // 2,  # the counter counts a multiply-add as two operations
        )
        owns = stage(parameters=0).owns
        yield stage(parameters=sum(size for name, size in sizes.items() if owns(name)))
        spent = counted
