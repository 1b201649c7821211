"""What a kiosk is given to look at, what then happened, and what it remembers of a visit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from producers.tracker import Faces
from schemas.decisions import EndReason
from schemas.errors import InvalidRecord
from schemas.frames import EdgeAnalysis, FrameCaptured


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at one moment: the faces, and what a frame of them would carry."""

    at_ms: int
    """Event time, ms since 1970 UTC."""
    width: int
    """Width of the picture, pixels."""
    height: int
    """Height of the picture, pixels."""
    faces: Faces
    """The faces in it, with their confidences."""
    jpeg: Callable[[], bytes] | None = None
    """Gives the encoded picture, asked only when it is taken; None: `edge_analysis` is there."""
    edge_analysis: EdgeAnalysis | None = None
    """What the kiosk itself found, where it analyses; then there is no picture."""
    clock_offset_ms: int | None = None
    """What was added to the source's own clock to get `at_ms`."""

    def __post_init__(self) -> None:
        if (self.jpeg is None) == (self.edge_analysis is None):
            problem = f"the look at {self.at_ms} has not exactly one of jpeg, edge_analysis"
            raise InvalidRecord(problem, "Give the picture, or what was found in it")


@dataclass(frozen=True, slots=True)
class Began:
    """A visit began: its first frame is in the log."""

    visit_id: str
    """Its id."""
    at_ms: int
    """When its first picture was taken, ms since 1970 UTC."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A frame is in the log."""

    frame: FrameCaptured
    """The frame."""


@dataclass(frozen=True, slots=True)
class Over:
    """A visit ended, and the log says so."""

    visit_id: str
    """Its id."""
    reason: EndReason
    """Why."""


Happening = Began | Taken | Over


@dataclass(frozen=True, slots=True)
class Visit:
    """What is known of a visit: enough for another process to go on with it."""

    visit_id: str
    """Its id."""
    started_at_ms: int
    """When its first picture was taken, ms since 1970 UTC."""
    shown_at_ms: int | None = None
    """When its greeting was shown, ms since 1970 UTC; None: not yet."""
    post_frame_ids: tuple[str, ...] = ()
    """Post frames in the log."""


@dataclass(slots=True)
class KioskCounters:
    """What a kiosk did since it was made; each is a number of times."""

    shots: int = 0
    """Shots looked at."""
    visits_started: int = 0
    """Visitors of whom a first picture was taken."""
    visits_ended: int = 0
    """Of those, visits that ended."""
    frames_sent: int = 0
    """Frames in the log."""
    frames_without_notice: int = 0
    """Of those, frames without a picture, since no notice was shown."""
    greetings_shown: int = 0
    """Greetings shown to their visitor."""
    greetings_expired: int = 0
    """Greetings not shown: too late."""
    greetings_of_others: int = 0
    """Greetings not shown: of another visit or kiosk, or a repeat."""
    appends_failed: int = 0
    """Records the log did not take."""
