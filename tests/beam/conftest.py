"""What the tests of Beam share: it is only collected where Beam is installed."""

from __future__ import annotations

import pytest

from history import Played, play_and_archive


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Return visits of every kind, joined live and archived."""
    return play_and_archive(tmp_path_factory.mktemp("played"))
