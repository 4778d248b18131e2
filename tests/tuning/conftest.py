"""A small real task: scanned digits, and a small network."""

import pytest

from pipeline.demo import write_digits

BACKBONE = {"backbone": "timm:test_resnet", "weights": "random:1", "image_size": 32}


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Three kinds of digits, 40 of each."""
    whole = tmp_path_factory.mktemp("whole")
    write_digits(whole)
    folder = tmp_path_factory.mktemp("data") / "digits"
    for group in sorted(whole.iterdir())[:3]:
        (folder / group.name).mkdir(parents=True)
        for path in sorted(group.iterdir())[:40]:
            (folder / group.name / path.name).write_bytes(path.read_bytes())
    return folder
