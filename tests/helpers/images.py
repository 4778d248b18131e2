"""Small image files in folders."""

from pathlib import Path

from frostline.testing.images import photo


def write_image(path, *, seed=0, size=(12, 10)):
    """Write a photo in the format of the path's extension, making the folders it lies in."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    photo(*size, seed=seed).save(path)
    return path


def write_folder(root, names):
    """Write a different photo under each of the relative names; returns the root."""
    for seed, name in enumerate(names):
        write_image(root / name, seed=seed)
    return root
