"""The key that ids are hashed with: one file, for its owner's eyes only."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from schemas.erasure import KEY_SIZE
from schemas.errors import ResourceError, SettingsError

FILE_NAME = "erasure.key"
"""Its name in a data folder."""


def read_key(path: Path) -> bytes | None:
    """Return the key; None: there is none yet.

    Raises
    ------
    SettingsError
        When others may read it, or it is no key.
    ResourceError
        When it cannot be read.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        problem = f"{path} cannot be read: {error}"
        raise ResourceError(problem, "Make it readable for the user PHO runs as") from error
    if mode & 0o077:
        problem = f"{path} can be read by others (mode {mode:o})"
        raise SettingsError(problem, f"chmod 600 {path}")
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_SIZE:
        problem = f"{path} holds no key of {2 * KEY_SIZE} hex digits"
        cure = (
            "Bring it back from a copy: with another key, who was forgotten is not known any more"
        )
        raise SettingsError(problem, cure)
    return key


def make_key(path: Path) -> bytes:
    """Return the key, made now where there is none.

    Raises
    ------
    SettingsError, ResourceError
        As `read_key`; also when it cannot be written.
    """
    key = read_key(path)
    if key is not None:
        return key
    key = secrets.token_bytes(KEY_SIZE)
    # Linked under its name when it is whole: of two that make it at once one wins, and neither
    # ever reads half a key.
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(part, path)
        except FileExistsError:
            pass
        finally:
            part.unlink()
    except OSError as error:
        problem = f"{path} cannot be written: {error.strerror or error}"
        raise ResourceError(problem, "Make its folder writable for the user PHO runs as") from error
    made = read_key(path)
    assert made is not None  # noqa: S101 - it was written, or another process wrote it
    return made
