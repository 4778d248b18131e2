"""The MLP head: fully connected layers on features, trained on mini-batches in torch."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from classifiers.devices import resolve_device
from classifiers.errors import HeadError
from classifiers.rows import FLOATS, ClassWeight, Scale, chunks, exact_dtype, standardise, training_rows

__all__ = ["Epoch", "MLPHead", "TrainingRows", "build_network", "seeded"]

_ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
_OPTIMIZERS = ("adamw", "adam", "sgd")
_SCHEDULES = ("cosine", "constant")


class Epoch(NamedTuple):
    """One epoch of training; without validation rows, its two scores are NaN."""

    train_loss: float
    validation_loss: float
    validation_accuracy: float
    lr: float


@dataclass(frozen=True)
class TrainingRows:
    """Standardised rows on the device; weights average 1."""

    inputs: Tensor
    targets: Tensor
    weights: Tensor


class MLPHead(ClassifierMixin, BaseEstimator):
    """Multi-layer perceptron on standardised features, softmax cross-entropy.

    The same seed on the same machine gives the same network; torch's global generators are left as they were.

    Args:
        hidden: Widths of the hidden layers.
        activation: ``relu``, ``gelu``, ``silu`` or ``tanh``.
        dropout: Share of hidden units dropped in training.
        batch_norm: Whether to normalise before each activation.
        optimizer: ``adamw``, ``adam``, or ``sgd`` with Nesterov momentum 0.9.
        lr: Peak learning rate.
        weight_decay: On weights of linear layers; biases and norms are left alone.
        schedule: ``cosine`` decay to zero, or ``constant``, each after a linear warm-up.
        warmup: Share of all steps that warms up.
        batch_size: Rows per step.
        epochs: Largest number of passes over the rows.
        patience: Epochs without a lower validation loss after which training stops.
        early_stopping: Share of the rows held out for validation where ``fit`` gets none; 0 trains all epochs.
        scale: ``standard`` standardises the features, ``none`` takes them as they are.
        class_weight: None, ``balanced``, or a weight per class.
        random_state: Seed of weights, batches and dropout.
        device: ``auto`` (CUDA where there is one, else the CPU), ``cpu``, ``cuda[:N]`` or ``mps``.

    Attributes:
        classes_: The k sorted labels.
        network_: The trained module, on the CPU, for standardised float32 features.
        mean_: (d,) subtracted from features.
        scale_: (d,) that then divides them.
        history_: One `Epoch` per epoch trained.
        best_epoch_: Index in ``history_`` of the epoch whose weights were kept.
        n_iter_: Epochs trained.
    """

    def __init__(
        self,
        hidden: Sequence[int] = (512,),
        *,
        activation: str = "relu",
        dropout: float = 0.5,
        batch_norm: bool = False,
        optimizer: str = "adamw",
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        schedule: str = "cosine",
        warmup: float = 0.05,
        batch_size: int = 128,
        epochs: int = 40,
        patience: int = 8,
        early_stopping: float = 0.0,
        scale: Scale = "standard",
        class_weight: ClassWeight = None,
        random_state: int | np.random.RandomState | None = 0,
        device: str = "auto",
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.dropout = dropout
        self.batch_norm = batch_norm
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.warmup = warmup
        self.batch_size = batch_size
        self.epochs = epochs
        self.patience = patience
        self.early_stopping = early_stopping
        self.scale = scale
        self.class_weight = class_weight
        self.random_state = random_state
        self.device = device

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        validation: tuple[ArrayLike, ArrayLike] | None = None,
    ) -> Self:
        """Train on (n, d) features and (n,) labels.

        Args:
            X: (n, d) floats of any width.
            y: (n,) labels of any kind.
            sample_weight: (n,) non-negative.
            validation: Features and labels on which to stop early; the epoch of least loss is kept.

        Raises:
            HeadError: An option out of range, fewer than two classes, or validation labels that are not in y.
        """
        self.check_options()
        rows, labels, weights = training_rows(self, X, y, sample_weight, self.class_weight)
        random = check_random_state(self.random_state)
        seed = int(random.randint(2**31 - 1))
        if validation is None and self.early_stopping > 0:
            kept, held = train_test_split(
                np.arange(len(labels)), test_size=self.early_stopping, stratify=labels, random_state=random
            )
            validation = rows[held], labels[held]
            rows, labels, weights = rows[kept], labels[kept], weights[kept]
        self.classes_, targets = np.unique(labels, return_inverse=True)
        place = resolve_device(self.device)
        train, checked = self.bring(rows, targets, weights, validation, place)
        with seeded(seed, place):
            network = build_network(self, rows.shape[1], len(self.classes_)).to(place)
            self._train(network, train, checked)
        self.network_ = network.cpu().eval()
        self.n_iter_ = len(self.history_)
        return self

    def seed(self) -> int:
        """Seed of torch's generators that follows from ``random_state``."""
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def check_options(self) -> None:
        """Refuse options out of range."""
        choices: dict[str, tuple[str, Sequence[str]]] = {
            "activation": (self.activation, tuple(_ACTIVATIONS)),
            "optimizer": (self.optimizer, _OPTIMIZERS),
            "schedule": (self.schedule, _SCHEDULES),
            "scale": (self.scale, ("standard", "none")),
        }
        for name, (got, valid) in choices.items():
            if got not in valid:
                raise HeadError(f"{name}: got {got!r}, expected one of {', '.join(valid)}")
        if any(width < 1 for width in self.hidden):
            raise HeadError(f"hidden: got {tuple(self.hidden)}, expected widths of at least 1, e.g. (512,)")
        within = {
            "dropout": 0 <= self.dropout < 1,
            "lr": self.lr > 0,
            "weight_decay": self.weight_decay >= 0,
            "warmup": 0 <= self.warmup < 1,
            "batch_size": self.batch_size >= 1,
            "epochs": self.epochs >= 1,
            "patience": self.patience >= 1,
            "early_stopping": 0 <= self.early_stopping < 1,
        }
        for name, good in within.items():
            if not good:
                raise HeadError(f"{name}: got {getattr(self, name)}, which is out of range; see MLPHead")

    def bring(
        self,
        rows: NDArray[Any],
        targets: NDArray[np.int64],
        weights: NDArray[np.float64],
        validation: tuple[ArrayLike, ArrayLike] | None,
        place: torch.device,
    ) -> tuple[TrainingRows, TrainingRows | None]:
        """Standardised training and validation rows on the device."""
        weight = torch.as_tensor(weights / weights.mean()).to(place, exact_dtype(place))
        inputs, self.mean_, self.scale_ = standardise(rows, weight, self.scale, place, torch.float32)
        train = TrainingRows(inputs, torch.as_tensor(targets, device=place), weight.to(torch.float32))
        if validation is None:
            return train, None
        held, labels = np.asarray(validation[0]), np.asarray(validation[1])
        if held.ndim != 2 or held.shape[1] != rows.shape[1] or not len(held) or labels.shape != (len(held),):
            raise HeadError(
                f"validation: got features of shape {held.shape} and labels of shape {labels.shape}, "
                f"expected (n, {rows.shape[1]}) and (n,), n > 0"
            )
        if not np.isin(labels, self.classes_).all():
            raise HeadError(f"validation: got labels {np.setdiff1d(labels, self.classes_)} that are not in y")
        codes = torch.as_tensor(np.searchsorted(self.classes_, labels), device=place)
        return train, TrainingRows(self._inputs(held).to(place), codes, torch.ones(len(held), device=place))

    def _inputs(self, rows: NDArray[Any]) -> Tensor:
        mean, scale = self.mean_.astype(np.float32), self.scale_.astype(np.float32)
        return torch.as_tensor((rows.astype(np.float32) - mean) / scale)

    def _train(self, network: nn.Sequential, train: TrainingRows, checked: TrainingRows | None) -> None:
        optimizer = self._make_optimizer(network)
        batches = math.ceil(len(train.inputs) / self.batch_size)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate(batches * self.epochs))
        self.history_: list[Epoch] = []
        self.best_epoch_ = 0
        best: dict[str, Tensor] = {}
        for epoch in range(self.epochs):
            rate = float(scheduler.get_last_lr()[0])
            loss = _run_epoch(network, train, batches, optimizer, scheduler)
            held_loss, held_accuracy = _check(network, checked) if checked else (math.nan, math.nan)
            self.history_.append(Epoch(loss, held_loss, held_accuracy, rate))
            if checked is None:
                self.best_epoch_ = epoch
            elif not best or held_loss < self.history_[self.best_epoch_].validation_loss:
                self.best_epoch_ = epoch
                best = {name: value.clone() for name, value in network.state_dict().items()}
            elif epoch - self.best_epoch_ >= self.patience:
                break
        if best:
            network.load_state_dict(best)

    def _make_optimizer(self, network: nn.Sequential) -> torch.optim.Optimizer:
        weights = [module.weight for module in network if isinstance(module, nn.Linear)]
        rest = [p for p in network.parameters() if not any(p is weight for weight in weights)]
        groups = [
            {"params": weights, "weight_decay": self.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ]
        if self.optimizer == "sgd":
            return torch.optim.SGD(groups, lr=self.lr, momentum=0.9, nesterov=True)
        kind = torch.optim.AdamW if self.optimizer == "adamw" else torch.optim.Adam
        return kind(groups, lr=self.lr)

    def rate(self, steps: int) -> Callable[[int], float]:
        """Share of the peak learning rate at each of so many steps."""
        return _Rate(int(self.warmup * steps), steps, decays=self.schedule == "cosine")

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """(n, k) probabilities of ``classes_``."""
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=FLOATS, reset=False)
        with torch.inference_mode():
            parts = [
                self.network_(self._inputs(part)).double().softmax(dim=1).numpy() for part in chunks(rows)
            ]
        return np.concatenate(parts)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """(n,) most probable labels."""
        chosen = self.predict_proba(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[chosen]
        return labels

    def to_tensors(self) -> dict[str, NDArray[Any]]:
        """What was learnt, as named arrays: `from_tensors` of a head with the same options restores it."""
        check_is_fitted(self)
        tensors = {f"network.{name}": value.numpy() for name, value in self.network_.state_dict().items()}
        classes = np.asarray(self.classes_, np.int64)
        return {"mean": self.mean_, "scale": self.scale_, "classes": classes, **tensors}

    def from_tensors(self, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Restore what `to_tensors` gave, for integer labels.

        Raises:
            HeadError: Arrays are missing, or not of the network that the options describe.
        """
        if not {"mean", "scale", "classes"} <= set(tensors):
            raise HeadError(f"got tensors {sorted(tensors)}, expected mean, scale, classes and the network's")
        self.check_options()
        mean, scale, self.classes_ = tensors["mean"], tensors["scale"], tensors["classes"]
        if mean.ndim != 1 or mean.shape != scale.shape:
            raise HeadError(f"got mean {mean.shape} and scale {scale.shape}, expected (d,) for both")
        network = build_network(self, len(mean), len(self.classes_))
        own = {"mean", "scale", "classes"}
        state = {
            name.removeprefix("network."): torch.as_tensor(value)
            for name, value in tensors.items()
            if name not in own
        }
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise HeadError(
                f"the tensors are not those of an MLP with hidden={self.hidden}: {error}"
            ) from None
        self.mean_, self.scale_, self.network_ = mean, scale, network.eval()
        self.n_features_in_ = len(mean)
        return self


def build_network(head: MLPHead, width: int, outputs: int) -> nn.Sequential:
    """The untrained network that a head's options describe."""
    layers: list[nn.Module] = []
    for units in head.hidden:
        layers.append(nn.Linear(width, units))
        if head.batch_norm:
            layers.append(nn.BatchNorm1d(units))
        layers += [_ACTIVATIONS[head.activation](), nn.Dropout(head.dropout)]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, outputs))


@dataclass(frozen=True)
class _Rate:
    """Share of the peak learning rate at a step: linear warm-up, then cosine decay or none."""

    warmup: int
    steps: int
    decays: bool

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return (step + 1) / self.warmup
        if not self.decays:
            return 1.0
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return (1 + math.cos(math.pi * min(1.0, done))) / 2


def _run_epoch(
    network: nn.Sequential,
    rows: TrainingRows,
    batches: int,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
) -> float:
    """Train on every row once, in random batches of nearly equal size; the mean loss."""
    network.train()
    order = torch.randperm(len(rows.inputs)).to(rows.inputs.device)
    total = torch.zeros((), device=rows.inputs.device)
    for batch in order.tensor_split(batches):
        losses = nn.functional.cross_entropy(
            network(rows.inputs[batch]), rows.targets[batch], reduction="none"
        )
        loss = (losses * rows.weights[batch]).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        scheduler.step()
        total += loss.detach() * len(batch)
    return float(total) / len(order)


def _check(network: nn.Sequential, rows: TrainingRows) -> tuple[float, float]:
    """Loss and accuracy on validation rows."""
    network.eval()
    with torch.inference_mode():
        logits = network(rows.inputs)
        loss = nn.functional.cross_entropy(logits, rows.targets)
        hits = (logits.argmax(dim=1) == rows.targets).sum()
    return float(loss), int(hits) / len(logits)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators for a while, and put them back."""
    others = [device] if device.type != "cpu" else []
    with torch.random.fork_rng(others, device_type=device.type if others else "cuda"):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        yield
