"""Power laws are fitted to errors at growing sizes."""

import numpy as np
import pytest

from frostline.classifiers.errors import MetricsError
from frostline.classifiers.experiments.power_law import PowerLaw, fit_power_laws


class TestPowerLaw:
    n = np.array([10.0, 30, 100, 300, 1000])

    @pytest.mark.parametrize(
        "law", [PowerLaw(0.1, 0.8, 0.4), PowerLaw(0, 2.0, 0.75), PowerLaw(0.3, 0.0, 0.5)]
    )
    def test_power_law_parameters_are_recovered(self, law):
        errors = np.array([[law.error(n) for n in self.n]])
        (found,) = fit_power_laws(self.n, errors, np.eye(5))
        assert [found.error(n) for n in (20, 2000)] == pytest.approx(
            [law.error(20), law.error(2000)], abs=1e-6
        )

    def test_fit_follows_points_with_small_variance(self):
        errors = np.array([[0.9, 0.5, 0.3, 0.2, 0.15]])
        bent = errors + np.array([0.5, 0, 0, 0, 0])
        straight, ignored = (
            fit_power_laws(self.n, each, np.diag([1e9, 1, 1, 1, 1]))[0] for each in (errors, bent)
        )
        assert ignored.error(1000) == pytest.approx(straight.error(1000), abs=1e-6)

    def test_common_error_shifts_whole_law(self):
        law = PowerLaw(0.1, 0.8, 0.4)
        errors = np.array([[law.error(n) for n in self.n]])
        shared = np.eye(5) + 1e4
        (up,) = fit_power_laws(self.n, errors + 0.05, shared)
        assert up.error(1000) - up.error(2000) == pytest.approx(law.error(1000) - law.error(2000), abs=1e-6)

    def test_errors_are_not_negative(self):
        (found,) = fit_power_laws(self.n, np.array([[0.9, 0.5, 0.2, 0.01, 0.0]]), np.eye(5))
        assert found.error(1e9) >= 0

    def test_mismatched_arguments_raise(self):
        with pytest.raises(MetricsError, match="three different sizes"):
            fit_power_laws(self.n[:2], np.ones((1, 2)), np.eye(2))
