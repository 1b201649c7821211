"""The kiosk: ties camera shots, face finder, visit tracker, picture store and log together.

What it appends is idempotent by id, and its own state moves on only when everything of a shot is
in the log: after an error `see` is called again with a later shot, and nothing is lost or doubled.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import cv2

from pipelines.analyze import Pictures
from producers.cameras import Picture, Shot
from producers.tracker import (
    Event,
    Faces,
    TakePicture,
    Tracking,
    VisitOver,
    VisitStarted,
    VisitTracker,
)
from schemas.checks import check_id, check_range
from schemas.decisions import DecisionShown, EndReason, GreetingIssued, VisitEnded
from schemas.errors import CameraError, LogFull, LogUnavailable, PhoError
from schemas.frames import FrameCaptured, Notice


class Finder(Protocol):
    """Whoever finds faces in a picture; `connectors.face_models.FaceFinder` does."""

    def find(self, picture: Picture) -> Faces:
        """Return each face's box, in fractions of the picture, and confidence, 0..1."""
        ...


class Log(Protocol):
    """Whoever keeps the streams."""

    def append(self, stream: str, value: Any) -> object:
        """Append a record to a stream; it is durable on return (what is returned is ignored).

        Raises
        ------
        LogFull, LogUnavailable
            Nothing was written.
        """
        ...


@dataclass(frozen=True, slots=True)
class KioskSettings:
    """What every record of one kiosk says."""

    loop_id: str
    """The loop that decides."""
    kiosk_id: str
    """This kiosk."""
    notice: Notice
    """Where the visitor can read that a camera estimates expressions; ``none``: no picture is
    kept, and no analysis happens."""
    utc_offset_minutes: int = 0
    """Local time minus UTC, minutes."""
    language: str | None = None
    """Language of the kiosk, a BCP 47 tag."""
    jpeg_quality: int = 90
    """Quality of the pictures taken, 1..100; below 80 the expressions suffer."""

    def __post_init__(self) -> None:
        check_id("loop_id", self.loop_id)
        check_id("kiosk_id", self.kiosk_id)
        check_range("jpeg_quality", self.jpeg_quality, 1, 100)


@dataclass(frozen=True, slots=True)
class Places:
    """Where a kiosk puts things, and how it names them."""

    pictures: Pictures
    """Keeps the pictures until they are analysed."""
    log: Log
    """Keeps the records."""
    new_visit_id: Callable[[int], str]
    """Makes a visit's id from the time of its first picture, ms; never the same twice."""
    new_picture_id: Callable[[str], str | None] = field(default=lambda _frame_id: None)
    """Makes a picture's id from its frame's id; None: the picture store makes one."""


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


@dataclass(frozen=True, slots=True)
class _Visit:
    """The visit that runs."""

    visit_id: str
    """Its id."""
    shown: bool = False
    """True: its greeting was shown."""
    post_frame_ids: tuple[str, ...] = ()
    """Post frames in the log."""


class Kiosk:
    """One camera before one place where greetings are shown. Not for several threads at once.

    Parameters
    ----------
    settings : KioskSettings
        What every record says.
    finder : Finder
        Finds the faces in a shot; the short-range model is enough.
    tracker : VisitTracker
        Finds the visits.
    places : Places
        Where pictures and records go.
    """

    def __init__(
        self, settings: KioskSettings, finder: Finder, tracker: VisitTracker, places: Places
    ) -> None:
        self.counters = KioskCounters()
        self._settings = settings
        self._finder = finder
        self._tracker = tracker
        self._places = places
        self._tracking = Tracking()
        self._visit: _Visit | None = None

    @property
    def visit_id(self) -> str | None:
        """Id of the visit that runs; None: nobody is there."""
        return self._visit.visit_id if self._visit is not None else None

    def see(self, shot: Shot) -> None:
        """Look at one shot; take a picture or end the visit if its time has come.

        Raises
        ------
        LogFull, LogUnavailable
            The log took nothing; the picture just stored is deleted again. Call again with a
            later shot.
        CameraError
            When the shot cannot be encoded.
        """
        self.counters.shots += 1
        faces = self._finder.find(shot.picture)
        tracking, events = self._tracker.step(self._tracking, shot.at_ms, faces)
        visit = self._visit
        for event in events:
            visit = self._carry_out(event, visit, shot)
        self._tracking, self._visit = tracking, visit

    def show(self, greeting: GreetingIssued, at_ms: int) -> bool:
        """Show a greeting, if it is for whoever stands here, and not too late.

        Parameters
        ----------
        greeting : GreetingIssued
            From the stream ``greetings``.
        at_ms : int
            Now, event time, ms since 1970 UTC.

        Returns
        -------
        bool
            True: it is in the log as shown; show it now, once.

        Raises
        ------
        LogFull, LogUnavailable
            The log took nothing; it does not count as shown.
        """
        visit = self._visit
        if (
            visit is None
            or visit.shown
            or greeting.kiosk_id != self._settings.kiosk_id
            or greeting.visit_id != visit.visit_id
        ):
            self.counters.greetings_of_others += 1
            return False
        if at_ms >= greeting.expires_at_ms:
            self.counters.greetings_expired += 1
            return False
        shown = DecisionShown(
            event_id=f"{greeting.decision_id}.shown",
            decision_id=greeting.decision_id,
            loop_id=greeting.loop_id,
            action_id=greeting.action_id,
            shown_at_ms=at_ms,
            kiosk_id=self._settings.kiosk_id,
        )
        self._append("impressions", shown)
        self._tracking = self._tracker.shown(self._tracking, at_ms)
        self._visit = replace(visit, shown=True)
        self.counters.greetings_shown += 1
        return True

    def stop(self, at_ms: int, reason: EndReason = "stopped") -> None:
        """End the visit that runs, if any: the camera is lost, or the kiosk is switched off.

        Raises
        ------
        LogFull, LogUnavailable
            The log took nothing; call again.
        """
        tracking, events = self._tracker.close(self._tracking, at_ms, reason)
        for event in events:
            if isinstance(event, VisitOver):
                self._end(event, self._visit)
        self._tracking, self._visit = tracking, None

    def _carry_out(self, event: Event, visit: _Visit | None, shot: Shot) -> _Visit | None:
        match event:
            case VisitStarted():
                return _Visit(self._places.new_visit_id(shot.at_ms))
            case TakePicture() if visit is not None:
                return self._take(event, visit, shot)
            case VisitOver():
                self._end(event, visit)
        return None

    def _take(self, event: TakePicture, visit: _Visit, shot: Shot) -> _Visit:
        frame_id = f"{visit.visit_id}.{event.phase}.{event.sequence}"
        height, width = shot.picture.shape[:2]
        picture_id = self._store(shot, frame_id)
        frame = FrameCaptured(
            frame_id=frame_id,
            decision_id=visit.visit_id,
            visit_id=visit.visit_id,
            loop_id=self._settings.loop_id,
            kiosk_id=self._settings.kiosk_id,
            phase=event.phase,
            sequence=event.sequence,
            captured_at_ms=shot.at_ms,
            width=width,
            height=height,
            notice=self._settings.notice,
            utc_offset_minutes=self._settings.utc_offset_minutes,
            picture_id=picture_id,
            tracked_box=event.box,
            language=self._settings.language,
        )
        try:
            self._append("frames", frame)
        except PhoError:
            # Nobody will ever answer this frame, so nobody else would delete its picture in time.
            self._places.pictures.delete(picture_id)
            raise
        self.counters.frames_sent += 1
        if self._settings.notice == "none":
            self.counters.frames_without_notice += 1
        if event.phase == "pre":
            self.counters.visits_started += 1
            return visit
        return replace(visit, post_frame_ids=(*visit.post_frame_ids, frame_id))

    def _store(self, shot: Shot, frame_id: str) -> str:
        """Keep the picture and return its id; without a notice, an id that leads nowhere."""
        picture_id = self._places.new_picture_id(frame_id)
        if self._settings.notice == "none":
            # The frame still goes out, so that `analyze` answers and counts it as refused.
            return picture_id if picture_id is not None else secrets.token_hex(16)
        options = [cv2.IMWRITE_JPEG_QUALITY, self._settings.jpeg_quality]
        encoded, jpeg = cv2.imencode(".jpg", shot.picture, options)
        if not encoded:
            problem = f"a shot of shape {shot.picture.shape} cannot be encoded as JPEG"
            raise CameraError(problem, "Use a camera that gives colour pictures of 8 bits")
        return self._places.pictures.put(jpeg.tobytes(), picture_id)

    def _end(self, event: VisitOver, visit: _Visit | None) -> None:
        if visit is None:
            return
        ended = VisitEnded(
            event_id=f"{visit.visit_id}.ended",
            decision_id=visit.visit_id,
            visit_id=visit.visit_id,
            loop_id=self._settings.loop_id,
            kiosk_id=self._settings.kiosk_id,
            reason=event.reason,
            ended_at_ms=event.at_ms,
            post_frame_ids=visit.post_frame_ids,
        )
        self._append("visits", ended)
        self.counters.visits_ended += 1

    def _append(self, stream: str, value: Any) -> None:
        try:
            self._places.log.append(stream, value)
        except (LogFull, LogUnavailable):
            self.counters.appends_failed += 1
            raise
