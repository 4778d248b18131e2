"""Training inputs of a network: augmented images, or activations from a cache."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import InterpolationMode, v2

from frostline.features.images.decoding import DecodeError, decode, reason_of, upright_rgb
from frostline.features.spec import Transform
from frostline.features.table import ImageSource
from frostline.pipeline.options.learning.recipe import Recipe
from frostline.pipeline.tuning.loading import ImageLoader, Unreadable
from frostline.pipeline.tuning.trainer.processes import Processes

_EVAL_BATCH = 64
_ERASED = (114, 114, 114)  # grey, in pixel values before normalisation

Batch = tuple[Tensor, Tensor]


class Inputs(Protocol):
    """Source of batches of inputs and (b,) int64 labels on the CPU."""

    def train(self, chunks: Sequence[NDArray[np.int64]], epoch: int) -> Iterator[Batch]:
        """Yield one batch per chunk of rows, augmented for the given epoch."""

    def validation(self, rows: NDArray[np.int64]) -> Iterator[Batch]:
        """Yield the rows in batches, without augmentation."""


@dataclass(frozen=True)
class BatchSampler:
    """Assignment of training rows to epochs, updates and processes.

    Attributes:
        rows: (n,) int64 training rows.
        batch_size: Rows per update, summed over all processes.
        accumulate: Number of steps per update.
        seed: Random seed of the order.
    """

    rows: NDArray[np.int64]
    batch_size: int
    accumulate: int
    seed: int

    @property
    def updates(self) -> int:
        """Updates per epoch, at least one. Rows that do not fill the last update are dropped in that epoch."""
        return max(1, len(self.rows) // self.batch_size)

    @property
    def update_rows(self) -> int:
        """Rows per update."""
        return min(self.batch_size, len(self.rows))

    @property
    def epoch_rows(self) -> int:
        """Rows per epoch."""
        return self.updates * self.update_rows

    def chunks(self, epoch: int, first_update: int, processes: Processes) -> list[NDArray[np.int64]]:
        """Return the rows of each step of this process, starting at an update of the epoch."""
        order = np.random.default_rng((self.seed, epoch)).permutation(self.rows)
        parts = self.accumulate * processes.count
        chunks: list[NDArray[np.int64]] = []
        for update in range(first_update, self.updates):
            rows = order[update * self.batch_size : (update + 1) * self.batch_size]
            mine = np.array_split(rows, parts)[processes.rank :: processes.count]
            chunks += mine
        return chunks


class ImageInputs:
    """Images decoded in worker processes and augmented according to a recipe.

    The augmentation depends only on the seed, the epoch and the image, not on the number of workers.

    Args:
        source: The images.
        labels: (n,) int64 labels of all rows.
        transform: Image transform of the network.
        recipe: Settings of the augmentation.
        workers: Decoding processes; 0 decodes in the main process.
        pin: Whether to place batches in page-locked memory, for CUDA.
        warn: Receiver of a warning if the system kills decoding processes.
    """

    def __init__(
        self,
        source: ImageSource,
        labels: NDArray[np.int64],
        transform: Transform,
        recipe: Recipe,
        *,
        workers: int,
        pin: bool = False,
        warn: Callable[[str], None],
    ) -> None:
        training = _Images(source, labels, _Augmented(transform, recipe), recipe.seed)
        validation = _Images(source, labels, _Plain(transform), recipe.seed)
        self._train = ImageLoader(training, workers, pin=pin, warn=warn)
        self._validation = ImageLoader(validation, workers, pin=pin, warn=warn)

    def train(self, chunks: Sequence[NDArray[np.int64]], epoch: int) -> Iterator[Batch]:
        """Yield (b, 3, h, w) uint8 augmented images and their labels."""
        return self._train.batches([[(epoch, row) for row in chunk.tolist()] for chunk in chunks])

    def validation(self, rows: NDArray[np.int64]) -> Iterator[Batch]:
        """Yield (b, 3, h, w) uint8 images, exactly as for feature extraction, and their labels."""
        return self._validation.batches([[(0, row) for row in part.tolist()] for part in _eval_batches(rows)])


class _Images(Dataset[Any]):
    """Data set of images and labels, indexed by (epoch, row)."""

    def __init__(
        self, source: ImageSource, labels: NDArray[np.int64], view: "_Augmented | _Plain", seed: int
    ) -> None:
        self._source, self._labels, self._view, self._seed = source, labels, view, seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int] | Unreadable:
        try:
            return self._item(*key)
        except (OSError, DecodeError, MemoryError) as error:
            return Unreadable(self._source.display_name(key[1]), reason_of(error))

    def _item(self, epoch: int, row: int) -> tuple[Tensor, int]:
        data, _ = self._source.read(row)
        with torch.random.fork_rng(devices=[]):
            # torchvision's transforms draw only from torch's generator.
            torch.default_generator.manual_seed(random.Random(f"{self._seed} {epoch} {row}").getrandbits(63))  # noqa: S311
            return self._view(data), int(self._labels[row])


class _Plain:
    """Decoding to the (3, h, w) uint8 pixels that features are computed from."""

    def __init__(self, transform: Transform) -> None:
        self._transform = transform

    def __call__(self, data: bytes) -> Tensor:
        pixels = np.empty((*self._transform.crop, 3), np.uint8)
        decode(data, self._transform, pixels)
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


class _Augmented:
    """Decoding to (3, h, w) uint8 pixels, augmented according to a recipe."""

    def __init__(self, transform: Transform, recipe: Recipe) -> None:
        interpolation = InterpolationMode(transform.interpolation)
        self._crop = (
            v2.RandomResizedCrop(
                transform.crop, scale=(0.35, 1.0), interpolation=interpolation, antialias=True
            )
            if recipe.augment == "crop"
            else None
        )
        self._plain = _Plain(transform)
        steps: list[torch.nn.Module] = []
        if recipe.augment == "shift":
            steps.append(v2.RandomCrop(transform.crop, padding=max(1, min(transform.crop) // 8)))
        if recipe.augment != "none":
            steps.append(v2.RandomHorizontalFlip())
        if recipe.randaugment:
            steps.append(v2.RandAugment(num_ops=2, magnitude=recipe.randaugment, num_magnitude_bins=31))
        if recipe.erasing:
            steps.append(v2.RandomErasing(recipe.erasing, value=list(_ERASED)))
        self._steps = steps

    def __call__(self, data: bytes) -> Tensor:
        if self._crop is None:
            pixels = self._plain(data)
        else:
            pixels = v2.functional.pil_to_tensor(self._crop(upright_rgb(data)))
        for step in self._steps:
            pixels = step(pixels)
        return pixels


class ActivationInputs:
    """Activations at the frost line, read from a cache.

    Args:
        views: (n, size) float arrays of all rows, e.g. memory maps; the first is of the images themselves, the
            others are of random views.
        labels: (n,) int64 labels of all rows.
        shape: Shape of the activations of one image in the network.
        seed: Random seed with which each epoch draws a view of each row.
    """

    def __init__(
        self, views: Sequence[NDArray[Any]], labels: NDArray[np.int64], shape: tuple[int, ...], seed: int
    ) -> None:
        self._views, self._labels, self._shape, self._seed = views, labels, shape, seed

    def train(self, chunks: Sequence[NDArray[np.int64]], epoch: int) -> Iterator[Batch]:
        """Yield (b, *shape) float32 activations and their labels, with the view that the epoch draws for each row."""
        # A stream independent of the order of rows, which is drawn with the same seed and epoch.
        random = np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=(epoch,)))
        drawn = random.integers(len(self._views), size=len(self._labels))
        for rows in chunks:
            yield self._batch(rows, drawn[rows])

    def validation(self, rows: NDArray[np.int64]) -> Iterator[Batch]:
        """Yield (b, *shape) float32 activations of the images themselves and their labels."""
        for part in _eval_batches(rows):
            yield self._batch(part, np.zeros(len(part), np.int64))

    def _batch(self, rows: NDArray[np.int64], views: NDArray[np.int64]) -> Batch:
        activations = np.empty((len(rows), self._views[0].shape[1]), np.float32)
        for view in np.unique(views).tolist():
            here = views == view
            activations[here] = self._views[view][rows[here]]
        return torch.from_numpy(activations).view(len(rows), *self._shape), torch.from_numpy(
            self._labels[rows]
        )


def _eval_batches(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Divide rows into batches of nearly equal size."""
    return np.array_split(rows, -(-len(rows) // _EVAL_BATCH)) if len(rows) else []
