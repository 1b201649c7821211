"""Who was forgotten, as commands need it: the key, and the hashes in the log."""

from __future__ import annotations

from pathlib import Path

from connectors.embedded_log import EmbeddedLog
from connectors.erasure_key import FILE_NAME, read_key
from connectors.logs import Log
from connectors.persons import Erased
from connectors.without_erased import WithoutErased
from engines.forgetting import hashes_in
from schemas.errors import ResourceError
from serving.settings import Settings


def key_path(settings: Settings) -> Path:
    """Return where the key is that ids are hashed with."""
    if settings.log.erasure_key:
        return Path(settings.log.erasure_key)
    return settings.data / FILE_NAME


def erased_in(settings: Settings, log: Log) -> Erased | None:
    """Return everybody whom a log says was forgotten; None: nobody.

    Raises
    ------
    ResourceError
        Somebody was, and the key that tells who is not here.
    """
    hashes = hashes_in(log)
    if not hashes:
        return None
    key = read_key(key_path(settings))
    if key is None:
        problem = f"{len(hashes)} ids were forgotten, and {key_path(settings)} is not here"
        cure = "Copy the key from where `pho forget` ran, and name it: log.erasure_key"
        raise ResourceError(problem, cure)
    return Erased(key, hashes)


def without_erased(settings: Settings, log: Log) -> Log:
    """Return a log for those who read for people; a folder's log holds none of them any more."""
    if isinstance(log, EmbeddedLog):
        return log
    erased = erased_in(settings, log)
    return log if erased is None else WithoutErased(log, erased)
