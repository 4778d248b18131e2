"""A process that torchrun launched takes its share of the machine."""

import os

import pytest

from frostline.features.images.batches import default_workers
from frostline.pipeline.hosts.torchrun import join_launcher


def test_a_launched_process_takes_its_share_of_the_machine(monkeypatch):
    assert join_launcher({}) is None
    assert str(join_launcher({"RANK": "1", "WORLD_SIZE": "4"})) == "2/4"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert default_workers() == cores
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert default_workers() == max(1, cores // 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    assert default_workers() == 1


@pytest.mark.parametrize(
    ("visible", "rank", "seen"), [(None, "2", "2"), ("4,5,6", "1", "5"), ("GPU-a,GPU-b", "3", "GPU-b")]
)
def test_a_launched_process_sees_its_own_gpu_only(monkeypatch, visible, rank, seen):
    import torch

    count = len(visible.split(",")) if visible else 4
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    environment = {"RANK": rank, "WORLD_SIZE": "4", "LOCAL_RANK": rank}
    environment |= {"CUDA_VISIBLE_DEVICES": visible} if visible else {}
    join_launcher(environment)
    assert environment["CUDA_VISIBLE_DEVICES"] == seen
