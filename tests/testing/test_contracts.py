"""Each test of each contract can fail: there is a defect that it finds, and it passes without the defect."""

import importlib
from collections import defaultdict
from pathlib import Path

import pytest

from frostline import testing

# The modules of the defects, and the contracts that they break.
DEFECTS = {
    "backbone_sources": testing.BackboneSourceContract,
    "decoders": testing.DecoderContract,
    "engines": testing.EngineContract,
    "exporters": testing.ExporterContract,
    "heads": testing.HeadContract,
    "sources": testing.ImageSourceContract,
    "source_kinds": testing.ImageSourceKindContract,
}
QUICK = {"exporters", "source_kinds", "sources"}


class Outcomes:
    """Names of the tests that fail, by class, and of those that are skipped. A pytest plugin."""

    def __init__(self):
        self.failed, self.skipped = defaultdict(set), set()

    def pytest_runtest_logreport(self, report):
        _, group, test = report.nodeid.split("::")
        name = test.partition("[")[0]
        if report.failed:
            self.failed[group].add(name)
        elif report.skipped:
            self.skipped.add(name)


def run(path):
    """Run the tests of a module in this process."""
    outcomes = Outcomes()
    options = ["-q", "--tb=no", "-rN", "-p", "no:cacheprovider", "-p", "no:faulthandler", "-p", "no:xdist"]
    code = pytest.main([*options, str(path)], plugins=[outcomes])
    assert code == pytest.ExitCode.TESTS_FAILED
    return outcomes


def own_tests(contract):
    """Those that the contract adds to the one that it extends."""
    return {name for name in vars(contract) if name.startswith("test_")}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.long) for name in DEFECTS]
)
def test_every_test_of_the_contract_finds_a_defect(name):
    module = importlib.import_module(f"tests.testing.defects.{name}")
    outcomes = run(Path(module.__file__))
    failed = outcomes.failed
    assert not failed["TestWithoutDefect"]
    groups = {key: group for key, group in vars(module).items() if key.startswith("Test")}
    overlooked = {key: group.fails - failed[key] - outcomes.skipped for key, group in groups.items()}
    assert not {key: tests for key, tests in overlooked.items() if tests}
    tests = own_tests(DEFECTS[name])
    assert tests
    assert not tests - outcomes.skipped - set().union(*failed.values())
