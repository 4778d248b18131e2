"""The MLP head: fully connected layers on features, trained on mini-batches in torch."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from frostline.classifiers.errors import HeadError
from frostline.classifiers.heads.kinds import HeadKind
from frostline.classifiers.heads.mlp_training import (
    ACTIVATIONS,
    OPTIMIZERS,
    OWN,
    SCHEDULES,
    TrainingRows,
    build_network,
    train_networks,
)
from frostline.classifiers.heads.parameters import (
    CLASS_WEIGHT,
    FLAG,
    POSITIVE,
    Parameter,
    Values,
    by_name,
    either,
    number,
    one_of,
    whole,
)
from frostline.classifiers.numerics.matrices import (
    FLOATS,
    ClassWeight,
    Scale,
    chunks,
    exact_dtype,
    standardise,
    training_rows,
)
from frostline.numerics.devices import resolve_device


class MLPHead(ClassifierMixin, BaseEstimator):
    """Multi-layer perceptron on standardised features with softmax cross-entropy loss.

    The same seed on the same machine gives the same network. The global generators of torch are not changed.

    Args:
        hidden: Widths of the hidden layers.
        activation: ``relu``, ``gelu``, ``silu`` or ``tanh``.
        dropout: Dropout probability of hidden units.
        batch_norm: Whether to apply batch normalisation before each activation.
        optimizer: ``adamw``, ``adam`` or ``sgd``.
        lr: Peak learning rate.
        momentum: Momentum of ``sgd``.
        nesterov: Whether ``sgd`` uses Nesterov momentum.
        weight_decay: Weight decay of linear layers; biases and norms are exempt.
        schedule: ``cosine`` decay to zero, ``step``, ``onecycle`` or ``constant``; see
            `mlp_training.learning_rate`.
        warmup: Share of all steps used for warm-up; ``auto`` is 0.3 for ``onecycle``, otherwise 0.05.
        batch_size: Rows per step.
        epochs: Largest number of epochs.
        patience: Number of epochs without a lower validation loss after which training stops.
        early_stopping: Share of the rows held out for validation, with their weights, if ``fit`` gets no
            validation rows. 0 trains all epochs.
        scale: ``standard`` standardises the features, ``none`` leaves them unchanged.
        class_weight: None, ``balanced``, or a weight per class.
        random_state: Seed of weights, batches and dropout.
        device: ``auto`` (CUDA if available, otherwise the CPU), ``cpu``, ``cuda[:N]`` or ``mps``.

    Attributes:
        classes_: The k sorted labels.
        network_: The trained module, on the CPU, for standardised float32 features.
        mean_: (d,) mean that is subtracted from the features.
        scale_: (d,) divisor of the centred features.
        history_: One `Epoch` per trained epoch.
        best_epoch_: Index in ``history_`` of the epoch whose weights were kept.
        n_iter_: Number of trained epochs.
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
        momentum: float = 0.9,
        nesterov: bool = True,
        weight_decay: float = 0.01,
        schedule: str = "cosine",
        warmup: float | str = "auto",
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
        self.momentum = momentum
        self.nesterov = nesterov
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
            y: (n,) labels of any type.
            sample_weight: (n,) non-negative weights. Rows of weight 0 are ignored. A weight multiplies the loss of
                its row. In the objective it is equivalent to copies of the row, but not in the sampling of batches
                or in batch norms.
            validation: Features and labels for early stopping. The epoch with the lowest loss is kept.

        Raises:
            HeadError: An option is out of range, there are fewer than two classes, or a validation label is not in
                y.
        """
        return fit_together([self], X, y, sample_weight, validation=validation)[0]

    def check_options(self) -> None:
        """Raise HeadError if an option is out of range."""
        choices: dict[str, tuple[str, Sequence[str]]] = {
            "activation": (self.activation, tuple(ACTIVATIONS)),
            "optimizer": (self.optimizer, OPTIMIZERS),
            "schedule": (self.schedule, SCHEDULES),
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
            "momentum": 0 <= self.momentum < 1,
            "weight_decay": self.weight_decay >= 0,
            "warmup": self.warmup == "auto" if isinstance(self.warmup, str) else 0 <= self.warmup < 1,
            "batch_size": self.batch_size >= (2 if self.batch_norm else 1),
            "epochs": self.epochs >= 1,
            "patience": self.patience >= 1,
            "early_stopping": 0 <= self.early_stopping < 1,
        }
        for name, good in within.items():
            if not good:
                raise HeadError(f"{name}: got {getattr(self, name)}, which is out of range; see MLPHead")

    def prepare(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        validation: tuple[ArrayLike, ArrayLike] | None,
    ) -> tuple[TrainingRows, TrainingRows | None, int, torch.device]:
        """Prepare the training, and set the fitted attributes that do not depend on it.

        Returns:
            Training rows, validation rows for early stopping or None, the seed, and the device of the rows.
        """
        features, labels, weight = training_rows(self, X, y, sample_weight, self.class_weight)
        random = check_random_state(self.random_state)
        seed = int(random.randint(2**31 - 1))
        held_weight = None
        if validation is None and self.early_stopping > 0:
            kept, held = train_test_split(
                np.arange(len(labels)), test_size=self.early_stopping, stratify=labels, random_state=random
            )
            validation, held_weight = (features[held], labels[held]), weight[held]
            features, labels, weight = features[kept], labels[kept], weight[kept]
        self.classes_, targets = np.unique(labels, return_inverse=True)
        device = resolve_device(self.device, HeadError)
        train = self._rows_on_device(features, targets, weight, device)
        checked = None if validation is None else self._validation_on_device(*validation, held_weight, device)
        return train, checked, seed, device

    def _rows_on_device(
        self,
        features: NDArray[Any],
        targets: NDArray[np.int64],
        sample_weight: NDArray[np.float64],
        device: torch.device,
    ) -> TrainingRows:
        """Return the standardised training rows on the device."""
        weight = torch.as_tensor(sample_weight / sample_weight.mean()).to(device, exact_dtype(device))
        inputs, self.mean_, self.scale_ = standardise(features, weight, self.scale, device, torch.float32)
        return TrainingRows(inputs, torch.as_tensor(targets, device=device), weight.to(torch.float32))

    def _validation_on_device(
        self, X: ArrayLike, y: ArrayLike, sample_weight: NDArray[np.float64] | None, device: torch.device
    ) -> TrainingRows:
        """Return the standardised validation rows on the device; without weights, all rows have weight 1."""
        held, labels, width = np.asarray(X), np.asarray(y), len(self.mean_)
        if held.ndim != 2 or held.shape[1] != width or not len(held) or labels.shape != (len(held),):
            raise HeadError(
                f"validation: got features of shape {held.shape} and labels of shape {labels.shape}, "
                f"expected (n, {width}) and (n,), n > 0"
            )
        if not np.isin(labels, self.classes_).all():
            raise HeadError(f"validation: got labels {np.setdiff1d(labels, self.classes_)} that are not in y")
        codes = torch.as_tensor(np.searchsorted(self.classes_, labels), device=device)
        weight = np.ones(len(held)) if sample_weight is None else sample_weight / sample_weight.mean()
        return TrainingRows(
            self._inputs(held).to(device), codes, torch.as_tensor(weight).to(device, torch.float32)
        )

    def _inputs(self, features: NDArray[Any]) -> Tensor:
        mean, scale = self.mean_.astype(np.float32), self.scale_.astype(np.float32)
        return torch.as_tensor((features.astype(np.float32) - mean) / scale)

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the (n, k) probabilities of ``classes_``."""
        check_is_fitted(self)
        features = validate_data(self, X, dtype=FLOATS, reset=False)
        with torch.inference_mode():
            parts = [
                self.network_(self._inputs(part)).double().softmax(dim=1).numpy() for part in chunks(features)
            ]
        return np.concatenate(parts)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the (n,) most probable labels."""
        chosen = self.predict_proba(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[chosen]
        return labels

    def to_tensors(self) -> dict[str, NDArray[Any]]:
        """Return the fitted state as named arrays. `from_tensors` of a head with the same options restores it."""
        check_is_fitted(self)
        tensors = {f"network.{name}": value.numpy() for name, value in self.network_.state_dict().items()}
        classes = np.asarray(self.classes_, np.int64)
        return {"mean": self.mean_, "scale": self.scale_, "classes": classes, **tensors}

    def from_tensors(self, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Restore the state from the arrays of `to_tensors`, for integer labels.

        Raises:
            HeadError: Arrays are missing, or do not match the network that the options describe.
        """
        if not {"mean", "scale", "classes"} <= set(tensors):
            raise HeadError(f"got tensors {sorted(tensors)}, expected mean, scale, classes and the network's")
        self.check_options()
        mean, scale, self.classes_ = tensors["mean"], tensors["scale"], tensors["classes"]
        if mean.ndim != 1 or mean.shape != scale.shape:
            raise HeadError(f"got mean {mean.shape} and scale {scale.shape}, expected (d,) for both")
        own = {"mean", "scale", "classes"}
        state = {
            name.removeprefix("network."): torch.as_tensor(value)
            for name, value in tensors.items()
            if name not in own
        }
        try:
            with torch.device("meta"):  # allocates nothing, whatever the options claim
                build_network(self, len(mean), len(self.classes_)).load_state_dict(state, assign=True)
            network = build_network(self, len(mean), len(self.classes_))
            network.load_state_dict(state)
        except RuntimeError as error:
            raise HeadError(f"the tensors do not match an MLP with hidden={self.hidden}: {error}") from None
        self.mean_, self.scale_, self.network_ = mean, scale, network.eval()
        self.n_features_in_ = len(mean)
        return self


def can_train_together(heads: Sequence[MLPHead]) -> bool:
    """Return whether `fit_together` accepts these heads.

    The heads may differ only in learning rate, weight decay, momentum and dropout.
    """
    return all(_common(head) == _common(heads[0]) for head in heads)


def _common(head: MLPHead) -> dict[str, Any]:
    options = {name: value for name, value in head.get_params().items() if name not in OWN}
    return {**options, "hidden": tuple(head.hidden)}


def fit_together(
    heads: Sequence[MLPHead],
    X: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
    *,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
) -> list[MLPHead]:
    """Fit several MLPs at once, in place. Up to rounding, the result equals that of separate fits.

    Args:
        heads: Unfitted heads for which `can_train_together` is true.
        X: (n, d) floats of any width.
        y: (n,) labels.
        sample_weight: (n,) non-negative weights.
        validation: Features and labels for early stopping. Each head stops by itself and keeps its epoch with the
            lowest loss.

    Returns:
        The fitted heads.

    Raises:
        HeadError: The heads differ in other options, or `MLPHead.fit` would raise it.
    """
    if not heads or not can_train_together(heads):
        raise HeadError(f"heads that train together may differ only in {', '.join(OWN)}")
    for head in heads:
        head.check_options()
    first = heads[0]
    train, checked, seed, device = first.prepare(X, y, sample_weight, validation)
    trained = train_networks(heads, len(first.classes_), train, checked, seed=seed, device=device)
    for head, found in zip(heads, trained, strict=True):
        head.classes_, head.n_features_in_ = first.classes_, first.n_features_in_
        head.mean_, head.scale_ = first.mean_, first.scale_
        head.network_, head.history_, head.best_epoch_ = found.network, found.history, found.best_epoch
        head.n_iter_ = len(found.history)
    return list(heads)


def _build(params: Mapping[str, Any], seed: int, device: str) -> MLPHead:
    return MLPHead(device=device, random_state=seed, **params)


def _parse_widths(text: str) -> tuple[int, ...]:
    widths = tuple(int(part) for part in text.split(",") if part.strip())
    if any(width < 1 for width in widths):
        raise ValueError
    return widths


_WIDTHS = Values("comma-separated whole numbers, e.g. 256,128", _parse_widths)

MLP = HeadKind(
    name="mlp",
    summary="fully connected layers, trained on mini-batches in torch",
    parameters=by_name(
        Parameter("hidden", (512,), _WIDTHS, "widths of the hidden layers"),
        Parameter("activation", "relu", one_of(*ACTIVATIONS), "activation after each hidden layer"),
        Parameter("dropout", 0.5, number(0, 1, closed=True), "dropout probability of hidden units"),
        Parameter("batch_norm", False, FLAG, "batch normalisation before each activation"),
        Parameter("optimizer", "adamw", one_of(*OPTIMIZERS), "optimizer of the weights"),
        Parameter("lr", 1e-3, POSITIVE, "peak learning rate"),
        Parameter("momentum", 0.9, number(0, 1, closed=True), "momentum (sgd only)"),
        Parameter("nesterov", True, FLAG, "Nesterov momentum (sgd only)"),
        Parameter("weight_decay", 0.01, number(0, closed=True), "weight decay; biases and norms are exempt"),
        Parameter(
            "schedule",
            "cosine",
            one_of(*SCHEDULES),
            "learning rate schedule after warm-up",
        ),
        Parameter(
            "warmup",
            "auto",
            either("auto", number(0, 1, closed=True)),
            "share of the steps used for warm-up; auto is 0.3 for onecycle, otherwise 0.05",
        ),
        Parameter("batch_size", 128, whole(1), "rows per step"),
        Parameter("epochs", 40, whole(1), "largest number of epochs"),
        Parameter("patience", 8, whole(1), "epochs without a lower validation loss before training stops"),
        Parameter("scale", "standard", one_of("standard", "none"), "whether to standardise the features"),
        CLASS_WEIGHT,
    ),
    build=_build,
    grid=lambda _: {"weight_decay": (1.0, 0.01), "lr": (3e-4, 1e-3)},
    search="epochs",
    together=OWN,
)
