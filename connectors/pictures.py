"""Pictures on their short way from camera to analysis, as private files with opaque names.

A picture lives here for seconds: it is deleted when its analysis is read from the log, and swept
when nothing waits for it any more. No other module writes pixels.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Collection
from pathlib import Path
from typing import NoReturn, Protocol

from pipelines.analyze import Pictures, PictureTags
from schemas.errors import InvalidRecord, LogFull, PictureMissing, ResourceError, SettingsError

ABANDONED_AFTER_MS = 10_000
"""A picture this old that no unanswered frame refers to was left behind by a crash."""

PICTURE_TTL_MS = 60_000
"""No picture lives longer, waited for or not; its frame is answered ``expired``."""

_PICTURE_ID = re.compile(r"[0-9a-f]{32}")
_is_ours = re.compile(r"([0-9a-f]{32})(\.[0-9a-f]{16}\.part)?").fullmatch

PICTURES = "pictures"
"""Name of the folder of the pictures in flight, inside a data folder."""


def is_picture_id(text: str) -> bool:
    """Whether a text is a picture's id: 32 lower-case hex digits, and so neither path nor key."""
    return _PICTURE_ID.fullmatch(text) is not None


def checked_id(picture_id: str | None) -> str:
    """Return the id to keep a picture under: the one that was wished for, or a new one.

    Raises
    ------
    InvalidRecord
        When it is not 32 lower-case hex digits (it could be a path).
    """
    if picture_id is None:
        return secrets.token_hex(16)
    if not is_picture_id(picture_id):
        problem = f"picture_id {picture_id[:40]!r} is not a picture's id"
        raise InvalidRecord(problem, "Use 32 lower-case hex digits, or none to get one")
    return picture_id


def missing(picture_id: str) -> PictureMissing:
    """Return the error for an id that resolves to nothing."""
    problem = f"there is no picture {picture_id[:40]!r}"
    cure = "It was answered, or waited too long; the next frame brings a new one"
    return PictureMissing(problem, cure)


def is_over(now_ms: int, written_ms: int, *, waited_for: bool, picture_ttl_ms: int) -> bool:
    """Whether a picture's time is over.

    Parameters
    ----------
    now_ms, written_ms : int
        This machine's clock, and when the picture was written, ms since 1970 UTC.
    waited_for : bool
        Whether an unanswered frame refers to it.
    picture_ttl_ms : int
        Age above which even such a picture goes, ms; the others go after 10 s.
    """
    # A clock that was set back must not keep a face: a time to come counts as age.
    age_ms = abs(now_ms - written_ms)
    limit_ms = picture_ttl_ms if waited_for else min(ABANDONED_AFTER_MS, picture_ttl_ms)
    return age_ms > limit_ms


class PictureStore(Pictures, Protocol):
    """A picture store that can be looked after: a folder, or a bucket (connectors/s3_pictures)."""

    def ids(self) -> list[str]:
        """Return the ids of the pictures kept now, in alphabetical order."""
        ...

    def sweep(
        self, now_ms: int, waiting: Collection[str], picture_ttl_ms: int = PICTURE_TTL_MS
    ) -> tuple[str, ...]:
        """Delete what nobody waits for and what is older than the limit; return their ids."""
        ...

    def flush(self, wait_s: float = 30.0) -> bool:
        """Wait until what was to be deleted is; return whether it was in time."""
        ...


class FolderPictures:
    """A picture store in one folder of this machine.

    Parameters
    ----------
    folder : Path
        Made if missing, with mode 0700. Give a folder on memory (tmpfs) to keep pictures off the
        disk.

    Raises
    ------
    SettingsError
        When the folder exists, others may read it, and it holds more than pictures: changing
        the mode of somebody's folder is not ours to do.
    ResourceError
        When it cannot be made or read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if stat.S_IMODE(folder.stat().st_mode) & 0o077:
                _make_private(folder)
        except OSError as error:
            _refuse(folder, error)

    def put(
        self, picture: bytes, picture_id: str | None = None, tags: PictureTags | None = None
    ) -> str:
        """Keep an encoded picture; return its id.

        Parameters
        ----------
        picture : bytes
            The encoded picture.
        picture_id : str, optional
            32 lower-case hex digits; None: a new one, of 128 random bits. A picture that has
            this id already is replaced.
        tags : PictureTags, optional
            Not kept: files have nowhere to note them.

        Raises
        ------
        InvalidRecord
            When `picture_id` is not 32 lower-case hex digits (it could be a path).
        LogFull
            When there is no room; nothing is half written.
        ResourceError
            When the folder cannot be written.
        """
        picture_id = checked_id(picture_id)
        target = self._folder / picture_id
        # A part of its own for each call: two of the same id would write into one file.
        part = self._folder / f"{picture_id}.{secrets.token_hex(8)}.part"
        try:
            try:
                _write_private(part, picture)
                part.replace(target)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        except OSError as error:
            _refuse(self._folder, error)
        return picture_id

    def get(self, picture_id: str) -> bytes:
        """Return a picture.

        Raises
        ------
        PictureMissing
            When the id resolves to nothing: answered already, swept, or no picture's id.
        ResourceError
            When the folder cannot be read.
        """
        if not is_picture_id(picture_id):
            raise missing(picture_id)
        try:
            return (self._folder / picture_id).read_bytes()
        except FileNotFoundError as error:
            raise missing(picture_id) from error
        except OSError as error:
            _refuse(self._folder, error)

    def delete(self, picture_id: str) -> None:
        """Forget a picture; one that is gone, or an id that never was one, is no error.

        Ids come from whoever writes frames: a wrong one must neither reach a path nor stop the
        job that reads it.

        Raises
        ------
        ResourceError
            When the folder cannot be written.
        """
        if not is_picture_id(picture_id):
            return
        try:
            (self._folder / picture_id).unlink(missing_ok=True)
        except OSError as error:
            _refuse(self._folder, error)

    def ids(self) -> list[str]:
        """Return the ids of the pictures kept now, in alphabetical order.

        Raises
        ------
        ResourceError
            When the folder cannot be read.
        """
        return sorted(name for name in self._names() if is_picture_id(name))

    def sweep(
        self, now_ms: int, waiting: Collection[str], picture_ttl_ms: int = PICTURE_TTL_MS
    ) -> tuple[str, ...]:
        """Delete what nobody waits for (older than 10 s) and what is older than the limit.

        Parameters
        ----------
        now_ms : int
            This machine's clock, ms since 1970 UTC; ages are the files' own times.
        waiting : collection of str
            Ids of the pictures of unanswered frames.
        picture_ttl_ms : int, default 60000
            Age above which even a picture that is waited for is deleted, milliseconds.

        Returns
        -------
        tuple of str
            Ids of the deleted pictures, in alphabetical order. Half-written files left by a
            crash are deleted too, and not named: no frame was ever sent for them.

        Raises
        ------
        ResourceError
            When the folder cannot be read or written.
        """
        swept = []
        for name in self._names():
            path = self._folder / name
            try:
                written_ms = path.stat().st_mtime_ns // 1_000_000
                waited_for = name in waiting
                if not is_over(
                    now_ms, written_ms, waited_for=waited_for, picture_ttl_ms=picture_ttl_ms
                ):
                    continue
                path.unlink()
            except FileNotFoundError:  # answered and deleted meanwhile
                continue
            except OSError as error:
                _refuse(self._folder, error)
            if is_picture_id(name):
                swept.append(name)
        return tuple(sorted(swept))

    def flush(self, wait_s: float = 30.0) -> bool:
        """Return at once: `delete` waits by itself."""
        return wait_s >= 0.0

    def _names(self) -> list[str]:
        try:
            return [name for name in os.listdir(self._folder) if _is_ours(name)]
        except OSError as error:
            _refuse(self._folder, error)


def _make_private(folder: Path) -> None:
    """Take a folder's other readers away, if it is ours alone."""
    strangers = [name for name in os.listdir(folder) if _is_ours(name) is None]
    if strangers:
        problem = f"{folder} can be read by others and holds {strangers[0]!r}"
        raise SettingsError(problem, "Name a folder for pictures alone; PHO makes it")
    folder.chmod(0o700)


def _write_private(path: Path, content: bytes) -> None:
    """Write a new file that only its owner can read.

    Not flushed to the disk: after a power failure nobody wants the picture any more.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _refuse(folder: Path, error: OSError) -> NoReturn:
    """Raise our error for the operating system's."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        problem = f"no room for pictures in {folder}"
        raise LogFull(problem, "Free some space, or give another folder") from error
    problem = f"the picture folder {folder} cannot be used: {error.strerror or error}"
    raise ResourceError(problem, "Make it writable for the user PHO runs as") from error
