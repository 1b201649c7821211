"""Files for their owner's eyes only: mode 0600, whole or not there, one writer at a time."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import ResourceError, SettingsError


def read_private(path: Path) -> bytes | None:
    """Return a file's bytes; None: it is not there.

    Raises
    ------
    SettingsError
        Others may read it.
    ResourceError
        It cannot be read.
    """
    try:
        with path.open("rb") as file:
            # Of the open file, not of its name: another file may have that name by now.
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror or error}"
        raise ResourceError(problem, "Make it readable for the user PHO runs as") from error
    if mode & 0o077:
        problem = f"{path} can be read by others (mode {mode:o})"
        raise SettingsError(problem, f"chmod 600 {path}")
    return content


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read; whoever reads it sees the old one or the new one.

    Raises
    ------
    ResourceError
        It cannot be written; the old one stays.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        problem = f"{path} cannot be written: {error.strerror or error}"
        raise ResourceError(problem, "Make its folder writable for the user PHO runs as") from error


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Wait for, and hold, the right to change a file: read, change and write lie inside.

    Without it, of two `pho keys` at once the later would write the earlier's key away.

    Raises
    ------
    ResourceError
        The folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f".{path.name}.lock")
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        problem = f"{path.parent} cannot be written: {error.strerror or error}"
        raise ResourceError(problem, "Make it writable for the user PHO runs as") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
