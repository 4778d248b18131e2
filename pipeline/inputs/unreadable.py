"""Messages about unreadable and doubtful images."""

from collections.abc import Mapping

from frostline.pipeline.progress import Reporter

_SHOWN = 10


def describe_unreadable(errors: Mapping[str, str], failed: int, images: int) -> str:
    """Summarise unreadable images: the count, then the first ten with reasons, one per line.

    Args:
        errors: Reasons by image name, for all unreadable images or some of them.
        failed: Number of unreadable images.
        images: Number of images.
    """
    lines = [f"  {name}: {reason}" for name, reason in list(errors.items())[:_SHOWN]]
    if failed > len(lines):
        lines.append(f"  ... and {failed - len(lines)} more")
    return "\n".join([f"{failed} of {images} images could not be read:", *lines])


def report_remarks(remarks: Mapping[str, str], report: Reporter) -> None:
    """Warn about images whose pixels may not mean what their files say, in one sentence per remark.

    Args:
        remarks: Remarks by image name.
        report: Receiver of the warnings.
    """
    for remark in dict.fromkeys(remarks.values()):
        names = [name for name, each in remarks.items() if each == remark]
        count = "1 image was" if len(names) == 1 else f"{len(names)} images were"
        more = ", for example" if len(names) > 1 else ""
        report.warn(f"{count} read with a doubt{more} {names[0]}: {remark}.")
