from collections.abc import Iterator

import pytest

from .kit import Plant


@pytest.fixture
def plant() -> Iterator[Plant]:
    """A cluster with three pods of ``web.prod`` that echo."""
    made = Plant()
    try:
        yield made
    finally:
        made.close()
