"""How close features are to a reference, and what is recorded of it."""

import numpy as np
import pytest

from frostline.features.fidelity import Check, LayerCheck


def test_a_check_of_equal_and_of_known_vectors():
    reference = {
        "a": np.array([[3.0, 4.0], [0.0, 0.0]], np.float32),
        "b": np.array([[1.0], [2.0]], np.float32),
    }
    assert Check.of(reference, reference) == Check(2, {"a": LayerCheck(1, 1, 0), "b": LayerCheck(1, 1, 0)})
    found = {"a": np.array([[4.0, 3.0], [0.0, 0.0]], np.float32), "b": np.array([[1.5], [-2.0]], np.float32)}
    check = Check.of(found, reference)
    assert check.layers["a"].min_cosine == pytest.approx(24 / 25)
    assert check.layers["a"].mean_cosine == pytest.approx(49 / 50)
    assert check.layers["a"].relative_error == pytest.approx(2**0.5 / 5)
    assert check.layers["b"] == LayerCheck(-1, 0, 2)
    assert (check.min_cosine, check.mean_cosine, check.relative_error) == (-1, 0, 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_not_finite_never_pass(bad):
    reference = {"a": np.ones((3, 4), np.float32)}
    found = {"a": np.ones((3, 4), np.float32)}
    found["a"][1, 2] = bad
    check = Check.of(found, reference)
    assert (check.min_cosine, check.relative_error) == (0, 1)


def test_check_survives_json_round_trip():
    check = Check(7, {"embedding": LayerCheck(0.9991, 0.99999, 1e-3), "blocks.4:avg": LayerCheck(1, 1, 0)})
    assert Check.from_json(check.to_json()) == check
    assert "minimum 0.999100" in str(check)
    for text in ("", "[]", '{"images":1}', '{"images":1,"layers":{"a":{}}}'):
        with pytest.raises(ValueError, match=r".+"):
            Check.from_json(text)


def test_check_of_earlier_version_keeps_the_rejected_engines():
    check = Check(1, {"embedding": LayerCheck(1, 1, 0)}, rejected=("eager bf16: too far",))
    earlier = check.to_json().replace('"rejected"', '"passed_over"')
    assert earlier != check.to_json()
    assert Check.from_json(earlier) == check
