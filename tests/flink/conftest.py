"""What the tests of Flink share: they are only collected where PyFlink is installed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# The one Python in the cluster's JVM imports an analyser of the tests, as a worker's would.
os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1] / "support")


def pytest_configure(config: pytest.Config) -> None:
    # PyFlink starts its JVM once for the process, and leaves its pipes and its end to chance.
    config.addinivalue_line("filterwarnings", "ignore::ResourceWarning")
