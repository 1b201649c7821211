"""What the tests of Flink share: they are only collected where PyFlink is installed."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # PyFlink starts its JVM once for the process, and leaves its pipes and its end to chance.
    config.addinivalue_line("filterwarnings", "ignore::ResourceWarning")
