"""Detection of leaking splits: the same image, or images of one group, in more than one split."""

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.inspection.duplicates import check_leaks
from frostline.features.cache import FeatureCache
from frostline.features.cache.imported.facts import tells_images
from frostline.pipeline.errors import LeakError
from frostline.pipeline.inputs.labelled_images import LabelledImages
from frostline.shell import shell_command
from frostline.splits import Split

_SHOWN_NAMES = 5


def refuse_leaks(images: LabelledImages, split: NDArray[np.uint8]) -> tuple[str, ...]:
    """Raise `LeakError` if splits share images or groups; return warnings, one sentence each.

    Bytes and groups of all rows are compared. Only labels of train and val are read, and no features.

    Raises:
        LeakError: The same image bytes, or one group, are in more than one split.
    """
    labels = np.where((split == Split.NONE) | (split == Split.TEST), -1, images.labels)
    found = check_leaks(split, images.content, images.groups, labels, images.classes)
    leaks = (*found.exact, *found.groups)
    told = content_remark(images)
    if leaks:
        names = "\n".join(f"  {_listed(images, rows)}" for rows in leaks[:_SHOWN_NAMES])
        refusals = "\n".join(found.refusals)
        raise LeakError(
            f"{images.path}: these splits leak, so scores on them would be meaningless:\n{refusals}\n{names}"
            + (f"\n{told}" if found.exact and told else "")
            + (
                f"\nList all of them with: {shell_command('frostline', 'cache', 'check', images.path)}"
                if isinstance(images, FeatureCache)
                else ""
            )
        )
    if not found.conflicts:
        return ()
    remark = f". {told}" if told else ""
    return (f"{found.warnings[0]}; e.g. {_listed(images, found.conflicts[0])}{remark}",)


def content_remark(images: LabelledImages) -> str:
    """Return a sentence on what is compared in place of the bytes of images; empty if it is these."""
    if not isinstance(images, FeatureCache) or tells_images(images.spec):
        return ""
    return (
        "The vectors were imported without their images, so equal vectors count as equal images. To compare the images"
        " themselves, import with --images"
    )


def _listed(images: LabelledImages, rows: NDArray[np.int64]) -> str:
    more = " ..." if len(rows) > _SHOWN_NAMES else ""
    return ", ".join(str(images.ids[row]) for row in rows[:_SHOWN_NAMES]) + more
