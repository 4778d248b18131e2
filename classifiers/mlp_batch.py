"""Several MLPs of one architecture trained together: each layer of all of them is one batched product."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from classifiers.devices import resolve_device
from classifiers.errors import HeadError
from classifiers.mlp import Epoch, MLPHead, TrainingRows, build_network, seeded
from classifiers.rows import training_rows

__all__ = ["can_train_together", "fit_together"]

_OWN = ("lr", "weight_decay", "dropout", "random_state")
_BETAS, _EPS = (0.9, 0.999), 1e-8  # as torch.optim.AdamW has them


def can_train_together(heads: Sequence[MLPHead]) -> bool:
    """Whether heads differ in learning rate, weight decay, dropout and seed alone, and `fit_together` takes them."""
    first = heads[0]
    plain = not first.batch_norm and first.optimizer == "adamw" and not first.early_stopping
    return plain and all(_common(head) == _common(first) for head in heads)


def _common(head: MLPHead) -> dict[str, Any]:
    options = {name: value for name, value in head.get_params().items() if name not in _OWN}
    return {**options, "hidden": tuple(head.hidden)}


def fit_together(
    heads: Sequence[MLPHead],
    X: ArrayLike,
    y: ArrayLike,
    *,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
) -> list[MLPHead]:
    """Fit several MLPs at once, in place, by AdamW (Loshchilov & Hutter 2019).

    Each starts from the weights that it would start from alone; all see the batches of the first head's seed. A head of
    that seed without dropout ends as it would alone but for the rounding of sums; dropout draws other units.

    Args:
        heads: Unfitted heads that `can_train_together`.
        X: (n, d) floats of any width.
        y: (n,) labels.
        validation: Features and labels on which each head stops early by itself; its epoch of least loss is kept.

    Raises:
        HeadError: Heads that differ in more than that, or options out of range.
    """
    if not heads or not can_train_together(heads):
        raise HeadError(f"heads that train together may differ in {', '.join(_OWN)} alone")
    first = heads[0]
    place = resolve_device(first.device)
    rows, labels, weights = training_rows(first, X, y, None, first.class_weight)
    classes, targets = np.unique(labels, return_inverse=True)
    for head in heads:
        head.check_options()
        head.classes_, head.n_features_in_ = classes, rows.shape[1]
    train, checked = first.bring(rows, targets, weights, validation, place)
    networks = []
    for head in heads:
        head.mean_, head.scale_, head.history_, head.best_epoch_ = first.mean_, first.scale_, [], 0
        with seeded(head.seed(), place):
            networks.append(build_network(head, rows.shape[1], len(classes)).to(place))
    with seeded(first.seed(), place):
        build_network(first, rows.shape[1], len(classes)).to(
            place
        )  # the draws of batches follow those of weights
        _Stack(heads, networks, place).train(train, checked)
    return list(heads)


class _Stack:
    """Parameters of all networks, weights (h, in, out) and biases (h, 1, out), and their moments."""

    def __init__(
        self, heads: Sequence[MLPHead], networks: Sequence[nn.Sequential], place: torch.device
    ) -> None:
        self._heads, self._networks = heads, networks
        layers = [[module for module in network if isinstance(module, nn.Linear)] for network in networks]
        self._parameters: list[Tensor] = []
        for same in zip(*layers, strict=True):
            self._parameters.append(torch.stack([layer.weight.detach().T for layer in same]))
            self._parameters.append(torch.stack([layer.bias.detach()[None] for layer in same]))
        self._moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self._parameters]
        self._activation = next((m for m in networks[0] if not isinstance(m, nn.Linear)), nn.Identity())
        self._kept = torch.tensor([1 - head.dropout for head in heads], device=place)[:, None, None]
        self._lr = torch.tensor([head.lr for head in heads], device=place)[:, None, None]
        self._decay = torch.tensor([head.weight_decay for head in heads], device=place)[:, None, None]
        # Not the generator that draws the batches: those are to be the same with dropout and without.
        self._generator = torch.Generator(place).manual_seed(heads[0].seed())
        self._best = [p.clone() for p in self._parameters]

    def logits(self, inputs: Tensor, *, training: bool) -> Tensor:
        """(h, b, k) of inputs (b, d)."""
        values = inputs.expand(len(self._heads), *inputs.shape)
        for index in range(0, len(self._parameters), 2):
            weight, bias = self._parameters[index : index + 2]
            values = torch.baddbmm(bias, values, weight)
            if index + 2 < len(self._parameters):
                values = self._activation(values)
                if training and bool((self._kept < 1).any()):
                    draws = torch.rand(values.shape, generator=self._generator, device=values.device)
                    values = values * ((draws < self._kept) / self._kept)
        return values

    def train(self, rows: TrainingRows, checked: TrainingRows | None) -> None:
        """Run epochs until each head has stopped."""
        first = self._heads[0]
        batches = math.ceil(len(rows.inputs) / first.batch_size)
        rate = first.rate(batches * first.epochs)
        running = set(range(len(self._heads)))
        step = 0
        for epoch in range(first.epochs):
            share = rate(step)
            losses = self._run_epoch(rows, batches, rate, step)
            step += batches
            held = self._check(checked) if checked else [(math.nan, math.nan)] * len(self._heads)
            for index in sorted(running):
                head = self._heads[index]
                head.history_.append(Epoch(losses[index], *held[index], head.lr * share))
                best = head.history_[head.best_epoch_].validation_loss
                if checked is None or epoch == 0 or held[index][0] < best:
                    head.best_epoch_ = epoch
                    for kept, now in zip(self._best, self._parameters, strict=True):
                        kept[index] = now[index]
                elif epoch - head.best_epoch_ >= head.patience:
                    running.discard(index)
            if not running:
                break
        self._hand_over()

    def _run_epoch(self, rows: TrainingRows, batches: int, rate: Any, step: int) -> list[float]:
        order = torch.randperm(len(rows.inputs)).to(rows.inputs.device)
        total = torch.zeros(len(self._heads), device=rows.inputs.device)
        for offset, batch in enumerate(order.tensor_split(batches)):
            for parameter in self._parameters:
                parameter.requires_grad_(True)
            logits = self.logits(rows.inputs[batch], training=True)
            targets = rows.targets[batch].expand(len(self._heads), -1)
            losses = nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
            means = (losses * rows.weights[batch]).mean(dim=1)
            gradients = torch.autograd.grad(means.sum(), self._parameters)
            total += means.detach() * len(batch)
            for parameter in self._parameters:
                parameter.requires_grad_(False)
            self._update(gradients, rate(step + offset), step + offset + 1)
        return [value / len(order) for value in total.tolist()]

    def _update(self, gradients: Sequence[Tensor], share: float, step: int) -> None:
        """One step of AdamW; biases are not decayed."""
        lr = self._lr * share
        for index, (parameter, gradient) in enumerate(zip(self._parameters, gradients, strict=True)):
            mean, square = self._moments[index]
            if index % 2 == 0:
                parameter.mul_(1 - lr * self._decay)
            mean.lerp_(gradient, 1 - _BETAS[0])
            square.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
            root = square.sqrt().div_(math.sqrt(1 - _BETAS[1] ** step)).add_(_EPS)
            parameter.sub_(lr / (1 - _BETAS[0] ** step) * mean.div(root))

    def _check(self, rows: TrainingRows) -> list[tuple[float, float]]:
        with torch.inference_mode():
            logits = self.logits(rows.inputs, training=False)
            targets = rows.targets.expand(len(self._heads), -1)
            losses = nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none").mean(
                dim=1
            )
            hits = (logits.argmax(dim=2) == targets).float().mean(dim=1)
        return list(zip(losses.tolist(), hits.tolist(), strict=True))

    def _hand_over(self) -> None:
        """Give each head its network."""
        for index, (head, network) in enumerate(zip(self._heads, self._networks, strict=True)):
            layers = [module for module in network if isinstance(module, nn.Linear)]
            for layer, weight, bias in zip(layers, self._best[::2], self._best[1::2], strict=True):
                layer.weight.data.copy_(weight[index].T)
                layer.bias.data.copy_(bias[index, 0])
            head.network_ = network.cpu().eval()
            head.n_iter_ = len(head.history_)
