"""One kiosk as the gateway knows it: what its page says goes in, what to answer comes out.

No socket and no thread of its own: whoever has the socket calls one method at a time, from any
thread, since the log may hold each of them up. It outlives its socket: a page that comes back finds
its visit as it left it.
"""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from connectors.local_analyser import decode_picture
from connectors.picture_format import read_format
from pipelines.analyze import Pictures
from producers.kiosk import Finder, Kiosk, KioskSettings, Log, Places
from producers.looks import Began, Happening, Look, Over, Taken, Visit
from producers.tracker import TrackerSettings, VisitTracker
from schemas.decisions import EndReason, GreetingIssued
from schemas.errors import LogFull, LogUnavailable, PhoError, PictureUnreadable
from schemas.frames import EdgeAnalysis, Notice
from schemas.loops import LoopConfigured
from serving.gateway import kiosk_messages as say
from serving.gateway.kiosk_messages import BadMessage, Outgoing
from serving.gateway.metrics import Metrics
from serving.gateway.page_clock import PageClock

LATE_LOOK_MS = 5_000
"""What was captured so long ago says nothing of who stands there now; nobody looks at it."""
_ACKNOWLEDGED_KEPT = 64
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")

Known = Callable[[str], Visit | None]
"""Returns what the log knows of a visit; None: nothing, or that it ended."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every session of a gateway shares."""

    loop: LoopConfigured
    """The loop that greets."""
    tracker: TrackerSettings
    """When somebody counts as a visitor."""
    posted: bool
    """True: the operator declared that the notice is posted, whatever the page shows."""
    language: str
    """Language of a kiosk whose page names none."""
    shots_per_second: float
    """How often a page sends what it sees."""
    shot_width: int
    """Width of its pictures, pixels."""
    finder: Finder
    """Finds faces; called from several threads."""
    pictures: Pictures
    """Keeps pictures until they are analysed."""
    log: Log
    """Takes records from several threads."""
    clock: Callable[[], int]
    """Returns ms since 1970 UTC."""
    known: Known
    """What the log knows of a visit of another process."""
    metrics: Metrics
    """Told what happens."""
    speech: say.SpeechOffered | None = None
    """The voice it has for its pages; None: each page has its own alone."""


class KioskSession:
    """One kiosk, from its first hello until nobody waits for it any more.

    Parameters
    ----------
    kiosk_id : str
        The kiosk.
    around : Surroundings
        What it shares with the others.
    """

    def __init__(self, kiosk_id: str, around: Surroundings) -> None:
        self.kiosk_id = kiosk_id
        self.looked_at_ms = around.clock()
        self._around = around
        self._page_clock = PageClock()
        self._notice_on_page = False
        self._edge = False
        self._sent: str | None = None
        self._unnoted: OrderedDict[str, tuple[str, int, bool]] = OrderedDict()
        self._acknowledged: OrderedDict[str, None] = OrderedDict()
        run = secrets.token_hex(4)
        # Of this kiosk and nobody else: what a page says of a visit is held against this.
        self._is_my_visit = re.compile(rf"{re.escape(kiosk_id)}-[0-9a-f]{{8}}-[0-9]{{1,15}}")
        settings = KioskSettings(around.loop.loop_id, kiosk_id, self._notice, 0, around.language)
        places = Places(around.pictures, around.log, lambda at_ms: f"{kiosk_id}-{run}-{at_ms}")
        self._kiosk = Kiosk(settings, around.finder, VisitTracker(around.tracker), places)

    @property
    def visit_id(self) -> str | None:
        """Id of the visit that runs; None: nobody is there."""
        return self._kiosk.visit_id

    # What the page says

    def hello(self, message: say.Hello, received_ms: int) -> list[Outgoing]:
        """Welcome a page, for the first time or once more.

        Raises
        ------
        BadMessage
            It speaks another version, or its language is none.
        """
        if message.protocol != say.PROTOCOL:
            problem = f"the page speaks version {message.protocol} of the protocol"
            raise BadMessage(problem, f"This gateway speaks {say.PROTOCOL}: load the page again")
        language = message.language or self._around.language
        if _LANGUAGE.fullmatch(language) is None:
            problem = f"{language[:40]!r} is no language"
            raise BadMessage(problem, "Give a tag such as de or en-GB")
        # Another page, perhaps another device: what was measured of the old clock is void.
        self._page_clock = PageClock()
        self._page_clock.measure(message.sent_at_ms, received_ms)
        self._notice_on_page = message.notice == "page"
        self._edge = message.analysis == "edge"
        self._sent = None
        settings = replace(
            self._kiosk.settings,
            notice=self._notice,
            language=language,
            utc_offset_minutes=message.utc_offset_minutes,
        )
        self._kiosk.change(settings)
        if message.resume is not None and self._kiosk.visit is None:
            self._resume(message.resume, received_ms)
        answers: list[Outgoing] = [self._welcome(message)]
        if self._kiosk.visit is not None:
            answers.append(self._visit_started(self._kiosk.visit))
        return answers

    def prepare(self, at_ms: int, jpeg: bytes, received_ms: int) -> Look:
        """Find the faces in a picture: the long part, which no log holds up.

        Raises
        ------
        BadMessage
            It is no JPEG, too large, or too old.
        """
        at_ms, offset_ms = self._corrected(at_ms, received_ms)
        try:
            told = read_format(jpeg)
            if told.kind != "jpeg" or max(told.width, told.height) > say.SHOT_SIDE_PIXELS_MAX:
                problem = f"the picture is a {told.kind} of {told.width} x {told.height}"
                cure = f"Send JPEG of at most {say.SHOT_SIDE_PIXELS_MAX} pixels a side"
                raise BadMessage(problem, cure, "picture")
            pixels, width, height = decode_picture(jpeg)
        except PictureUnreadable as error:
            raise BadMessage(error.problem, error.cure, "picture") from error
        faces = self._around.finder.find(pixels)
        return Look(at_ms, width, height, faces, lambda: jpeg, clock_offset_ms=offset_ms)

    def read_look(self, message: say.Look, received_ms: int) -> Look:
        """Return what a page found by itself, as the kiosk takes it.

        Raises
        ------
        BadMessage
            The page said that it sends pictures; or it is too old.
        """
        if not self._edge:
            problem = "a look came from a page that said it does not analyse"
            raise BadMessage(problem, 'Say "analysis": "edge" in hello', "order")
        at_ms, offset_ms = self._corrected(message.at_ms, received_ms)
        found = tuple(face.face() for face in message.faces)
        faces = tuple((face.box, face.confidence) for face in found)
        edge = EdgeAnalysis(found, message.analyser, message.analyser_version)
        return Look(
            *(at_ms, message.width, message.height, faces),
            edge_analysis=edge,
            clock_offset_ms=offset_ms,
        )

    def look(self, look: Look, page_at_ms: int) -> list[Outgoing]:
        """Do what a look asks for; `page_at_ms` is its time as the page said it.

        While the log takes nothing the visit stands still: the page is answered all the same,
        told why, and its next look tries again.
        """
        self.looked_at_ms = self._around.clock()
        self._around.metrics.shot_seen()
        answers: list[Outgoing] = []
        try:
            answers += self._note_shown()
            answers += self._told(self._kiosk.look(look))
        except PhoError as error:
            answers.append(say.Problem(error.problem, error.cure, fatal=False))
        return [self._seen(page_at_ms, len(look.faces)), *answers]

    def unseen(self, page_at_ms: int) -> Outgoing:
        """Answer a shot that could not be looked at: the page waits for it."""
        return self._seen(page_at_ms, 0)

    def shown(self, message: say.Shown, received_ms: int) -> list[Outgoing]:
        """Note what was shown; said again, it is acknowledged again and noted once.

        Raises
        ------
        BadMessage
            It is no decision of this kiosk, or its time cannot be.
        """
        decision_id = message.decision_id
        if decision_id in self._acknowledged:
            return [say.ShownNoted(decision_id)]
        if self._is_my_visit.fullmatch(decision_id) is None:
            problem = f"{decision_id[:60]!r} is no decision of kiosk {self.kiosk_id!r}"
            raise BadMessage(problem, "Send back the decision_id of a greeting")
        at_ms = min(message.shown_at_ms + self._page_clock.offset_ms, received_ms)
        horizon_ms = self._around.loop.rules.dedup_horizon_ms
        if received_ms - at_ms > horizon_ms:
            problem = f"decision {decision_id!r} was shown {(received_ms - at_ms) // 1_000} s ago"
            cure = f"After {horizon_ms // 1_000} s it is forgotten; throw it away"
            raise BadMessage(problem, cure)
        self._unnoted.setdefault(decision_id, (message.action_id, at_ms, message.fallback))
        return self._note_shown()

    def notice(self, message: say.Notice) -> list[Outgoing]:
        """Note whether visitors can read the notice now."""
        self._notice_on_page = message.shown
        self._kiosk.change(replace(self._kiosk.settings, notice=self._notice))
        return []

    def clock(self, message: say.ClockAsked, received_ms: int) -> list[Outgoing]:
        """Measure the page's clock, and let it measure ours."""
        self._page_clock.measure(message.sent_at_ms, received_ms, message.round_trip_ms)
        return [say.ClockTold(message.sent_at_ms, self._around.clock())]

    # What others say

    def greet(self, greeting: GreetingIssued) -> list[Outgoing]:
        """Return a greeting if it is for who stands here, and was not sent to this page yet."""
        now_ms = self._around.clock()
        if self._sent == greeting.decision_id or not self._kiosk.wants(greeting, now_ms):
            return []
        self._sent = greeting.decision_id
        visit = self._kiosk.visit
        if visit is not None:
            self._around.metrics.greeting_sent((now_ms - visit.started_at_ms) / 1_000)
        return [
            say.Greeting(
                decision_id=greeting.decision_id,
                visit_id=greeting.visit_id,
                loop_id=greeting.loop_id,
                action_id=greeting.action_id,
                text=greeting.text,
                language=greeting.language,
                voice=greeting.voice,
                mood=greeting.mood,
                expires_at_ms=greeting.expires_at_ms,
                expires_in_ms=greeting.expires_at_ms - now_ms,
            )
        ]

    def end(self, reason: EndReason) -> list[Outgoing]:
        """End the visit that runs, when it was last looked at: the page is gone, or blind.

        Raises
        ------
        LogFull, LogUnavailable
            The log took nothing; call again.
        """
        self._note_shown()
        return self._told(self._kiosk.stop(self.looked_at_ms, reason))

    # Inside

    @property
    def _notice(self) -> Notice:
        if self._notice_on_page:
            return "page"
        return "posted" if self._around.posted else "none"

    def _corrected(self, at_ms: int, received_ms: int) -> tuple[int, int]:
        """Return a time of the page by our clock, and what was added to it."""
        offset_ms = self._page_clock.offset_ms
        late_ms = received_ms - at_ms - offset_ms
        if late_ms > LATE_LOOK_MS:
            problem = f"the picture was taken {late_ms / 1_000:.1f} s before it came"
            raise BadMessage(problem, "Send pictures at once, and the clock now and then")
        corrected_ms = min(at_ms + offset_ms, received_ms)
        return corrected_ms, corrected_ms - at_ms

    def _resume(self, resume: say.Resume, now_ms: int) -> None:
        """Go on with a visit of a gateway that is gone; what the log knows of it counts."""
        if self._is_my_visit.fullmatch(resume.visit_id) is None:
            problem = f"{resume.visit_id[:60]!r} is no visit of kiosk {self.kiosk_id!r}"
            raise BadMessage(problem, "Send back `resume` as it came, or null")
        try:
            visit = self._around.known(resume.visit_id)
        except PhoError:
            # The log does not answer: what the page says is better than greeting somebody twice.
            visit = Visit(
                *(resume.visit_id, resume.started_at_ms, resume.shown_at_ms),
                resume.post_frame_ids[: len(self._around.tracker.post_delays_ms)],
            )
        if visit is None or now_ms - visit.started_at_ms > self._around.tracker.visit_max_ms:
            return
        self._kiosk.resume(visit, now_ms)
        if visit.shown_at_ms is not None:
            self._acknowledge(visit.visit_id)

    def _note_shown(self) -> list[Outgoing]:
        """Write down what was shown and is not in the log yet, oldest first."""
        answers: list[Outgoing] = []
        while self._unnoted:
            decision_id, (action_id, at_ms, fallback) = next(iter(self._unnoted.items()))
            try:
                self._kiosk.was_shown(decision_id, action_id, at_ms, fallback=fallback)
            except (LogFull, LogUnavailable) as error:
                # Tried again with each look; the page keeps it too, until it is acknowledged.
                return [*answers, say.Problem(error.problem, error.cure, fatal=False)]
            except PhoError as error:
                del self._unnoted[decision_id]
                raise BadMessage(error.problem, error.cure) from error
            del self._unnoted[decision_id]
            self._around.metrics.greeting_shown()
            self._acknowledge(decision_id)
            answers.append(say.ShownNoted(decision_id))
        return answers

    def _acknowledge(self, decision_id: str) -> None:
        self._acknowledged[decision_id] = None
        while len(self._acknowledged) > _ACKNOWLEDGED_KEPT:
            self._acknowledged.popitem(last=False)

    def _told(self, happened: tuple[Happening, ...]) -> list[Outgoing]:
        answers: list[Outgoing] = []
        for each in happened:
            if isinstance(each, Began):
                answers.append(self._visit_started(Visit(each.visit_id, each.at_ms)))
            elif isinstance(each, Taken):
                frame = each.frame
                self._around.metrics.frame_taken(frame.phase)
                answers.append(say.PictureTaken(frame.phase, frame.sequence))
            elif isinstance(each, Over):
                answers.append(say.VisitEnded(each.visit_id, each.reason))
        return answers

    def _seen(self, page_at_ms: int, faces: int) -> Outgoing:
        box = self._kiosk.box
        told = None if box is None else say.Box(box.left, box.top, box.width, box.height)
        return say.Seen(page_at_ms, faces, told, self._kiosk.visit_id, self._kiosk.stage)

    def _visit_started(self, visit: Visit) -> Outgoing:
        resume = say.Resume(
            visit_id=visit.visit_id,
            sequence=len(visit.post_frame_ids),
            shown_at_ms=visit.shown_at_ms,
            post_frame_ids=visit.post_frame_ids,
            started_at_ms=visit.started_at_ms,
        )
        return say.VisitStarted(visit.visit_id, resume)

    def _welcome(self, message: say.Hello) -> Outgoing:
        loop = self._around.loop
        baseline = next(each for each in loop.actions if each.id == loop.baseline_id)
        texts = {wording.language: wording.text for wording in baseline.wordings}
        voice = next((wording.voice for wording in baseline.wordings), "")
        return say.Welcome(
            protocol=say.PROTOCOL,
            kiosk_id=self.kiosk_id,
            loop_id=loop.loop_id,
            loop_name=loop.loop_id,
            baseline=say.Baseline(baseline.id, texts, voice, baseline.mood),
            shots_per_second=self._around.shots_per_second,
            shot_width=self._around.shot_width,
            server_ms=self._around.clock(),
            sent_at_ms=message.sent_at_ms,
            speech=self._around.speech,
        )
