"""What is checked of a record before any log takes it."""

from __future__ import annotations

from typing import Any

from schemas.codec import encode
from schemas.errors import UsageError
from schemas.streams import STREAMS, key_of


def check_stream(stream: str) -> None:
    """Raise `UsageError` when there is no such stream."""
    if stream not in STREAMS:
        problem = f"there is no stream {stream!r}"
        raise UsageError(problem, f"There are {', '.join(STREAMS)}")


def entry(stream: str, value: Any) -> tuple[str, str, bytes]:
    """Return (stream, key, bytes) of a record as a log takes it.

    Raises
    ------
    UsageError
        When there is no such stream, or the record does not belong there.
    """
    check_stream(stream)
    if not isinstance(value, STREAMS[stream].records):
        allowed = " or ".join(kind.__name__ for kind in STREAMS[stream].records)
        problem = f"a {type(value).__name__} does not belong in {stream!r}"
        raise UsageError(problem, f"That stream carries {allowed}")
    return stream, key_of(value, stream), encode(value)
