"""Records that keep the loop in order: ticks, side outputs, alarms, estimates, erasures."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from schemas.checks import check_id, check_time
from schemas.outcomes import Evidence

Erasure = Literal["unknown", "decision", "visit", "subject"]


@dataclass(frozen=True, slots=True)
class Tick:
    """Wall time, entering a log that would otherwise stand still."""

    tick_at_ms: int
    """Wall time of the tick, ms since 1970 UTC."""
    ticker: str
    """Who wrote it."""

    def __post_init__(self) -> None:
        check_time("tick_at_ms", self.tick_at_ms)


@dataclass(frozen=True, slots=True)
class SideRecord:
    """A record that could not go the main way, kept whole with the reason."""

    reason: str
    """Short and stable, for counting: ``window_closed``, ``unknown_loop``, ``torn`` …"""
    error: str
    """For a person to read; says what to do."""
    stream: str
    """The stream it came from."""
    partition: int
    """The partition it came from."""
    offset: int
    """Its place in that partition."""
    log_time_ms: int
    """Its log time, ms."""
    key: str
    """Its key."""
    raw: bytes
    """Its bytes, untouched."""


@dataclass(frozen=True, slots=True)
class AlarmRaised:
    """Something a person should know."""

    alarm_id: str
    """Id of the alarm; a repeat of it is the same alarm."""
    loop_id: str
    """The loop."""
    kind: str
    """What it is about: ``shown_other``, ``reward_fell`` …"""
    detector: str
    """Who noticed."""
    raised_at_ms: int
    """When, log time, ms."""
    numbers: tuple[Evidence, ...] = ()
    """What was measured."""

    def __post_init__(self) -> None:
        check_id("alarm_id", self.alarm_id)
        check_id("loop_id", self.loop_id)


def alarm_id(kind: str, *found: object) -> str:
    """Return the id of an alarm: the same for whoever finds the same.

    Parameters
    ----------
    kind : str
        What it is about.
    found : object
        What makes it this one: a detector, the record that tripped it, a day.
    """
    text = "\n".join(str(part) for part in found)
    return f"{kind}-{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}"


@dataclass(frozen=True, slots=True)
class EstimateMade:
    """What a policy would have earned on a stretch of the log."""

    loop_id: str
    """The loop."""
    policy_id: str
    """The policy judged."""
    from_ms: int
    """Start of the stretch, log time, ms."""
    to_ms: int
    """End of the stretch, log time, ms."""
    method: str
    """How it was estimated: ``ips``, ``dr``, ``snips`` …"""
    value: float
    """Estimated mean reward."""
    low: float
    """Lower end of its interval."""
    high: float
    """Upper end of its interval."""
    n: int
    """Outcomes it rests on."""
    effective_sample_size: float
    """As many equally weighted outcomes would say as much."""
    clipped: int
    """Outcomes whose weight was clipped."""


@dataclass(frozen=True, slots=True)
class ErasureRequested:
    """Somebody asked to be forgotten."""

    id_hash: str
    """Keyed hash of the id, never the id."""
    kind: Erasure
    """What the id names."""
    requested_at_ms: int
    """When, ms since 1970 UTC."""
    loop_id: str | None = None
    """The loop; None: all of them."""
