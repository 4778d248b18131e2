import numpy as np
import pytest
import torch

from frostline.features.backbones.forward.pooling import POOLS, gem, pool

MAP = torch.randn(3, 5, 4, 6, generator=torch.Generator().manual_seed(1))
TOKENS = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(2))


def test_avg_and_max_of_a_map_are_over_its_positions_in_either_layout():
    array = MAP.numpy()
    for output, positions in ((MAP, (2, 3)), (MAP.permute(0, 2, 3, 1), (1, 2))):
        np.testing.assert_allclose(
            pool(output, "avg", positions=positions), array.mean((2, 3)), rtol=1e-5, atol=1e-6
        )
        np.testing.assert_array_equal(pool(output, "max", positions=positions), array.max((2, 3)))


def test_gem_is_cube_root_of_mean_cube_of_positive_values():
    expected = (np.clip(MAP.numpy().astype(np.float64), 1e-6, None) ** 3).mean((2, 3)) ** (1 / 3)
    np.testing.assert_allclose(gem(MAP, (2, 3)), expected, rtol=1e-5)
    np.testing.assert_allclose(pool(MAP, "gem", positions=(2, 3)), expected, rtol=1e-5)


def test_gem_lies_between_the_average_and_the_maximum():
    positive = MAP.abs()
    low, middle, high = (pool(positive, how, positions=(2, 3)) for how in ("avg", "gem", "max"))
    assert (low < middle).all()
    assert (middle < high).all()


@pytest.mark.parametrize("how", ["avg", "max", "gem"])
def test_prefix_tokens_are_ignored(how):
    spoiled = TOKENS.clone()
    spoiled[:, :2] = 1e6
    torch.testing.assert_close(
        pool(spoiled, how, positions=(1,), prefix=2), pool(TOKENS[:, 2:], how, positions=(1,)), rtol=0, atol=0
    )


def test_cls_is_the_first_token():
    torch.testing.assert_close(pool(TOKENS, "cls", positions=(1,), prefix=2), TOKENS[:, 0], rtol=0, atol=0)


def test_none_flattens_a_map_channel_by_channel_whatever_its_memory_format():
    flat = pool(MAP.contiguous(memory_format=torch.channels_last), "none")
    np.testing.assert_array_equal(flat, MAP.numpy().reshape(3, -1))


@pytest.mark.parametrize("how", POOLS)
def test_the_result_survives_an_operation_in_place_on_the_output(how):
    output = TOKENS.clone()
    vector = pool(output, how, positions=(1,))
    before = vector.clone()
    output.zero_()
    torch.testing.assert_close(vector, before, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("how", POOLS)
def test_reduced_precision_is_pooled_in_float32(how, dtype):
    output = (MAP.abs() * 100).to(dtype)
    vector = pool(output, how, positions=(2, 3))
    assert vector.dtype == torch.float32
    exact = pool(output.double(), how, positions=(2, 3))
    torch.testing.assert_close(
        vector, exact, rtol=1e-5, atol=0
    )  # half precision would be off by 1e-3 or overflow


def test_an_unknown_pool_is_named():
    with pytest.raises(ValueError, match=r"'median'; expected one of avg, max, gem, cls, none"):
        pool(MAP, "median", positions=(2, 3))
