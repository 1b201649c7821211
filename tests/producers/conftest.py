"""What the producers' tests share: the pinned models and recordings, fetched once."""

from __future__ import annotations

import pytest

from connectors.assets import fetch_assets
from producers.recorded import RecordedVisitors


@pytest.fixture(scope="session", autouse=True)
def fetched() -> None:
    fetch_assets()


@pytest.fixture(scope="session")
def world() -> RecordedVisitors:
    return RecordedVisitors(seed=7, visits=60)
