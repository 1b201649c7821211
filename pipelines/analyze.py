"""analyze: every frame gets exactly one answer, whatever happens.

The picture is looked at outside (an `Analyser`, called by the engine with a time limit and
retries); what may be asked, and how the answer is written down, is decided here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Protocol

from schemas.features import used_attributes
from schemas.frames import Face, FrameAnalyzed, FrameCaptured, Score, Status
from schemas.loops import LoopConfigured

OVER_BUDGET, BREAKER_OPEN = "over_budget", "breaker_open"
_not_asked = re.compile(rf"(\w+) ({OVER_BUDGET}|{BREAKER_OPEN})(?: (\d{{4}}-\d\d-\d\d))?: ").match


@dataclass(frozen=True, slots=True)
class Seen:
    """What an analyser saw in one picture."""

    faces: tuple[Face, ...]
    """The faces, in no promised order."""
    analyser: str
    """Name of the analyser."""
    analyser_version: str
    """Version of the analyser and its models."""
    labels: tuple[Score, ...] = ()
    """Objects and brands."""
    width: int = 0
    """Width of the picture, pixels; 0: not told."""
    height: int = 0
    """Height of the picture, pixels; 0: not told."""
    fallback_of: str | None = None
    """The analyser that should have looked, where this one stood in for it."""
    why: str | None = None
    """Why it did, for a person to read; `NotAsked` reads it too."""


@dataclass(frozen=True, slots=True)
class NotAsked:
    """Why an analyser is not asked for a while, as it begins the `error` of an answer.

    So the log itself says that a budget is used up: whoever watches needs neither the job's files
    nor its memory.
    """

    analyser: str
    """The analyser: ``rekognition``."""
    reason: str
    """``over_budget``, or ``breaker_open``: it failed too often just before."""
    day: str = ""
    """The day of the budget, UTC: ``2026-11-22``; empty: none."""

    def __str__(self) -> str:
        """Return it as it is written down."""
        return " ".join(part for part in (self.analyser, self.reason, self.day) if part)

    @classmethod
    def read(cls, error: str | None) -> NotAsked | None:
        """Read the `error` of an answer; None: another error, or none."""
        found = _not_asked(error or "")
        return cls(*found.groups("")) if found else None


@dataclass(frozen=True, slots=True)
class PictureTags:
    """What a picture store may note beside a picture; nothing of it says who is on it."""

    session: str
    """The visit's id."""
    sequence: int
    """Place among the frames of its visit, from 0."""
    phase: str
    """``pre`` or ``post``."""


class Analyser(Protocol):
    """Whoever can look at a picture. Called from several threads at once."""

    name: str
    """Short name: ``local``, ``rekognition``."""
    version: str
    """Version of the analyser and its models."""

    def analyse(self, picture: bytes) -> Seen:
        """Look at one picture.

        Parameters
        ----------
        picture : bytes
            An encoded picture (JPEG, PNG, WebP), as the camera made it.

        Raises
        ------
        PictureUnreadable
            Empty, torn, too large or no picture: asking again does not help.
        AnalysisError
            No answer this time: asking again may help.
        """
        ...


class Pictures(Protocol):
    """Whoever keeps the pictures between camera and analysis, and no longer."""

    def put(
        self, picture: bytes, picture_id: str | None = None, tags: PictureTags | None = None
    ) -> str:
        """Keep an encoded picture; return its opaque id (32 hex digits)."""
        ...

    def get(self, picture_id: str) -> bytes:
        """Return a picture.

        Raises
        ------
        PictureMissing
            When the id resolves to nothing.
        """
        ...

    def delete(self, picture_id: str) -> None:
        """Forget a picture; one that is already gone is no error."""
        ...


def refusal(frame: FrameCaptured, log_time_ms: int, picture_ttl_ms: int) -> FrameAnalyzed | None:
    """Answer a frame that must not be looked at; None: it may.

    Parameters
    ----------
    frame : FrameCaptured
        The frame.
    log_time_ms : int
        Its log time, ms.
    picture_ttl_ms : int
        A frame captured this much earlier than its log time is too old, ms.
    """
    if frame.notice not in ("page", "posted"):
        return unseen(frame, "refused", "No notice was shown, so nobody is analysed")
    if log_time_ms - frame.captured_at_ms > picture_ttl_ms:
        late_ms = log_time_ms - frame.captured_at_ms
        return unseen(frame, "expired", f"It reached the log {late_ms} ms after it was captured")
    return None


def unseen(frame: FrameCaptured, status: Status, error: str) -> FrameAnalyzed:
    """Answer a frame without looking at it."""
    nobody = Seen((), "none", "")
    return answer(frame, nobody, 0.0, status, error)


def seen(
    frame: FrameCaptured, what: Seen, milliseconds: float, config: LoopConfigured | None
) -> FrameAnalyzed:
    """Answer a frame with what was seen, keeping only what the loop uses.

    Parameters
    ----------
    frame : FrameCaptured
        The frame.
    what : Seen
        What the analyser, or the kiosk itself, saw.
    milliseconds : float
        How long it took.
    config : LoopConfigured or None
        The loop; None (unknown): everything but happiness is dropped.
    """
    used = used_attributes(config.feature_names) if config else frozenset()
    faces = tuple(_keep_used(face, used) for face in what.faces)
    wanted = set(config.labels) if config else set()
    wanted |= {name.removeprefix("label.") for name in used if name.startswith("label.")}
    labels = tuple(label for label in what.labels if label.name in wanted)
    kept = replace(what, faces=faces, labels=labels)
    return answer(frame, kept, milliseconds, "ok" if faces else "no_face", what.why)


def edge_seen(frame: FrameCaptured) -> Seen | None:
    """Return what the kiosk itself saw, where it analysed; None: there is a picture to look at."""
    edge = frame.edge_analysis
    return Seen(edge.faces, edge.analyser, edge.analyser_version) if edge else None


def answer(
    frame: FrameCaptured, what: Seen, milliseconds: float, status: Status, error: str | None
) -> FrameAnalyzed:
    """Write an answer down: all of the frame but the kiosk's own analysis."""
    return FrameAnalyzed(
        frame_id=frame.frame_id,
        decision_id=frame.decision_id,
        visit_id=frame.visit_id,
        loop_id=frame.loop_id,
        kiosk_id=frame.kiosk_id,
        phase=frame.phase,
        sequence=frame.sequence,
        captured_at_ms=frame.captured_at_ms,
        width=what.width or frame.width,
        height=what.height or frame.height,
        notice=frame.notice,
        status=status,
        analyser=what.analyser,
        analyser_version=what.analyser_version,
        milliseconds=milliseconds,
        utc_offset_minutes=frame.utc_offset_minutes,
        clock_offset_ms=frame.clock_offset_ms,
        picture_id=frame.picture_id,
        tracked_box=frame.tracked_box,
        language=frame.language,
        subject_hash=frame.subject_hash,
        error=error,
        faces=what.faces,
        labels=what.labels,
        fallback_of=what.fallback_of,
    )


def _keep_used(face: Face, used: frozenset[str]) -> Face:
    # A fear, an age or a beard that no feature asks for is nobody's business, and stays out of
    # the log. `happy` stays: the reward is made of it.
    age = "age" in used
    return replace(
        face,
        emotions=tuple(e for e in face.emotions if e.name == "happy" or e.name in used),
        smile=face.smile if "smile" in used else None,
        attributes=tuple(a for a in face.attributes if f"attribute.{a.name}" in used),
        age_low_years=face.age_low_years if age else None,
        age_high_years=face.age_high_years if age else None,
    )
