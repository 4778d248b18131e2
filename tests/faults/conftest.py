"""One world per process of the test run, and marks of what the machine lacks."""

import pytest

from tests.faults.harness.interposition import compiled


@pytest.fixture(scope="session")
def world():
    library = compiled()
    if isinstance(library, str):
        pytest.skip(library)
    from tests.faults.harness.world import World

    made = World()
    yield made
    made.close()
