"""Two small networks, two heads and a small real task, as a student would write them down."""

import pytest

STUDY = """
[batch]
data = "{data}"
out = "{out}"
seeds = [0, 1]

[[extract]]
backbone = ["timm:test_resnet", "timm:test_vit"]
weights = "random:1"
image-size = 32

[[train-head]]
head = ["linear", "knn"]
"""


@pytest.fixture
def write_study(tmp_path, digits):
    """Write a study file: the whole of it, or what is added to the usual one."""

    def write(text=STUDY, added="", data=digits):
        path = tmp_path / "study.toml"
        path.write_text(text.format(data=data, out=tmp_path / "out") + added)
        return path

    return write
