"""Imports and reads all that any job needs, as soon as the first one begins on a worker.

A TaskManager runs one Python for all jobs in thread mode, and what a job brought with it goes when
it ends. A job that comes after it, as both do when a JobManager was lost, would look for modules
and schemas that nobody had asked for yet in a folder that is no more.
"""

from __future__ import annotations

import contextlib
from importlib import import_module

from engines.flink.settings import JobSettings
from engines.services import modules
from schemas.codec import released

_MODULES = ("analysing", "functions", "learning", "sharing")


def load(settings: JobSettings) -> None:
    """Import the functions of both jobs and what looks at pictures, and read the schemas."""
    for name in _MODULES:
        import_module(f"engines.flink.{name}")
    released()
    for name in modules(settings.services) if settings.services.have_pictures else ():
        # A worker that never looks at a picture need not be able to.
        with contextlib.suppress(ImportError):
            import_module(name)
