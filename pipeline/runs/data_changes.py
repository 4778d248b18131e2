"""Comparison of the images that a run was trained on with those that it is evaluated on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frostline.pipeline.inputs.joined_caches import AnyCache, image_digests
from frostline.pipeline.runs.run import Run


@dataclass(frozen=True)
class DataChanges:
    """Differences between the labelled, readable images that a run recorded and those of a cache.

    Attributes:
        images: Number of different images that the run recorded. A run of version 3 or earlier recorded no test images.
        common: Number of these that the cache holds, with the same bytes.
        added: Number of different images of the cache that the run did not record; None in a run of version 3 or earlier.
        relabelled: Number of common images with another class; None in a run of version 3 or earlier.
        trained_source: Folder or manifest of the images that the run was trained on.
        source: Folder or manifest of the images of the cache.
    """

    images: int
    common: int
    added: int | None
    relabelled: int | None
    trained_source: str
    source: str

    @property
    def is_same(self) -> bool:
        """Whether no image was added, removed, changed or relabelled."""
        return self.common == self.images and not self.added and not self.relabelled

    @property
    def is_other(self) -> bool:
        """Whether the cache holds less than half of the images, and so counts as another data set."""
        return 2 * self.common < self.images

    def __str__(self) -> str:
        found = []
        if not self.common:
            found.append(f"none of its {self.images} images is there")
        elif self.common < self.images:
            gone = self.images - self.common
            found.append(f"{gone} of its {self.images} images {'is' if gone == 1 else 'are'} gone or changed")
        if self.added:
            found.append("1 image is new" if self.added == 1 else f"{self.added} images are new")
        if self.relabelled:
            found.append(
                "1 image has another class"
                if self.relabelled == 1
                else f"{self.relabelled} images have another class"
            )
        if self.source != self.trained_source:
            found.append(f"they are from {self.source}, not {self.trained_source}")
        return ", ".join(found)


def compare_data(run: Run, cache: AnyCache) -> DataChanges:
    """Compare the images of a run with those of a cache.

    Raises:
        RunError: The file of the run's split can't be read.
    """
    recorded, labels = run.split.content, run.split.labels
    usable = cache.ok & (cache.labels >= 0)
    given = image_digests(cache.content[usable])
    is_common = np.isin(recorded, given)
    common = len(np.unique(recorded[is_common]))
    added = relabelled = None
    if labels is not None:
        added = len(np.unique(given)) - common
        numbers = {
            name: number
            for number, name in enumerate(
                {**dict.fromkeys(cache.classes), **dict.fromkeys(run.record.classes)}
            )
        }
        ours = _labelled(recorded, [numbers[name] for name in run.record.classes], labels)
        theirs = _labelled(given, [numbers[name] for name in cache.classes], cache.labels[usable])
        relabelled = len(np.unique(recorded[is_common & ~np.isin(ours, theirs)]))
    return DataChanges(
        images=len(np.unique(recorded)),
        common=common,
        added=added,
        relabelled=relabelled,
        trained_source=run.caches[0].source,
        source=cache.source,
    )


def _labelled(
    content: NDArray[np.bytes_], numbers: Sequence[int], labels: NDArray[np.int64]
) -> NDArray[np.bytes_]:
    """Return one value per image, (n,), that depends on its bytes and its class.

    Args:
        content: (n,) digests.
        numbers: Number of each class, the same for equal names.
        labels: (n,) indices into `numbers`.
    """
    pairs = np.zeros((len(content), 24), np.uint8)
    pairs[:, :16] = content.view(np.uint8).reshape(-1, 16)
    pairs[:, 16:] = np.asarray(numbers, "<i8")[labels].view(np.uint8).reshape(-1, 8)
    return pairs.view("S24")[:, 0]
