"""Recorded visitors: an interactive camera with a known truth, for the demo and for tests.

Real recordings go through the real models; only the taste behind the reaction is invented. A
visitor comes at rest or smiling, stands there until greeted, and reacts to the greeting: ::

    for visitor in RecordedVisitors(seed=7, visits=600).visitors():
        for shot in visitor.shots():
            kiosk.see(shot)                         # at some shot, a greeting comes back
            visitor.react(action_id, shot.at_ms)    # the following shots show the reaction
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from producers.cameras import Shot, Time
from producers.stretches import EMPTY, PEOPLE, Stretches, load_stretches, playing
from producers.taste import MOODS, STANDARD_TASTE, START_MS, Mood, Taste, draw
from schemas.checks import check_range
from schemas.errors import InvalidRecord
from schemas.features import daypart

VISITS_IN_A_SESSION = 20
_DAY_MS = 86_400_000
_SESSIONS_START_MS = (9 * 3_600_000, 14 * 3_600_000, 19 * 3_600_000)


@dataclass(frozen=True, slots=True)
class Script:
    """How a visit goes, all in ms."""

    shot_interval_ms: int = 500
    """Between two shots."""
    empty_before_ms: int = 1_000
    """The empty scene before the visitor comes."""
    patience_ms: int = 3_000
    """How long the visitor waits for a greeting, then goes."""
    face_delay_ms: int = 700
    """From the greeting to the changed face."""
    reaction_ms: int = 4_000
    """From the greeting until the visitor goes."""
    empty_after_ms: int = 2_000
    """The empty scene afterwards; longer than the tracker bridges."""

    @property
    def longest_ms(self) -> int:
        """Longest visit: greeted in the last moment."""
        return self.empty_before_ms + self.patience_ms + self.reaction_ms + self.empty_after_ms


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of a visitor, and hidden from the loop."""

    index: int
    """Counts the visitors, from 0."""
    start_ms: int
    """When the first shot is taken, ms since 1970 UTC."""
    mood: Mood
    """The face before the greeting."""
    part: str
    """Part of the day, local time."""
    person: str
    """Who is on the recording."""


class Visitor:
    """One visitor, from the empty scene before to the empty scene after.

    Parameters
    ----------
    truth : Truth
        Who comes, when, and how.
    seed : int
        Seed of the reactions.
    taste : Taste
        Which greeting makes whom smile.
    script : Script
        How the visit goes.
    stretches : Stretches
        The pictures.
    """

    def __init__(
        self, truth: Truth, seed: int, taste: Taste, script: Script, stretches: Stretches
    ) -> None:
        self.truth = truth
        self._seed = seed
        self._taste = taste
        self._script = script
        self._stretches = stretches
        self._greeted_ms: int | None = None
        self._mood_after = truth.mood

    def smiles_after(self, action_id: str) -> bool:
        """Whether this visitor smiles after that greeting; the same however often one asks."""
        truth = self.truth
        chance = self._taste.chance(truth.mood, truth.part, action_id)
        return draw(self._seed, "reaction", truth.index, action_id) < chance

    def react(self, action_id: str, at_ms: int) -> None:
        """Greet the visitor: shots from `face_delay_ms` after `at_ms` on show the reaction.

        Only the first greeting counts, and only before the visitor went.
        """
        if self._greeted_ms is None and at_ms < self._leaves_ms:
            self._mood_after = "smile" if self.smiles_after(action_id) else "rest"
            self._greeted_ms = at_ms

    def shots(self) -> Iterator[Shot]:
        """Yield the shots in the order of their times, with what `react` changed meanwhile."""
        # Two visitors of one person do not start at the same picture of the recording.
        offset = int(draw(self._seed, "offset", self.truth.index) * 64)
        at_ms, step = self.truth.start_ms, offset
        while at_ms < self._leaves_ms + self._script.empty_after_ms:
            yield Shot(at_ms, self._stretches.picture(self._stretch(at_ms), step))
            at_ms += self._script.shot_interval_ms
            step += 1

    @property
    def _leaves_ms(self) -> int:
        if self._greeted_ms is not None:
            return self._greeted_ms + self._script.reaction_ms
        return self._comes_ms + self._script.patience_ms

    @property
    def _comes_ms(self) -> int:
        return self.truth.start_ms + self._script.empty_before_ms

    def _stretch(self, at_ms: int) -> str:
        if not self._comes_ms <= at_ms < self._leaves_ms:
            return EMPTY
        greeted_ms = self._greeted_ms
        changed = greeted_ms is not None and at_ms >= greeted_ms + self._script.face_delay_ms
        return playing(self.truth.person, self._mood_after if changed else self.truth.mood)


class RecordedVisitors:
    """A world of recorded visitors: the same seed gives the same visitors, from any index on.

    Sessions of 20 visitors back to back, in the morning, the afternoon and the evening of each
    day: 600 visitors are ten days.

    Parameters
    ----------
    seed : int
        Seed of who comes and how each reacts; a signed 64-bit number.
    visits : int
        How many come, from 0.
    start_ms : int
        Midnight UTC of the first day, ms since 1970 UTC.
    cache : Path, optional
        Folder of the fetched recordings; None: the user's own.
    taste : Taste
        Which greeting makes whom smile.
    script : Script
        How each visit goes.
    utc_offset_minutes : int
        Local time minus UTC at the kiosk, minutes: the same as its frames say, since the part of
        the day decides.

    Raises
    ------
    ModelError
        When a recording is missing or altered; says how to fetch it.
    """

    def __init__(
        self,
        seed: int,
        visits: int,
        start_ms: int = START_MS,
        cache: Path | None = None,
        *,
        taste: Taste = STANDARD_TASTE,
        script: Script | None = None,
        utc_offset_minutes: int = 0,
    ) -> None:
        check_range("seed", seed, -(2**63), 2**63 - 1)
        check_range("visits", visits, 0, 10_000_000)
        self.seed = seed
        self.visits = visits
        self.taste = taste
        self.script = script if script is not None else Script()
        self._start_ms = start_ms
        self._utc_offset_minutes = utc_offset_minutes
        self._stretches = load_stretches(cache)
        session_ms = VISITS_IN_A_SESSION * self.script.longest_ms
        # Longer, and two sessions would overlap, the times of shots go back.
        check_range("a session of 20 visits, ms", session_ms, 1, 4 * 3_600_000)

    def truth(self, index: int) -> Truth:
        """Return who the visitor of that index is.

        Raises
        ------
        InvalidRecord
            When the index is below 0.
        """
        if index < 0:
            problem = f"there is no visitor {index}"
            raise InvalidRecord(problem, "Count them from 0")
        session, place = divmod(index, VISITS_IN_A_SESSION)
        day, part = divmod(session, len(_SESSIONS_START_MS))
        start_ms = self._start_ms + day * _DAY_MS + _SESSIONS_START_MS[part]
        start_ms += place * self.script.longest_ms
        mood = MOODS[int(draw(self.seed, "mood", index) * len(MOODS))]
        person = PEOPLE[int(draw(self.seed, "person", index) * len(PEOPLE))]
        return Truth(index, start_ms, mood, self._part(start_ms), person)

    def visitor(self, index: int, start_ms: int | None = None) -> Visitor:
        """Return the visitor of that index, as scheduled or at another time."""
        truth = self.truth(index)
        if start_ms is not None:
            truth = replace(truth, start_ms=start_ms, part=self._part(start_ms))
        return Visitor(truth, self.seed, self.taste, self.script, self._stretches)

    def _part(self, at_ms: int) -> str:
        return daypart(at_ms, self._utc_offset_minutes)

    def visitors(self, from_index: int = 0) -> Iterator[Visitor]:
        """Yield the visitors in their order, from one on."""
        for index in range(from_index, self.visits):
            yield self.visitor(index)


class VisitorsCamera:
    """Recorded visitors as a live camera, by the wall clock: ``pho up --camera recorded``.

    Parameters
    ----------
    world : RecordedVisitors
        Who comes; after the last it starts again with the first.
    time : Time
        The clock, and how to wait.
    """

    def __init__(self, world: RecordedVisitors, time: Time) -> None:
        self.skipped = 0
        self._world = world
        self._time = time
        self._closed = threading.Event()
        self._present: Visitor | None = None

    def shots(self) -> Iterator[Shot]:
        """Yield each shot when its time has come, until closed."""
        index = 0
        while not self._closed.is_set() and self._world.visits:
            start_ms = self._time.clock_ms()
            self._present = self._world.visitor(index % self._world.visits, start_ms)
            for shot in self._present.shots():
                early_ms = shot.at_ms - self._time.clock_ms()
                if early_ms > 0:
                    self._time.sleep(early_ms / 1_000)
                if self._closed.is_set():
                    return
                yield shot
            index += 1

    def react(self, action_id: str, at_ms: int) -> None:
        """Greet whoever stands there; may be called from another thread than `shots` runs in."""
        if self._present is not None:
            self._present.react(action_id, at_ms)

    def close(self) -> None:
        """End at the next shot."""
        self._closed.set()
