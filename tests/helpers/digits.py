"""Folders of some of the scanned digits, by class."""

import shutil


def copy_digits(whole, folder, *, classes, each, names=()):
    """Copy the first images of the first classes, under their names or others; returns the folder."""
    groups = sorted(whole.iterdir())[:classes]
    for name, group in zip(names or [group.name for group in groups], groups, strict=True):
        (folder / name).mkdir(parents=True)
        for path in sorted(group.iterdir())[:each]:
            shutil.copy(path, folder / name)
    return folder
