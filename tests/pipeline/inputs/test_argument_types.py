"""Arguments of the wrong type in scripts are named, and what was expected."""

import re

import pytest

from frostline import OptionError, check_cache, split_rows, train_head


@pytest.mark.parametrize("cache", [[], 3, ["a.h5", 3], None])
def test_what_is_no_cache_is_named(cache):
    with pytest.raises(
        OptionError, match=rf"cache: got {re.escape(repr(cache))}, expected the path of a cache"
    ):
        train_head(cache)


def test_a_source_that_is_none_is_named(ten_cache):
    with pytest.raises(OptionError, match="source: got 'x', expected an image source"):
        check_cache(ten_cache, source="x")


def test_a_path_is_no_set_of_rows(ten_cache):
    with pytest.raises(
        OptionError, match=r"images: got the path .*expected an open cache: FeatureCache\.open\(path\)"
    ):
        split_rows(str(ten_cache))
