"""Simulated visitors: a world by seed whose truth is known, without a camera and without pixels.

A visitor comes sad, neutral or happy, at one part of the day. Three things move the face after the
greeting::

    after - before = REGRESSION (MEAN - before)         whatever is said: a sad face recovers
                   + GAIN if the greeting pleases       the only thing a greeting can do
                   + noise

How likely a greeting pleases depends on the part of the day and, linearly, on how happy the face
was before: the features of the shipped loop can express it. So the best greeting for each visitor
is known, and what any way of choosing is truly worth. One number per visitor decides whether a
greeting pleases, the same for all greetings: two policies meet the very same visitors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from producers.taste import STANDARD_TASTE, Taste, draw
from schemas.checks import check_range
from schemas.errors import InvalidRecord
from schemas.features import DAYPARTS

Group = Literal["sad", "neutral", "happy"]
Trouble = Literal["", "turned_away", "passer_by", "blurred"]

REGRESSION = 0.5
"""Part of the way back to `MEAN` that every face goes by itself."""
MEAN = 0.3
"""Where faces go when nothing pleases them, happiness 0..1."""
GAIN = 0.45
"""What a greeting that pleases adds, happiness."""
NOISE = 0.05
"""Largest noise of a face, both ways, happiness; no sum leaves 0..1, so means stay exact."""

_GROUPS: tuple[tuple[Group, float, float, float], ...] = (
    # Share of the visitors; least and largest happiness before.
    ("sad", 0.3, 0.02, 0.15),
    ("neutral", 0.5, 0.2, 0.4),
    ("happy", 0.2, 0.55, 0.7),
)
VISITS_OF_A_DAY = (40, 100, 60)
"""Visits in the morning, the afternoon and the evening of each day."""
_TROUBLES: tuple[tuple[Trouble, float], ...] = (
    ("turned_away", 0.03),
    ("passer_by", 0.02),
    ("blurred", 0.02),
)
"""Share of the pictures after the greeting that show no face, another's, or a blurred one."""


@dataclass(frozen=True, slots=True)
class SimulatedVisitor:
    """One visitor with everything that is hidden from the loop."""

    index: int
    """Counts the visitors, from 0."""
    group: Group
    """How the visitor comes."""
    day: int
    """Day of the visit, from 0."""
    part: str
    """Part of the day."""
    place: int
    """Place among the visits of that part, from 0."""
    before: float
    """Happiness before the greeting, 0..1."""
    readiness: float
    """A greeting pleases when its chance is above this, 0..1."""
    noise: float
    """What else moves the face, happiness."""
    troubles: tuple[Trouble, ...]
    """What spoils each picture after the greeting; empty: nothing."""
    taste: Taste
    """The taste of the day."""

    def chance(self, action_id: str) -> float:
        """Return the chance that a greeting pleases this kind of visitor, 0..1."""
        at_rest = self.taste.chance("rest", self.part, action_id)
        smiling = self.taste.chance("smile", self.part, action_id)
        return at_rest + self.before * (smiling - at_rest)

    def expected(self, action_id: str) -> float:
        """Return the true expected reward of a greeting for this kind of visitor."""
        return REGRESSION * (MEAN - self.before) + GAIN * self.chance(action_id)

    def after(self, action_id: str) -> float:
        """Return the happiness of this visitor after a greeting, 0..1; always the same."""
        pleased = self.readiness < self.chance(action_id)
        return self.before + REGRESSION * (MEAN - self.before) + GAIN * pleased + self.noise

    def best(self, action_ids: Sequence[str]) -> str:
        """Return the action of the largest expected reward, the first of equals."""
        return max(action_ids, key=self.expected)


class SimulatedWorld:
    """Visitors by seed: the same seed gives the same visitors, asked for in whatever order.

    Parameters
    ----------
    seed : int
        A signed 64-bit number.
    drift_at : int, optional
        From this visitor on, counted from 0, taste is flipped: each greeting but the baseline
        changes places with another; None: never.
    taste : Taste
        Which greeting pleases whom.
    baseline_id : str
        The greeting that stays as it is.

    Raises
    ------
    InvalidRecord
        When the seed or `drift_at` is out of range.
    """

    def __init__(
        self,
        seed: int,
        drift_at: int | None = None,
        taste: Taste = STANDARD_TASTE,
        baseline_id: str = "welcome",
    ) -> None:
        check_range("seed", seed, -(2**63), 2**63 - 1)
        if drift_at is not None:
            check_range("drift_at", drift_at, 0, 2**40)
        self.seed = seed
        self.drift_at = drift_at
        self._tastes = (taste, flipped(taste, baseline_id))

    def visitor(self, index: int) -> SimulatedVisitor:
        """Return the visitor of an index.

        Raises
        ------
        InvalidRecord
            When the index is below 0.
        """
        if index < 0:
            problem = f"there is no visitor {index}"
            raise InvalidRecord(problem, "Count them from 0")
        day, place = divmod(index, sum(VISITS_OF_A_DAY))
        part = 0
        while place >= VISITS_OF_A_DAY[part]:
            place -= VISITS_OF_A_DAY[part]
            part += 1
        group, before = self._mood(index)
        drifted = self.drift_at is not None and index >= self.drift_at
        return SimulatedVisitor(
            index=index,
            group=group,
            day=day,
            part=DAYPARTS[part],
            place=place,
            before=before,
            readiness=draw(self.seed, "readiness", index),
            noise=NOISE * (2.0 * draw(self.seed, "noise", index) - 1.0),
            troubles=tuple(self._trouble(index, picture) for picture in range(2)),
            taste=self._tastes[drifted],
        )

    def visitors(self, count: int, from_index: int = 0) -> Iterator[SimulatedVisitor]:
        """Yield so many visitors, in their order."""
        for index in range(from_index, from_index + count):
            yield self.visitor(index)

    def _mood(self, index: int) -> tuple[Group, float]:
        which, inside = draw(self.seed, "group", index), draw(self.seed, "before", index)
        group, _, low, high = _GROUPS[-1]
        for name, share, least, most in _GROUPS:
            if which < share:
                group, low, high = name, least, most
                break
            which -= share
        return group, low + inside * (high - low)

    def _trouble(self, index: int, picture: int) -> Trouble:
        which = draw(self.seed, "trouble", index, picture)
        for trouble, share in _TROUBLES:
            if which < share:
                return trouble
            which -= share
        return ""


def flipped(taste: Taste, baseline_id: str) -> Taste:
    """Return a taste in which the greetings changed places: the first liked as was the last."""
    movable = [action_id for action_id in taste.chances if action_id != baseline_id]
    changes = dict(zip(movable, reversed(movable), strict=True))
    rows = {name: taste.chances[changes.get(name, name)] for name in taste.chances}
    return Taste(MappingProxyType(rows))
