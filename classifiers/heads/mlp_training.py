"""Training of MLPs: one network, or several of one architecture in one batched program.

The parameters of all h networks are stacked, (h, ...) each, and `torch.func.vmap` runs the module over them. A
layer of all networks is therefore one batched product. A single network is a stack of one.
"""

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from frostline.classifiers.errors import HeadError
from frostline.files.documents import clipped
from frostline.numerics.devices import device_memory

ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("cosine", "onecycle", "step", "constant")
OWN = ("lr", "weight_decay", "momentum", "dropout")
"""Options in which networks that are trained together may differ."""

_BETAS, _EPS = (0.9, 0.999), 1e-8  # defaults of torch.optim
_DIVISOR, _LAST_DIVISOR = 25, 1e4  # divisors of the first and last rate of one cycle, defaults of torch.optim
_CELLS = 2**24  # largest number of activations per layer during validation
# Parameters trained at a time: on a CPU as many as its cache holds; otherwise 1.3 GB with gradients, moments and best.
_NEAR, _PARAMETERS = 2**20, 2**26
_COPIES = 5  # of each parameter: initial, trained, gradient and two moments of Adam


class Options(Protocol):
    """Options of an `MLPHead` that training reads."""

    hidden: Sequence[int]
    activation: str
    dropout: float
    batch_norm: bool
    optimizer: str
    lr: float
    momentum: float
    nesterov: bool
    weight_decay: float
    schedule: str
    warmup: float | str
    batch_size: int
    epochs: int
    patience: int


class Epoch(NamedTuple):
    """Losses and learning rate of one epoch; the two validation scores are NaN without validation rows."""

    train_loss: float
    validation_loss: float
    validation_accuracy: float
    lr: float


@dataclass(frozen=True)
class TrainingRows:
    """Standardised rows on the device, with weights of mean 1."""

    inputs: Tensor
    targets: Tensor
    sample_weight: Tensor


@dataclass
class TrainedNetwork:
    """A trained network.

    Attributes:
        network: Network on the CPU, in evaluation mode.
        history: One entry per trained epoch.
        best_epoch: Index of the epoch whose weights were kept.
    """

    network: nn.Sequential
    history: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0


def build_network(options: Options, width: int, outputs: int) -> nn.Sequential:
    """Build the untrained network that the options describe, with `width` inputs and `outputs` classes."""
    layers: list[nn.Module] = []
    for units in options.hidden:
        layers.append(nn.Linear(width, units))
        if options.batch_norm:
            layers.append(nn.BatchNorm1d(units))
        layers += [ACTIVATIONS[options.activation](), _Dropout(options.dropout)]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, outputs))


class _Dropout(nn.Module):
    """Dropout with a tensor as probability, so that stacked networks may differ in it. All use the same random numbers."""

    kept: Tensor

    def __init__(self, share: float) -> None:
        super().__init__()
        self.register_buffer("kept", torch.tensor(1 - share), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        if not self.training:
            return values
        draws = torch.rand(values.shape, device=values.device)
        return values * (draws < self.kept) / self.kept


def learning_rate(options: Options, steps: int) -> Callable[[int], float]:
    """Return the schedule: a function from a step, 0 to steps - 1, to the share of the peak learning rate.

    ``constant``, ``cosine`` and ``step`` start with a linear warm-up; its share of the steps is rounded. ``step``
    divides the rate by 10 after 1/2 and 3/4 of all steps (He et al. 2016). ``onecycle`` rises from 1/25 and falls
    to 1/250,000 in the last step, both along a cosine (Smith & Topin 2018, as in
    `torch.optim.lr_scheduler.OneCycleLR`, but with constant momentum).
    """
    cycle = options.schedule == "onecycle"
    share = (0.3 if cycle else 0.05) if isinstance(options.warmup, str) else options.warmup
    if cycle:
        return _OneCycle(share * steps - 1, steps - 1)
    return _WarmUp(round(share * steps), steps, options.schedule)


@dataclass(frozen=True)
class _WarmUp:
    warmup: int
    steps: int
    schedule: str

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "step":
            return 10.0 ** -((step >= self.steps / 2) + (step >= self.steps * 3 / 4))
        return _cosine(1.0, 0.0, (step - self.warmup) / max(1, self.steps - self.warmup))


@dataclass(frozen=True)
class _OneCycle:
    peak: float
    last: int

    def __call__(self, step: int) -> float:
        if step <= self.peak:
            return _cosine(1 / _DIVISOR, 1.0, step / self.peak if self.peak else 1.0)
        start = max(self.peak, 0.0)
        return _cosine(1.0, 1 / _DIVISOR / _LAST_DIVISOR, (step - start) / (self.last - start or 1.0))


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * min(1.0, done)))


def train_networks(
    options: Sequence[Options],
    outputs: int,
    train: TrainingRows,
    checked: TrainingRows | None,
    *,
    seed: int,
    device: torch.device,
) -> list[TrainedNetwork]:
    """Train networks that differ only in `OWN`. Up to rounding, the result equals that of separate trainings.

    All networks start from the same weights and use the same batches and dropout draws. Each stops early by itself
    and keeps the weights of the epoch with the lowest validation loss. The global generators of torch are not
    changed.

    Args:
        options: Options of each network.
        outputs: Number of classes.
        train: Training rows.
        checked: Validation rows for early stopping; None to train all epochs.
        seed: Seed of weights, batches and dropout.
        device: Device of the rows.

    Returns:
        The trained networks, in the order of `options`.
    """
    width = train.inputs.shape[1]
    one = count_parameters(options[0], width, outputs)
    _check_memory(options[0], one, device)
    most = max(1, (_NEAR if device.type == "cpu" else _PARAMETERS) // one)
    trained: list[TrainedNetwork] = []
    for start in range(0, len(options), most):
        part = options[start : start + most]
        with _seeded(seed, device):
            network = build_network(part[0], width, outputs).to(device)
            trained += _Training(part, network).run(train, checked)
    return trained


def count_parameters(options: Options, width: int, outputs: int) -> int:
    """Return the number of parameters of the network that the options describe, without building it."""
    norms = 2 * sum(options.hidden) if options.batch_norm else 0
    pairs = itertools.pairwise((width, *options.hidden, outputs))
    return norms + sum((inputs + 1) * units for inputs, units in pairs)


def _check_memory(options: Options, parameters: int, device: torch.device) -> None:
    """Refuse a network that the whole memory of the device can't hold."""
    need, whole = 4 * _COPIES * parameters, device_memory(device)
    if whole is not None and need > whole:
        raise HeadError(
            f"hidden: got {clipped(str(tuple(options.hidden)))}, a network of {parameters:,} parameters, whose training needs"
            f" {need / 2**30:,.0f} GiB of the {whole / 2**30:,.0f} GiB of memory; expected smaller widths"
        )


class _Training:
    """Training state of stacked networks. Networks that have stopped are removed from the stack."""

    def __init__(self, options: Sequence[Options], network: nn.Sequential) -> None:
        self._options, self._network = options, network
        count, device = len(options), next(network.parameters()).device
        self._parameters = {name: _repeat(value, count) for name, value in network.named_parameters()}
        self._buffers = {name: _repeat(value, count) for name, value in network.named_buffers()}
        kept = torch.tensor([1 - each.dropout for each in options], device=device)
        self._buffers |= {name: kept.clone() for name in self._buffers if name.endswith(".kept")}
        self._optimizer = _Optimizer(options, self._parameters, device)
        self._running = list(range(count))
        self._trained = [TrainedNetwork(network) for _ in options]
        self._best: list[dict[str, Tensor]] = [{} for _ in options]

    def run(self, train: TrainingRows, checked: TrainingRows | None) -> list[TrainedNetwork]:
        """Run epochs until all networks have stopped."""
        first = self._options[0]
        batches = math.ceil(len(train.inputs) / first.batch_size)
        rate = learning_rate(first, batches * first.epochs)
        for epoch in range(first.epochs):
            share = rate(epoch * batches)
            losses = self._run_epoch(train, batches, rate, epoch * batches)
            held = self._check(checked) if checked else [(math.nan, math.nan)] * len(losses)
            stopped = []
            for position, index in enumerate(self._running):
                own, found = self._options[index], self._trained[index]
                found.history.append(Epoch(losses[position], *held[position], own.lr * share))
                better = held[position][0] < found.history[found.best_epoch].validation_loss
                if checked is None or epoch == 0 or better:
                    found.best_epoch = epoch
                    self._keep(position, index, last=epoch + 1 == first.epochs, validated=checked is not None)
                elif epoch - found.best_epoch >= own.patience:
                    stopped.append(position)
            self._drop(stopped)
            if not self._running:
                break
        return [self._finished(index) for index in range(len(self._options))]

    def _logits(self, inputs: Tensor) -> Tensor:
        """Return the (h, b, k) logits of (b, d) inputs."""

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            found: Tensor = functional_call(self._network, (parameters, buffers), (inputs,))
            return found

        if len(self._running) == 1:  # vmap would double the time of a small network
            alone = (
                {name: value[0] for name, value in each.items()} for each in (self._parameters, self._buffers)
            )
            return one(*alone)[None]
        found: Tensor = vmap(one, randomness="same")(self._parameters, self._buffers)
        return found

    def _losses(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (h, b) cross-entropies, and whether the most probable class is the true one."""
        logits = self._logits(inputs)
        targets = targets.expand(len(logits), -1)
        losses = nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        return losses, logits.argmax(dim=2) == targets

    def _run_epoch(
        self, rows: TrainingRows, batches: int, rate: Callable[[int], float], step: int
    ) -> list[float]:
        """Train on every row once, in random batches of nearly equal size, and return the mean losses."""
        self._network.train()
        order = torch.randperm(len(rows.inputs)).to(rows.inputs.device)
        total = torch.zeros(len(self._running), device=rows.inputs.device)
        for offset, batch in enumerate(order.tensor_split(batches)):
            for value in self._parameters.values():
                value.requires_grad_(True)
            losses, _ = self._losses(rows.inputs[batch], rows.targets[batch])
            means = (losses * rows.sample_weight[batch]).mean(dim=1)
            gradients = torch.autograd.grad(means.sum(), list(self._parameters.values()))
            total += means.detach() * len(batch)
            for value in self._parameters.values():
                value.requires_grad_(False)
            self._optimizer.step(self._parameters, gradients, rate(step + offset))
        return [value / len(order) for value in total.tolist()]

    def _check(self, rows: TrainingRows) -> list[tuple[float, float]]:
        """Return the loss and accuracy of each network on validation rows."""
        self._network.eval()
        widest = max(value.shape[1] for value in self._parameters.values())
        step = max(1, _CELLS // (len(self._running) * widest))
        loss = hits = torch.zeros(len(self._running), device=rows.inputs.device)
        with torch.no_grad():
            for start in range(0, len(rows.inputs), step):
                part = slice(start, start + step)
                losses, right = self._losses(rows.inputs[part], rows.targets[part])
                weight = rows.sample_weight[part]
                loss, hits = loss + (losses * weight).sum(dim=1), hits + (right * weight).sum(dim=1)
        count = len(rows.inputs)
        return [
            (total / count, right / count) for total, right in zip(loss.tolist(), hits.tolist(), strict=True)
        ]

    def _keep(self, position: int, index: int, *, last: bool, validated: bool) -> None:
        """Save the current state of a network; without validation rows, only after the last epoch."""
        if last or validated:
            whole = {**self._parameters, **self._buffers}
            self._best[index] = {name: value[position].clone() for name, value in whole.items()}

    def _drop(self, stopped: Sequence[int]) -> None:
        """Remove stopped networks from the stack."""
        if not stopped:
            return
        kept = [position for position in range(len(self._running)) if position not in stopped]
        self._running = [self._running[position] for position in kept]
        self._parameters = {name: value[kept] for name, value in self._parameters.items()}
        self._buffers = {name: value[kept] for name, value in self._buffers.items()}
        self._optimizer.keep(kept)

    def _finished(self, index: int) -> TrainedNetwork:
        found = self._trained[index]
        found.network = copy.deepcopy(self._network).cpu().eval()
        state = dict(found.network.named_parameters()) | dict(found.network.named_buffers())
        for name, value in self._best[index].items():
            state[name].data.copy_(value)
        return found


def _repeat(value: Tensor, count: int) -> Tensor:
    return value.detach().expand(count, *value.shape).clone()


class _Optimizer:
    """SGD, Adam or AdamW as in torch.optim, with separate options for each of the stacked networks.

    Weight decay applies to the weights of linear layers; biases and norms are exempt.
    """

    def __init__(
        self, options: Sequence[Options], parameters: Mapping[str, Tensor], device: torch.device
    ) -> None:
        self._kind, self._nesterov = options[0].optimizer, options[0].nesterov
        self._own = {
            name: torch.tensor([float(getattr(each, name)) for each in options], device=device)
            for name in ("lr", "weight_decay", "momentum")
        }
        self._alone = {name: float(each[0]) for name, each in self._own.items()}
        self._first = [torch.zeros_like(value) for value in parameters.values()]
        self._second = (
            [] if self._kind == "sgd" else [torch.zeros_like(value) for value in parameters.values()]
        )
        self._steps = 0

    def step(self, parameters: Mapping[str, Tensor], gradients: Sequence[Tensor], share: float) -> None:
        """Update parameters in place, with a share of the peak learning rate of each network."""
        self._steps += 1
        for index, (value, gradient) in enumerate(zip(parameters.values(), gradients, strict=True)):
            own = self._shaped(value.ndim)
            lr, moved = own["lr"] * share, gradient
            if value.ndim == 3 and self._kind == "adamw":  # (h, out, in): weights, with decoupled decay
                value.mul_(1 - lr * own["weight_decay"])
            elif value.ndim == 3:
                moved = gradient + own["weight_decay"] * value
            if self._kind == "sgd":
                value.sub_(lr * self._velocity(index, moved, own["momentum"]))
            else:
                value.sub_(self._adaptive(index, moved, lr))

    def _shaped(self, dimensions: int) -> Mapping[str, Any]:
        """Return each option along the first axis; for a single network, plain numbers, which are faster."""
        if len(self._own["lr"]) == 1:
            return self._alone
        return {name: each.view(-1, *[1] * (dimensions - 1)) for name, each in self._own.items()}

    def keep(self, positions: Sequence[int]) -> None:
        """Keep the state of some of the networks."""
        self._own = {name: each[positions] for name, each in self._own.items()}
        self._alone = {name: float(each[0]) for name, each in self._own.items() if len(each)}
        self._first = [each[positions] for each in self._first]
        self._second = [each[positions] for each in self._second]

    def _velocity(self, index: int, gradient: Tensor, momentum: Any) -> Tensor:
        velocity = self._first[index].mul_(momentum).add_(gradient)
        return gradient + momentum * velocity if self._nesterov else velocity

    def _adaptive(self, index: int, gradient: Tensor, lr: Any) -> Tensor:
        mean = self._first[index].lerp_(gradient, 1 - _BETAS[0])
        square = self._second[index].mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
        spread = math.sqrt(1 - _BETAS[1] ** self._steps)
        root = square.sqrt().add_(_EPS * spread)
        return mean.div(root).mul_(lr * (spread / (1 - _BETAS[0] ** self._steps)))


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the generators of torch within a context, and restore their state afterwards."""
    others = [device] if device.type != "cpu" else []
    with torch.random.fork_rng(others, device_type=device.type if others else "cuda"):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        yield
