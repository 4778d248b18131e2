"""Folds keep copies and groups together, and a growing set keeps its folds."""

import numpy as np
import pytest

from frostline.classifiers.errors import SplitError
from frostline.classifiers.protocol.folds import assign_folds


class TestFolds:
    def content(self, n):
        return np.random.default_rng(0).integers(0, 256, (n, 16), np.uint8)

    def test_copies_and_groups_stay_together_and_growth_moves_nothing(self):
        content = self.content(300)
        content[100:110] = content[0]
        groups = np.full(300, "", "<U4")
        groups[50:80], groups[0] = "g", "g"
        fold = assign_folds(content, groups, 5)
        assert len(set(fold[50:80]) | set(fold[100:110]) | {fold[0]}) == 1
        assert (np.bincount(fold) > 30).all()
        assert np.array_equal(assign_folds(content[:200], groups[:200], 5), fold[:200])

    def test_too_few_rows_are_refused(self):
        with pytest.raises(SplitError, match="have no row"):
            assign_folds(self.content(3), np.full(3, ""), 8)
        with pytest.raises(SplitError, match="at least 2"):
            assign_folds(self.content(3), np.full(3, ""), 1)
