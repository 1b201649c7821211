"""The door: what a record refuses when it is made, so that no impossible record exists."""

from __future__ import annotations

import math
import re

from schemas.errors import InvalidRecord

PPB = 1_000_000_000
"""Parts in one whole: probabilities travel as integers of 1e-9, so that they add up exactly."""

ID_LENGTH_MAX = 256
"""Longest id, in characters; what the withdrawn Personalizer allowed its callers."""

_ID = re.compile(r"[!-~](?:[ -~]{0,254}[!-~])?")
_is_id = _ID.fullmatch


def check_id(name: str, value: str) -> None:
    """Refuse an id that is empty, too long, or holds anything but printable ASCII.

    Raises
    ------
    InvalidRecord
        Named after the field, with the first 40 characters of what came.
    """
    if _is_id(value) is None:
        problem = f"{name} {value[:40]!r} is not an id"
        cure = f"Use 1 to {ID_LENGTH_MAX} printable ASCII characters, no space at either end"
        raise InvalidRecord(problem, cure)


def check_optional_id(name: str, value: str | None) -> None:
    """Refuse a given id as `check_id` does; None passes."""
    if value is not None:
        check_id(name, value)


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside [low, high]; not-a-number lies outside every range."""
    if not low <= value <= high:
        problem = f"{name} is {value!r}"
        raise InvalidRecord(problem, f"It must lie in {low!r} to {high!r}")


def check_finite(name: str, value: float) -> None:
    """Refuse infinities and not-a-number."""
    if not math.isfinite(value):
        problem = f"{name} is {value!r}"
        raise InvalidRecord(problem, "It must be a finite number")


def check_time(name: str, value_ms: int) -> None:
    """Refuse a time before 1970 or after the year 9999 (milliseconds since 1970 UTC)."""
    check_range(name, value_ms, 0, 253_402_300_799_999)
