"""Programs of the system that some tests need; without one they are skipped by name.

Where `TESTS_COMPLETE` is set, as `.ci/run` does, a missing program is a failure instead.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

_PLACES = {"postgres": "/usr/lib/postgresql/*/bin/postgres"}
_PACKAGES = {
    "chromium": "chromium",
    "postgres": "postgresql",
    "npm": "npm",
    "java": "default-jre-headless",
}


def need(program: str) -> Path:
    """Return the path of a program, or skip the test that needs it.

    Parameters
    ----------
    program : str
        ``chromium``, ``postgres``, ``npm`` or ``java``.
    """
    found = shutil.which(program)
    if found is None and program in _PLACES:
        # Debian keeps the server's own programs out of the path, one folder for each release.
        pattern = _PLACES[program].removeprefix("/")
        found = str(max(Path("/").glob(pattern), default="")) or None
    if found is not None:
        return Path(found)
    missing = f"{program} is not installed: `make test` installs {_PACKAGES[program]} where it may"
    if os.environ.get("TESTS_COMPLETE"):
        pytest.fail(missing)
    pytest.skip(missing)
