"""A study, a run, a machine of another kind, and what was built on it."""

import pytest

from frostline import registry
from frostline.features.engines import Plan, plan
from frostline.pipeline import extract, train_head
from tests.helpers.network import BACKBONE

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


@pytest.fixture(scope="session")
def eager_run(ten_digits, tmp_path_factory):
    """A run on a cache by eager fp32 beside it."""
    folder = tmp_path_factory.mktemp("eager")
    extract(ten_digits, cache=folder / "c.h5", engine="eager", precision="fp32", device="cpu", **BACKBONE)
    return train_head(folder / "c.h5", "linear", params={"l2": 0.1}, run=folder / "run").run


@pytest.fixture
def other_machine(cpu):
    """Go to a machine with bf16 arithmetic and without OpenVINO."""

    def move():
        cpu.setattr(plan, "_cpu_capabilities", lambda: {"amx_bf16": True})
        cpu.setattr(registry, "find_spec", lambda _name: None)

    return move


@pytest.fixture
def built(monkeypatch):
    """The engines that were built, by kind and precision."""
    built = []
    build, reference = Plan.build, Plan.build_reference

    def counted(self, *args):
        built.append((self.kind, self.precision))
        return build(self, *args)

    def counted_reference(self, *args):
        built.append(("reference", "fp32"))
        return reference(self, *args)

    monkeypatch.setattr(Plan, "build", counted)
    monkeypatch.setattr(Plan, "build_reference", counted_reference)
    return built
