"""The visit tracker: turns the faces of each camera picture into visits and pictures to take.

One stay of one person before the kiosk is one visit, however long and however much the detector
flickers. The tracker is a pure state machine: time comes in with the picture, and what is to be
done goes out as events. ::

    nobody ──face──► arriving ──stands still: pre──► present ──gone: left──► nobody
      ▲                 │                               │
      ├──gone: forgotten┘                               └──too long: timeout──► over
      └────────────────────────────────gone─────────────────────────────────────┘
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from schemas.checks import check_range
from schemas.decisions import EndReason
from schemas.errors import InvalidRecord
from schemas.frames import Box, Phase

Faces = tuple[tuple[Box, float], ...]
"""What a face finder returns: boxes in fractions of the picture, each with its confidence."""

Stage = Literal["nobody", "arriving", "present", "over"]

_SIZE_RATIO_MAX = 3.0
"""A face of three times the area is another person, who walks past closer or farther."""


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """When somebody counts as a visitor, and when pictures are taken."""

    min_face_height: float = 0.12
    """Smallest face that starts a visit, share of the picture's height; followed down to half."""
    min_confidence: float = 0.7
    """Least confidence of a face that starts a visit, 0..1: wallpaper reaches 0.6."""
    stand_still_ms: int = 400
    """How long a face must stay in its place before the first picture, ms."""
    still_share: float = 0.25
    """A face that moved or grew by less than this share of its size stands still."""
    min_overlap: float = 0.1
    """Least overlap (intersection / union) of a face with itself in the next picture."""
    bridge_ms: int = 1_500
    """A face not seen for less than this is still there, ms: hands and turned heads hide it."""
    blind_ms: int = 5_000
    """After no picture at all for this long, whoever stands there is somebody else, ms."""
    post_delays_ms: tuple[int, ...] = (1_500, 3_000)
    """When pictures of the reaction are due, rising, ms after the greeting was shown."""
    visit_max_ms: int = 60_000
    """Longest visit, ms; who stands on afterwards starts no second one until gone."""

    def __post_init__(self) -> None:
        check_range("min_face_height", self.min_face_height, 0.01, 1.0)
        check_range("min_confidence", self.min_confidence, 0.0, 1.0)
        check_range("stand_still_ms", self.stand_still_ms, 0, 60_000)
        check_range("min_overlap", self.min_overlap, 1e-6, 1.0)
        check_range("bridge_ms", self.bridge_ms, 1, 60_000)
        check_range("blind_ms", self.blind_ms, self.bridge_ms, 3_600_000)
        check_range("visit_max_ms", self.visit_max_ms, 1, 86_400_000)
        rising = sorted(set(self.post_delays_ms))
        if list(self.post_delays_ms) != rising or any(delay < 0 for delay in rising):
            problem = f"post_delays_ms is {self.post_delays_ms}"
            raise InvalidRecord(problem, "Give delays from 0 ms on, each longer than the last")


@dataclass(frozen=True, slots=True)
class VisitStarted:
    """Somebody stands at the kiosk; the first picture follows in the same step."""

    visit_number: int
    """Counts the visits of this tracker, from 1."""
    box: Box
    """The visitor's face."""


@dataclass(frozen=True, slots=True)
class TakePicture:
    """The camera picture of this step belongs to the visit."""

    phase: Phase
    """``pre``: before the greeting; ``post``: after it was shown."""
    sequence: int
    """Place among the pictures of the visit, from 0."""
    box: Box
    """The visitor's face."""


@dataclass(frozen=True, slots=True)
class VisitOver:
    """The visit ended; every VisitStarted is followed by exactly one."""

    reason: EndReason
    """Why."""
    at_ms: int
    """When, event time, ms since 1970 UTC; not before any earlier event."""


Event = VisitStarted | TakePicture | VisitOver


@dataclass(frozen=True, slots=True)
class Tracking:
    """What the tracker remembers between two pictures."""

    stage: Stage = "nobody"
    """``arriving``: seen, no picture yet; ``over``: timed out, but still standing there."""
    at_ms: int = 0
    """Time of the last picture, ms since 1970 UTC; a clock that jumps back stands still here."""
    visits: int = 0
    """Visits started so far; the number of the present one."""
    box: Box | None = None
    """Where the followed face was last seen."""
    seen_at_ms: int = 0
    """When it was last seen, ms."""
    still_box: Box | None = None
    """Where it stood when it last moved."""
    still_since_ms: int = 0
    """When it last moved, ms."""
    started_at_ms: int = 0
    """When the first picture of the visit was taken, ms."""
    pictures: int = 0
    """Pictures taken in this visit."""
    greeted: bool = False
    """True: the greeting was shown."""
    due_ms: tuple[int, ...] = ()
    """When the pictures still to take are due, rising, ms."""


class VisitTracker:
    """Finds the visits in a stream of faces; holds settings only, the state is passed along.

    Parameters
    ----------
    settings : TrackerSettings
        When somebody counts as a visitor, and when pictures are taken.
    """

    def __init__(self, settings: TrackerSettings) -> None:
        self.settings = settings

    def step(self, state: Tracking, at_ms: int, faces: Faces) -> tuple[Tracking, tuple[Event, ...]]:
        """Take in one camera picture.

        Parameters
        ----------
        state : Tracking
            What the step before returned.
        at_ms : int
            Event time of the picture, ms since 1970 UTC.
        faces : tuple of (Box, float)
            The faces in it, with their confidences 0..1, in any order.

        Returns
        -------
        Tracking
            For the next step.
        tuple of Event
            What to do now, in this order; a TakePicture means this very picture.
        """
        before = replace(state, at_ms=max(at_ms, state.at_ms))
        followed = self._followed(before, state.at_ms, faces)
        if followed is not None:
            now = replace(before, box=followed, seen_at_ms=before.at_ms)
            return self._seen(self._anchored(now))
        near = self._near(faces)
        if before.stage == "arriving" and near:
            before = self._nobody(before)
        if before.stage != "nobody" and before.at_ms - before.seen_at_ms < self.settings.bridge_ms:
            return self._timed_out(before)
        # The stay ended when the face had been gone for `bridge_ms`, not when a slow camera
        # happened to look again.
        left = VisitOver("left", max(state.at_ms, before.seen_at_ms + self.settings.bridge_ms))
        events: tuple[Event, ...] = (left,) if before.stage == "present" else ()
        after, more = self._welcome(self._nobody(before), near)
        return after, events + more

    def shown(self, state: Tracking, at_ms: int) -> Tracking:
        """Plan the pictures of the reaction: the greeting was shown at `at_ms`.

        Only the first showing of a visit counts; without a visit nothing changes.
        """
        if state.stage != "present" or state.greeted:
            return state
        due = tuple(at_ms + delay for delay in self.settings.post_delays_ms)
        return replace(state, greeted=True, due_ms=due)

    def resumed(
        self,
        state: Tracking,
        at_ms: int,
        started_at_ms: int,
        pictures: int,
        shown_at_ms: int | None,
    ) -> Tracking:
        """Go on with a visit that another tracker began; its face is the nearest seen next.

        Parameters
        ----------
        state : Tracking
            Of this tracker; whatever ran in it must be over.
        at_ms : int
            Now, ms since 1970 UTC.
        started_at_ms : int
            When the first picture of the visit was taken, ms.
        pictures : int
            Pictures taken so far.
        shown_at_ms : int or None
            When the greeting was shown, ms; None: not yet.
        """
        now_ms = max(at_ms, state.at_ms)
        delays = self.settings.post_delays_ms[max(0, pictures - 1) :]
        due = () if shown_at_ms is None else tuple(shown_at_ms + delay for delay in delays)
        return Tracking(
            stage="present",
            at_ms=now_ms,
            visits=state.visits + 1,
            seen_at_ms=now_ms,
            started_at_ms=started_at_ms,
            pictures=pictures,
            greeted=shown_at_ms is not None,
            due_ms=due,
        )

    def close(
        self, state: Tracking, at_ms: int, reason: EndReason
    ) -> tuple[Tracking, tuple[Event, ...]]:
        """End whatever runs: the camera is lost, or the kiosk stops."""
        now = replace(state, at_ms=max(at_ms, state.at_ms))
        over = (VisitOver(reason, now.at_ms),) if state.stage == "present" else ()
        return self._nobody(now), over

    def _followed(self, state: Tracking, last_ms: int, faces: Faces) -> Box | None:
        """Return the followed person's face in this picture, None when it is not there."""
        last = state.box
        if state.stage == "nobody" or state.at_ms - last_ms >= self.settings.blind_ms:
            return None
        if last is None:
            # Taken over from another tracker, which alone knew where the face was.
            return max(self._near(faces), key=lambda box: box.area, default=None)
        near = [
            (overlap(last, box), box)
            for box, _ in faces
            if box.height >= self.settings.min_face_height / 2
            and 1 / _SIZE_RATIO_MAX <= box.area / last.area <= _SIZE_RATIO_MAX
        ]
        share, box = max(near, key=lambda pair: pair[0], default=(0.0, last))
        return box if share >= self.settings.min_overlap else None

    def _anchored(self, state: Tracking) -> Tracking:
        """Note where and since when the face stands still."""
        if state.box is None or state.stage != "arriving":
            return state
        if state.still_box is not None and (
            movement(state.still_box, state.box) < self.settings.still_share
        ):
            return state
        return replace(state, still_box=state.box, still_since_ms=state.at_ms)

    def _seen(self, state: Tracking) -> tuple[Tracking, tuple[Event, ...]]:
        """Decide about a picture that shows the followed face."""
        if state.box is None:
            return state, ()
        if state.stage == "arriving":
            if state.at_ms - state.still_since_ms < self.settings.stand_still_ms:
                return state, ()
            visit = state.visits + 1
            present = replace(
                state, stage="present", visits=visit, started_at_ms=state.at_ms, pictures=1
            )
            return present, (VisitStarted(visit, state.box), TakePicture("pre", 0, state.box))
        after, over = self._timed_out(state)
        if over or not state.due_ms or state.at_ms < state.due_ms[0]:
            return after, over
        # One picture a step: after a gap, two pictures of one moment would say nothing more.
        taken = replace(state, due_ms=state.due_ms[1:], pictures=state.pictures + 1)
        return taken, (TakePicture("post", state.pictures, state.box),)

    def _timed_out(self, state: Tracking) -> tuple[Tracking, tuple[Event, ...]]:
        """End a visit that lasts too long; the face is followed on until it is gone."""
        if (
            state.stage != "present"
            or state.at_ms - state.started_at_ms < self.settings.visit_max_ms
        ):
            return state, ()
        return replace(state, stage="over", due_ms=()), (VisitOver("timeout", state.at_ms),)

    def _near(self, faces: Faces) -> list[Box]:
        """Return the faces near and sure enough to start a visit."""
        return [
            box
            for box, confidence in faces
            if box.height >= self.settings.min_face_height
            and box.width > 0
            and confidence >= self.settings.min_confidence
        ]

    def _welcome(self, state: Tracking, near: list[Box]) -> tuple[Tracking, tuple[Event, ...]]:
        """Start to follow the nearest (largest) face."""
        if not near:
            return state, ()
        nearest = max(near, key=lambda box: box.area)
        arriving = replace(state, stage="arriving", box=nearest, seen_at_ms=state.at_ms)
        return self._seen(self._anchored(arriving))

    @staticmethod
    def _nobody(state: Tracking) -> Tracking:
        return Tracking(at_ms=state.at_ms, visits=state.visits)


def overlap(one: Box, other: Box) -> float:
    """Return intersection over union of two boxes, 0..1."""
    width = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    height = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (one.area + other.area - shared)


def movement(one: Box, other: Box) -> float:
    """Return how far a box moved or grew, as a share of its size; 0: not at all."""
    across = abs((other.left + other.width / 2) - (one.left + one.width / 2)) / one.width
    along = abs((other.top + other.height / 2) - (one.top + one.height / 2)) / one.height
    grown = abs(other.height - one.height) / one.height
    return max(across, along, grown)
