"""Training loop: resume from the last checkpoint, evaluate each epoch on validation, keep the best one."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
import torch
from msgspec import Meta, Struct
from numpy.typing import NDArray
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # torch's own usage
from torch.nn.parallel import DistributedDataParallel

from frostline.features.backbones.weights import load_tensors
from frostline.features.engines.compiler import compile_network
from frostline.files.documents import convert
from frostline.pipeline.errors import FinetuneError
from frostline.pipeline.options.learning.recipe import Recipe
from frostline.pipeline.tuning.inputs import BatchSampler, Inputs
from frostline.pipeline.tuning.trainer.checkpoint import (
    Checkpoint,
    damaged,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from frostline.pipeline.tuning.trainer.network import FrostLine, Network
from frostline.pipeline.tuning.trainer.optimisation import Mixing, make_optimizer, make_schedule, replay, step
from frostline.pipeline.tuning.trainer.processes import Processes

CHECKPOINT, BEST = "checkpoint.safetensors", "best.safetensors"
_AUTOCAST: Mapping[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
_CHECKPOINT_SECONDS = 300
_CLOCK_UPDATES = 20  # updates between checks of the time since the last checkpoint


@dataclass(frozen=True)
class Epoch:
    """Metrics of one epoch.

    Attributes:
        epoch: Number of the epoch, from 1.
        frost_line: Last frozen stage.
        lr: Learning rate of the head at the end of the epoch.
        train_loss: Mean cross-entropy on the augmented training images.
        train_accuracy: Accuracy on the augmented training images.
        val_loss: Mean cross-entropy on the validation images; NaN without validation images.
        val_accuracy: Accuracy on the validation images; NaN without validation images.
        seconds: Wall time, including validation.
        images_per_second: Rate of training, without validation.
    """

    epoch: int
    frost_line: str
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float
    images_per_second: float

    def __str__(self) -> str:
        validation = (
            ""
            if math.isnan(self.val_loss)
            else f", val loss {self.val_loss:.4f}, val accuracy {self.val_accuracy:.4f}"
        )
        return (
            f"epoch {self.epoch}: train loss {self.train_loss:.4f}, train accuracy {self.train_accuracy:.4f}{validation}, "
            f"lr {self.lr:.3g}, {self.images_per_second:,.0f} images/s, {self.seconds:.1f} s"
        )


@dataclass(frozen=True)
class Job:
    """Network, data and settings of a training loop.

    Attributes:
        network: Network in its initial state.
        line: Frost line of the network.
        inputs: Source of training and validation batches.
        train: (n,) int64 training rows.
        val: (m,) int64 validation rows; may be empty.
        classes: Number of classes.
        recipe: Settings of the training.
        from_scratch: Whether training starts from random weights.
        folder: Folder for checkpoints.
        key: Digest of everything that the result depends on; a checkpoint with another key raises an error.
        processes: Processes that train together.
    """

    network: Network
    line: FrostLine
    inputs: Inputs
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    classes: int
    recipe: Recipe
    from_scratch: bool
    folder: Path
    key: str
    processes: Processes

    @property
    def sampler(self) -> BatchSampler:
        """Assignment of training rows to updates."""
        return BatchSampler(self.train, self.recipe.batch_size, self.recipe.accumulate, self.recipe.seed)


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training; the network of the job holds the weights of the best epoch.

    Attributes:
        history: Metrics of every epoch.
        best_epoch: Number of the epoch whose weights were kept.
        resumed: Number of epochs completed by an earlier, interrupted call.
        frozen: Digest of the weights that were frozen throughout, the same before and after.
        logits: (m, classes) float64 logits of the validation rows with the kept weights.
    """

    history: tuple[Epoch, ...]
    best_epoch: int
    resumed: int
    frozen: str
    logits: NDArray[np.float64]


@dataclass
class _Progress:
    """Position of a training: after `update` updates of epoch `epoch`, both counted from 0."""

    epoch: int = 0
    update: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # loss, hits, images of this epoch
    seconds: float = 0.0  # wall time of this epoch
    history: list[Epoch] = field(default_factory=list)
    best: int = 0  # number of the best epoch so far
    scale: dict[str, Any] = field(default_factory=dict)  # state of the gradient scaler, for fp16


_Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]


class _State(Struct, frozen=True, kw_only=True):
    """State of a training as a checkpoint holds it; see `_Progress`."""

    epoch: _Count
    update: _Count
    sums: tuple[float, float, float]
    seconds: float
    history: tuple[Epoch, ...]
    best: _Count
    scale: Mapping[str, Any]


Advance = Callable[[int, str], None]


def train(
    job: Job,
    *,
    advance: Advance = lambda _done, _status: None,
    on_epoch: Callable[[Epoch], None] = lambda _epoch: None,
) -> TrainingResult:
    """Train, resuming from the last checkpoint if there is one.

    A checkpoint is written after each epoch, and every few minutes within long epochs. Random numbers depend only
    on the seed, the epoch, the update and the process, so an interrupted and resumed training gives the same
    results as an uninterrupted one.

    Args:
        job: The training.
        advance: Called after each update with the number of images and a short status text.
        on_epoch: Called with the metrics of each finished epoch, including those of an earlier call.

    Raises:
        FinetuneError: The loss is not finite, or a checkpoint is damaged or belongs to another training.
    """
    return _Training(job, advance, on_epoch).run()


class _Training:
    def __init__(self, job: Job, advance: Advance, on_epoch: Callable[[Epoch], None]) -> None:
        recipe = job.recipe
        self.job, self.advance, self.on_epoch = job, advance, on_epoch
        self.sampler = job.sampler
        self.network = job.network.to(memory_format=torch.channels_last).to(job.processes.device)
        groups = job.line.groups(self.network, recipe, from_scratch=job.from_scratch)
        self.optimizer = make_optimizer(groups, recipe)
        self.schedule = make_schedule(self.optimizer, recipe, self.sampler.updates)
        self.head_group = next(
            index
            for index, group in enumerate(self.optimizer.param_groups)
            if any(parameter is self.network.head.weight for parameter in group["params"])
        )
        self.mixing = Mixing(recipe, job.classes)
        self.precision = job.processes.precision(recipe.precision)
        self.scaler = torch.amp.GradScaler(job.processes.device.type, enabled=self.precision == "fp16")
        self.ema = ModelEmaV3(self.network, decay=recipe.ema) if recipe.ema is not None else None
        self.progress = _Progress()
        self.frozen = -1  # number of frozen stages that `steps` was built for; -1 for none
        self.steps: nn.Module = self.network
        self.saved = time.monotonic()

    def run(self) -> TrainingResult:
        job, recipe = self.job, self.job.recipe
        last = recipe.epochs - 1
        frozen = job.line.fingerprint(last)  # before a checkpoint is loaded
        self._restore()
        resumed = len(self.progress.history)
        for epoch in self.progress.history:
            self.on_epoch(epoch)
        self.advance(resumed * self.sampler.epoch_rows + int(self.progress.sums[2]), "")
        while self.progress.epoch < recipe.epochs and not self._out_of_patience():
            self._epoch()
        self._load_best()
        if job.line.fingerprint(last) != frozen:
            raise FinetuneError(
                "frozen parts of the network have changed; this is a bug, and the result is invalid"
            )
        return TrainingResult(
            tuple(self.progress.history), self.progress.best, resumed, frozen, self._logits()
        )

    def _epoch(self) -> None:
        progress, job = self.progress, self.job
        began, done_before = time.perf_counter(), progress.sums[2]
        if job.line.frozen_at(progress.epoch) != self.frozen:
            self.frozen = job.line.frozen_at(progress.epoch)
            job.line.draw(progress.epoch)
            self.steps = self._step_network()
        job.line.train(self.network, progress.epoch)
        chunks = self.sampler.chunks(progress.epoch, progress.update, job.processes)
        batches = self.job.inputs.train(chunks, progress.epoch)
        started = progress.seconds
        for _ in range(progress.update, self.sampler.updates):
            self._update(batches)
            progress.update += 1
            progress.seconds = started + time.perf_counter() - began
            self._save_if_due()
        trained = time.perf_counter() - began
        loss, hits, images = job.processes.total(self._tensor(progress.sums)).tolist()
        rate = (progress.sums[2] - done_before) * job.processes.count / max(trained, 1e-9)
        val_loss, val_accuracy = self._validate()
        record = Epoch(
            epoch=progress.epoch + 1,
            frost_line=job.line.name_at(progress.epoch),
            lr=self.optimizer.param_groups[self.head_group]["lr"],
            train_loss=loss / images,
            train_accuracy=hits / images,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            seconds=started + time.perf_counter() - began,
            images_per_second=rate,
        )
        if not math.isfinite(record.train_loss):
            raise FinetuneError(
                f"the loss of epoch {record.epoch} is {record.train_loss}: training has diverged. Lower --lr, raise"
                " --warmup, or limit the gradient with --clip; then start over with --restart."
            )
        progress.history.append(record)
        self._keep_if_best()
        progress.epoch, progress.update, progress.sums, progress.seconds = (
            progress.epoch + 1,
            0,
            [0.0] * 3,
            0.0,
        )
        self._save(progress.sums)
        self.on_epoch(record)

    def _step_network(self) -> nn.Module:
        """Return the network for the current frost line, shared with other processes and compiled if asked for."""
        shared = self.job.processes.share(self.network)
        return compile_network(shared) if self.job.recipe.compile else shared

    def _update(self, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
        job, progress, recipe = self.job, self.progress, self.job.recipe
        size = self.sampler.update_rows
        draw = (recipe.seed, progress.epoch, progress.update, job.processes.rank)
        torch.manual_seed(np.random.SeedSequence(draw).generate_state(1, np.uint64)[0].item() >> 1)
        losses = 0.0
        for part in range(recipe.accumulate):
            images, labels = self._to_device(next(batches))
            images, targets = self.mixing(images, labels)
            last = part == recipe.accumulate - 1
            with _without_sync(self.steps, last=last), self._autocast():
                logits = self.steps(images)
                # The sum, because the mean is over the whole update, independent of its steps and processes.
                loss = F.cross_entropy(
                    logits, targets, reduction="sum", label_smoothing=recipe.label_smoothing
                )
                torch.autograd.backward(self.scaler.scale(loss * (job.processes.count / size)))
            expected = targets.argmax(1) if targets.ndim == 2 else targets
            losses += loss.item()
            progress.sums[1] += (logits.argmax(1) == expected).sum().item()
            progress.sums[2] += len(images)
        progress.sums[0] += losses
        if recipe.clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        step(self.schedule)
        if self.ema:
            self.ema.update(self.network)
        mean = losses * job.processes.count / size
        rate = self.optimizer.param_groups[self.head_group]["lr"]
        accuracy = progress.sums[1] / progress.sums[2]
        status = f"epoch {progress.epoch + 1}/{recipe.epochs}, loss {mean:.3f}, accuracy {accuracy:.1%}, lr {rate:.2g}"
        self.advance(size, status)

    def _to_device(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        inputs, labels = batch
        device = self.job.processes.device
        inputs = inputs.to(device, non_blocking=True)
        if inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return inputs, labels.to(device, non_blocking=True)

    def _autocast(self) -> AbstractContextManager[object]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.job.processes.device.type, dtype=_AUTOCAST[self.precision])

    def _validate(self) -> tuple[float, float]:
        """Return mean cross-entropy and accuracy on the validation rows; each process evaluates a part of them."""
        job = self.job
        if not len(job.val):
            return math.nan, math.nan
        network = self.ema.module if self.ema else self.network
        network.eval()
        sums = torch.zeros(2, dtype=torch.float64)
        with torch.inference_mode(), self._autocast():
            for batch in job.inputs.validation(job.val[job.processes.rank :: job.processes.count]):
                inputs, labels = self._to_device(batch)
                logits = network(inputs).float()
                sums[0] += F.cross_entropy(logits, labels, reduction="sum").item()
                sums[1] += (logits.argmax(1) == labels).sum().item()
        loss, hits = (job.processes.total(self._tensor(sums.tolist())) / len(job.val)).tolist()
        return loss, hits

    def _logits(self) -> NDArray[np.float64]:
        """Return the (m, classes) float64 logits of all validation rows, computed in fp32."""
        self.network.eval()
        with torch.inference_mode():
            parts = [
                self.network(self._to_device(batch)[0]).double().cpu()
                for batch in self.job.inputs.validation(self.job.val)
            ]
        return torch.cat(parts).numpy() if parts else np.zeros((0, self.job.classes))

    def _tensor(self, numbers: list[float]) -> Tensor:
        wide = self.job.processes.device.type != "mps"
        return torch.tensor(
            numbers, dtype=torch.float64 if wide else torch.float32, device=self.job.processes.device
        )

    def _keep_if_best(self) -> None:
        progress = self.progress
        scores = [_score_key(epoch) for epoch in progress.history]
        if scores[-1] < max(scores) or scores.index(max(scores)) < len(scores) - 1:
            return
        progress.best = progress.history[-1].epoch
        if self.job.processes.leads:
            network = self.ema.module if self.ema else self.network
            save_checkpoint(
                self.job.folder / BEST, network.state_dict(), {"epoch": progress.best, "key": self.job.key}
            )

    def _out_of_patience(self) -> bool:
        patience = self.job.recipe.patience
        return patience is not None and self.progress.epoch - self.progress.best >= patience

    def _save_if_due(self) -> None:
        """Write a checkpoint within a long epoch; the clock of the leading process decides for all processes."""
        job, progress = self.job, self.progress
        if progress.update % _CLOCK_UPDATES or progress.update == self.sampler.updates:
            return
        due = float(job.processes.leads and time.monotonic() - self.saved > _CHECKPOINT_SECONDS)
        due, *sums = job.processes.total(self._tensor([due, *progress.sums])).tolist()
        if due:
            self._save(sums)

    def _save(self, sums: list[float]) -> None:
        """Write a checkpoint; `sums` are the totals over all processes."""
        if not self.job.processes.leads:
            return
        progress = self.progress
        tensors = {f"network.{name}": each for name, each in self.network.state_dict().items()}
        tensors |= {f"optimizer.{name}": each for name, each in optimizer_tensors(self.optimizer).items()}
        if self.ema:
            tensors |= {f"ema.{name}": each for name, each in self.ema.module.state_dict().items()}
        state = {
            "key": self.job.key,
            "sums": sums,
            **{name: getattr(progress, name) for name in ("epoch", "update", "seconds", "best")},
            "history": [dataclasses.asdict(epoch) for epoch in progress.history],
            "scale": self.scaler.state_dict(),
        }
        save_checkpoint(self.job.folder / CHECKPOINT, tensors, state)
        self.saved = time.monotonic()

    def _restore(self) -> None:
        path = self.job.folder / CHECKPOINT
        saved = load_checkpoint(path)
        if saved is None:
            return
        _check_key(saved, self.job)
        try:
            state = convert(saved.state, _State)
            load_tensors(self.network, saved.part("network"))
            restore_optimizer(self.optimizer, saved.part("optimizer"))
            if self.ema:
                load_tensors(self.ema.module, saved.part("ema"))
            if state.scale:
                self.scaler.load_state_dict(dict(state.scale))
        except (ValueError, LookupError, TypeError, RuntimeError) as error:
            raise damaged(path, str(error).partition("\n")[0]) from error
        if state.update > self.sampler.updates or state.epoch > self.job.recipe.epochs:
            raise damaged(
                path, f"epoch {state.epoch}, update {state.update} is beyond the end of the training"
            )
        self.progress = _Progress(
            epoch=state.epoch,
            update=state.update,
            sums=list(state.sums) if self.job.processes.leads else [0.0] * 3,
            seconds=state.seconds,
            history=list(state.history),
            best=state.best,
        )
        replay(self.schedule, self.progress.epoch * self.sampler.updates + self.progress.update)

    def _load_best(self) -> None:
        self.job.processes.wait()
        best = load_checkpoint(self.job.folder / BEST)
        if best is None or best.state.get("epoch") != self.progress.best:
            raise FinetuneError(
                f"{self.job.folder / BEST} is missing or of another epoch; start over with --restart"
            )
        try:
            load_tensors(self.network, best.tensors)
        except RuntimeError as error:
            raise damaged(self.job.folder / BEST, str(error).partition("\n")[0]) from error


def _score_key(epoch: Epoch) -> tuple[float, float, int]:
    """Return the sort key of epochs: validation accuracy, then loss; without validation, the last epoch is best."""
    if math.isnan(epoch.val_loss):
        return 0.0, 0.0, epoch.epoch
    return epoch.val_accuracy, -epoch.val_loss, 0


def _without_sync(steps: nn.Module, *, last: bool) -> AbstractContextManager[object]:
    """Return a context in which processes exchange gradients only in the last step of an update."""
    if isinstance(steps, DistributedDataParallel) and not last:
        context: AbstractContextManager[object] = steps.no_sync()
        return context
    return nullcontext()


def _check_key(saved: Checkpoint, job: Job) -> None:
    if saved.state.get("key") != job.key:
        raise FinetuneError(
            f"{job.folder} holds an unfinished training with other settings, data or weights. Choose another --run,"
            " use the original settings to resume it, or pass --restart to discard it."
        )
