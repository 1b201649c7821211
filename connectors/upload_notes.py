"""What an object-created notification of S3 says, read with suspicion; pure.

A dumb camera uploads ``PREFIX/KIOSK/SESSION/SEQUENCE-PHASE.jpg`` and nothing more; S3 tells a
queue. Shape: Amazon S3 user guide, "Event message structure" (version 2). Where the object stands
is compared with what is configured and never taken from the message.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote_plus

from schemas.frames import Phase

KEY_MAX_BYTES = 1_024
"""Longest key of S3, bytes of UTF-8."""

_key = re.compile(
    r"(?P<kiosk>[A-Za-z0-9_-]{1,64})/(?P<session>[A-Za-z0-9_-]{1,64})/"
    r"(?P<sequence>[0-9]{1,6})-(?P<phase>pre|post)\.(?:jpe?g|png)"
).fullmatch


@dataclass(frozen=True, slots=True)
class Upload:
    """One picture that a camera put into the bucket."""

    key: str
    """Its key, as S3 knows it."""
    kiosk_id: str
    """The kiosk, out of the key."""
    visit_id: str
    """Kiosk and session: the same session name at two doors is two visits."""
    sequence: int
    """Place among the pictures of the session, from 0."""
    phase: Phase
    """``pre``: before the greeting; ``post``: after it was shown."""
    at_ms: int
    """When S3 had it, by S3's clock, ms since 1970 UTC."""

    @property
    def frame_id(self) -> str:
        """The frame's id: the same whenever the message comes again."""
        return f"{self.visit_id}.{self.phase}.{self.sequence}"


@dataclass(frozen=True, slots=True)
class Refused:
    """A message, or one object of it, that is no picture for us."""

    reason: str
    """Short and stable, for counting: ``foreign_bucket``, ``bad_key`` …"""
    error: str
    """For a person to read; says what to do."""
    key: str = ""
    """An object under our own prefix that nobody will take: it may show a face, so it goes."""


@dataclass(frozen=True, slots=True)
class Note:
    """What one message says."""

    uploads: tuple[Upload, ...] = ()
    """Pictures to take."""
    refused: tuple[Refused, ...] = ()
    """What is put aside."""
    is_test: bool = False
    """True: S3 tries whether the queue is there; nothing was uploaded."""


def read_note(body: str, bucket: str, prefix: str) -> Note:
    """Read a message.

    Parameters
    ----------
    body : str
        The message's text.
    bucket, prefix : str
        The one place whose objects are taken.

    Returns
    -------
    Note
        Nothing is raised: what cannot be read is in `refused`.
    """
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return _refuse("no_json", "The message is no JSON; only S3 may write to this queue")
    if not isinstance(told, dict):
        return _refuse("no_event", "The message is no event of S3; only S3 may write to this queue")
    if told.get("Event") == "s3:TestEvent":
        return Note(is_test=True)
    records = told.get("Records")
    if not isinstance(records, list) or not records:
        return _refuse("no_event", "The message has no Records; only S3 may write to this queue")
    read = [_read(record, bucket, prefix) for record in records]
    return Note(
        tuple(each for each in read if isinstance(each, Upload)),
        tuple(each for each in read if isinstance(each, Refused)),
    )


def _read(record: Any, bucket: str, prefix: str) -> Upload | Refused:
    try:
        name = str(record["eventName"])
        found_bucket = record["s3"]["bucket"]["name"]
        key = unquote_plus(str(record["s3"]["object"]["key"]), errors="strict")
        at_ms = _time_ms(record["eventTime"])
    except (KeyError, TypeError, ValueError) as error:
        return Refused("no_event", f"A record without {error}; only S3 may write to this queue")
    if not name.removeprefix("s3:").startswith("ObjectCreated:"):
        return Refused(
            "other_event", f"{name[:60]} is no upload; notify of s3:ObjectCreated:* only"
        )
    if found_bucket != bucket:
        told = f"It names the bucket {str(found_bucket)[:80]!r}; only {bucket} is taken"
        return Refused("foreign_bucket", told)
    if not key.startswith(prefix) or len(key.encode()) > KEY_MAX_BYTES:
        return Refused("foreign_key", f"{key[:80]!r} does not stand under {prefix}")
    match = _key(key.removeprefix(prefix))
    if match is None:
        told = f"{key[:200]!r} is not {prefix}KIOSK/SESSION/SEQUENCE-PHASE.jpg"
        told += "; PHASE is pre or post, ids are letters, digits, _ and -"
        return Refused("bad_key", told, key)
    return Upload(
        key=key,
        kiosk_id=match["kiosk"],
        visit_id=f"{match['kiosk']}.{match['session']}",
        sequence=int(match["sequence"]),
        phase="pre" if match["phase"] == "pre" else "post",
        at_ms=at_ms,
    )


def _time_ms(text: Any) -> int:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None or at.year < 1970:
        problem = f"a time such as {text[:40]!r}"
        raise ValueError(problem)
    return round(at.timestamp() * 1_000)


def _refuse(reason: str, error: str) -> Note:
    return Note(refused=(Refused(reason, error),))
