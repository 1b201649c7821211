"""Scenarios of the loop on a Flink cluster; collected where PyFlink is installed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flink_stand import Stand


@pytest.fixture
def stand() -> Iterator[Stand]:
    """Return a broker and a cluster that run, without jobs."""
    # Kept after a failure: logs of the cluster and journals of the cameras tell what happened.
    with Stand(Path(tempfile.mkdtemp(prefix="pho-stand-"))) as stand:
        yield stand
