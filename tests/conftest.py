"""What every test shares: one terminal, one kind of chance, and no way out of this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# Each has an environment of its own: .venv-beam/bin/python -m pytest tests/beam
_GUESTS = {"beam": "apache_beam", "flink": "pyflink", "scenarios_flink": "pyflink"}
collect_ignore = [folder for folder, package in _GUESTS.items() if not find_spec(package)]

# Repeatable by default: a failure seen once is seen again. To look for new ones:
# python -m pytest --hypothesis-profile=explore
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.register_profile("explore", deadline=None, print_blob=True, max_examples=1000)
settings.load_profile("repeatable")

# Rich and typer look at these when they are imported: a CI's colours would enter the texts.
for _name in ("CLICOLOR_FORCE", "FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS"):
    os.environ.pop(_name, None)
os.environ.update({"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"})

_LOOPBACK = ("127.", "::1", "localhost")
_connect = socket.socket.connect


def _connect_to_this_machine_only(self: socket.socket, address: Any) -> None:
    if self.family in (socket.AF_INET, socket.AF_INET6):
        host = str(address[0])
        if not host.startswith(_LOOPBACK):
            problem = f"a test connects to {host}: the suite must pass without a network"
            raise AssertionError(problem)
    _connect(self, address)


@pytest.fixture(scope="session", autouse=True)
def no_way_out() -> Iterator[None]:
    """Refuse every connection that leaves this machine, so that the suite passes offline."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _connect_to_this_machine_only)
        yield


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the repository's root."""
    return ROOT
