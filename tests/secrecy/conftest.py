"""Each test begins with nothing remembered: what one has told to the masks is not to hide what another one plants."""

import pytest

from kubelb import masking


@pytest.fixture(autouse=True)
def nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_known", ())
    monkeypatch.setattr(masking, "_values", {})
