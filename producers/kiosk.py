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

from pipelines.analyze import Pictures, PictureTags
from producers.cameras import Picture, Shot
from producers.looks import Began, Happening, KioskCounters, Look, Over, Taken, Visit
from producers.tracker import (
    Event,
    Faces,
    Stage,
    TakePicture,
    Tracking,
    VisitOver,
    VisitStarted,
    VisitTracker,
)
from schemas.checks import check_id, check_range
from schemas.decisions import DecisionShown, EndReason, GreetingIssued, VisitEnded
from schemas.errors import CameraError, InvalidRecord, LogFull, LogUnavailable, PhoError
from schemas.frames import Box, EdgeAnalysis, FrameCaptured, Notice


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
        self._visit: Visit | None = None

    @property
    def visit_id(self) -> str | None:
        """Id of the visit that runs; None: nobody is there."""
        return self._visit.visit_id if self._visit is not None else None

    @property
    def visit(self) -> Visit | None:
        """The visit that runs; None: nobody is there."""
        return self._visit

    @property
    def stage(self) -> Stage:
        """How far the visit is: ``nobody``, ``arriving``, ``present`` or ``over``."""
        return self._tracking.stage

    @property
    def box(self) -> Box | None:
        """Where the followed face was last seen; None: nobody is followed."""
        return self._tracking.box

    @property
    def settings(self) -> KioskSettings:
        """What every record says."""
        return self._settings

    def change(self, settings: KioskSettings) -> None:
        """Say something else from the next frame on: the notice was taken away, or put up.

        Raises
        ------
        InvalidRecord
            It would be another kiosk, or another loop.
        """
        mine = self._settings
        if (settings.kiosk_id, settings.loop_id) != (mine.kiosk_id, mine.loop_id):
            problem = f"kiosk {mine.kiosk_id!r} cannot become {settings.kiosk_id!r}"
            raise InvalidRecord(problem, "Make another kiosk")
        self._settings = settings

    def see(self, shot: Shot) -> tuple[Happening, ...]:
        """Look at one shot; take a picture or end the visit if its time has come.

        Returns
        -------
        tuple of Happening
            What is in the log now, in its order.

        Raises
        ------
        LogFull, LogUnavailable
            The log took nothing; the picture just stored is deleted again. Call again with a
            later shot.
        CameraError
            When the shot cannot be encoded.
        """
        height, width = shot.picture.shape[:2]
        faces = self._finder.find(shot.picture)
        return self.look(Look(shot.at_ms, width, height, faces, lambda: self._encoded(shot)))

    def look(self, look: Look) -> tuple[Happening, ...]:
        """Do what `see` does, where the faces are found already.

        Raises
        ------
        LogFull, LogUnavailable
            As of `see`.
        """
        self.counters.shots += 1
        tracking, events = self._tracker.step(self._tracking, look.at_ms, look.faces)
        visit = self._visit
        happened: list[Happening] = []
        for event in events:
            visit = self._carry_out(event, visit, look, happened)
        self._tracking, self._visit = tracking, visit
        return tuple(happened)

    def wants(self, greeting: GreetingIssued, at_ms: int) -> bool:
        """Whether a greeting is for whoever stands here, not yet greeted, and not too late.

        Parameters
        ----------
        greeting : GreetingIssued
            From the stream ``greetings``.
        at_ms : int
            Now, event time, ms since 1970 UTC.
        """
        visit = self._visit
        if (
            visit is None
            or visit.shown_at_ms is not None
            or greeting.kiosk_id != self._settings.kiosk_id
            or greeting.visit_id != visit.visit_id
        ):
            self.counters.greetings_of_others += 1
            return False
        if at_ms >= greeting.expires_at_ms:
            self.counters.greetings_expired += 1
            return False
        return True

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
        if not self.wants(greeting, at_ms):
            return False
        self.was_shown(greeting.decision_id, greeting.action_id, at_ms)
        return True

    def was_shown(
        self, decision_id: str, action_id: str, at_ms: int, *, fallback: bool = False
    ) -> None:
        """Note that somebody was shown an action: the visitor here, or one who has gone.

        Parameters
        ----------
        decision_id : str
            The decision; in the greeting loop the visit's id.
        action_id : str
            What was really shown.
        at_ms : int
            When, event time, ms since 1970 UTC.
        fallback : bool
            True: the kiosk's own baseline, since nothing came in time.

        Raises
        ------
        LogFull, LogUnavailable
            The log took nothing; it does not count as shown.
        InvalidRecord
            An id or time that cannot be.
        """
        shown = DecisionShown(
            event_id=f"{decision_id}.shown",
            decision_id=decision_id,
            loop_id=self._settings.loop_id,
            action_id=action_id,
            shown_at_ms=at_ms,
            fallback=fallback,
            kiosk_id=self._settings.kiosk_id,
        )
        self._append("impressions", shown)
        self.counters.greetings_shown += 1
        if self._visit is not None and self._visit.visit_id == decision_id:
            self._tracking = self._tracker.shown(self._tracking, at_ms)
            self._visit = replace(self._visit, shown_at_ms=at_ms)

    def resume(self, visit: Visit, at_ms: int) -> None:
        """Go on with a visit that another process began; whoever stands here is its visitor.

        Parameters
        ----------
        visit : Visit
            The visit, as the log knows it.
        at_ms : int
            Now, event time, ms since 1970 UTC; who is not seen within `bridge_ms` has gone.

        Raises
        ------
        InvalidRecord
            A visit runs here already.
        """
        if self._visit is not None:
            problem = f"visit {self._visit.visit_id!r} runs, so {visit.visit_id!r} cannot go on"
            raise InvalidRecord(problem, "End it first")
        self._tracking = self._tracker.resumed(
            self._tracking,
            at_ms,
            visit.started_at_ms,
            1 + len(visit.post_frame_ids),
            visit.shown_at_ms,
        )
        self._visit = visit

    def stop(self, at_ms: int, reason: EndReason = "stopped") -> tuple[Happening, ...]:
        """End the visit that runs, if any: the camera is lost, or the kiosk is switched off.

        Returns
        -------
        tuple of Happening
            The end of the visit, if one ran.

        Raises
        ------
        LogFull, LogUnavailable
            The log took nothing; call again.
        """
        tracking, events = self._tracker.close(self._tracking, at_ms, reason)
        happened: list[Happening] = []
        for event in events:
            if isinstance(event, VisitOver):
                self._end(event, self._visit, happened)
        self._tracking, self._visit = tracking, None
        return tuple(happened)

    def _carry_out(
        self, event: Event, visit: Visit | None, look: Look, happened: list[Happening]
    ) -> Visit | None:
        match event:
            case VisitStarted():
                return Visit(self._places.new_visit_id(look.at_ms), look.at_ms)
            case TakePicture() if visit is not None:
                return self._take(event, visit, look, happened)
            case VisitOver():
                self._end(event, visit, happened)
        return None

    def _take(
        self, event: TakePicture, visit: Visit, look: Look, happened: list[Happening]
    ) -> Visit:
        frame_id = f"{visit.visit_id}.{event.phase}.{event.sequence}"
        tags = PictureTags(visit.visit_id, event.sequence, event.phase)
        picture_id, edge = self._material(look, frame_id, tags)
        frame = FrameCaptured(
            frame_id=frame_id,
            decision_id=visit.visit_id,
            visit_id=visit.visit_id,
            loop_id=self._settings.loop_id,
            kiosk_id=self._settings.kiosk_id,
            phase=event.phase,
            sequence=event.sequence,
            captured_at_ms=look.at_ms,
            width=look.width,
            height=look.height,
            notice=self._settings.notice,
            utc_offset_minutes=self._settings.utc_offset_minutes,
            clock_offset_ms=look.clock_offset_ms,
            picture_id=picture_id,
            edge_analysis=edge,
            tracked_box=event.box,
            language=self._settings.language,
        )
        try:
            self._append("frames", frame)
        except PhoError:
            # Nobody will ever answer this frame, so nobody else would delete its picture in time.
            if picture_id is not None:
                self._places.pictures.delete(picture_id)
            raise
        self.counters.frames_sent += 1
        if self._settings.notice == "none":
            self.counters.frames_without_notice += 1
        if event.phase == "pre":
            self.counters.visits_started += 1
            happened += (Began(visit.visit_id, look.at_ms), Taken(frame))
            return visit
        happened.append(Taken(frame))
        return replace(visit, post_frame_ids=(*visit.post_frame_ids, frame_id))

    def _material(
        self, look: Look, frame_id: str, tags: PictureTags
    ) -> tuple[str | None, EdgeAnalysis | None]:
        """Return what the frame carries: the id of a stored picture, or the kiosk's analysis."""
        if self._settings.notice == "none":
            # The frame still goes out, so that `analyze` answers and counts it as refused; but
            # its id leads nowhere, and what the kiosk found stays unsaid.
            return self._places.new_picture_id(frame_id) or secrets.token_hex(16), None
        if look.jpeg is None:
            return None, look.edge_analysis
        picture = look.jpeg()
        wished = self._places.new_picture_id(frame_id)
        return self._places.pictures.put(picture, wished, tags), None

    def _encoded(self, shot: Shot) -> bytes:
        options = [cv2.IMWRITE_JPEG_QUALITY, self._settings.jpeg_quality]
        encoded, jpeg = cv2.imencode(".jpg", shot.picture, options)
        if not encoded:
            problem = f"a shot of shape {shot.picture.shape} cannot be encoded as JPEG"
            raise CameraError(problem, "Use a camera that gives colour pictures of 8 bits")
        return jpeg.tobytes()

    def _end(self, event: VisitOver, visit: Visit | None, happened: list[Happening]) -> None:
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
        happened.append(Over(visit.visit_id, event.reason))

    def _append(self, stream: str, value: Any) -> None:
        try:
            self._places.log.append(stream, value)
        except (LogFull, LogUnavailable):
            self.counters.appends_failed += 1
            raise
