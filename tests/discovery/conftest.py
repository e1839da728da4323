"""Sources that a test started are stopped, whatever became of it."""

import pytest


@pytest.fixture
def made():
    sources = []
    yield sources
    for source in sources:
        source.stop()
