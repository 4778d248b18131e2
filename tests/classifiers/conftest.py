"""Synthetic features that look like a backbone's."""

import pytest

from frostline.testing.blobs import Blobs


@pytest.fixture(scope="session")
def blobs():
    return Blobs(300, 12, 3)


@pytest.fixture(scope="session")
def make_blobs():
    return Blobs
