"""The hidden taste of the recorded visitors: a known truth that the loop has to find out.

It depends only on what an analyser can see: whether the visitor smiled before, and the part of the
day. The baseline greeting is mediocre everywhere; in each of the six cells one or two others are
clearly best, and no greeting is best everywhere, so that a policy blind to the context cannot win.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from schemas.checks import check_range
from schemas.errors import InvalidRecord
from schemas.features import DAYPARTS

Mood = Literal["rest", "smile"]
MOODS: tuple[Mood, ...] = ("rest", "smile")

START_MS = 1_767_571_200_000
"""2026-01-05, a Monday, 00:00 UTC: when the first recorded day begins, ms since 1970 UTC."""

UNKNOWN_CHANCE = 0.2
"""Chance of a smile after a greeting that the taste does not know."""

_CELLS = tuple((mood, part) for mood in MOODS for part in DAYPARTS)


@dataclass(frozen=True, slots=True)
class Taste:
    """P(smiles after | mood before, part of the day, greeting)."""

    chances: Mapping[str, tuple[float, ...]]
    """By action id: six chances 0..1, at rest in the morning, afternoon, evening, then smiling."""

    def __post_init__(self) -> None:
        for action_id, row in self.chances.items():
            if len(row) != len(_CELLS):
                problem = f"the taste for {action_id!r} has {len(row)} chances"
                raise InvalidRecord(problem, f"Give one for each of {_CELLS}")
            for chance in row:
                check_range(f"chance of {action_id}", chance, 0.0, 1.0)

    def chance(self, mood: Mood, part: str, action_id: str) -> float:
        """Return the chance of a smile after a greeting, 0..1."""
        row = self.chances.get(action_id)
        return UNKNOWN_CHANCE if row is None else row[_CELLS.index((mood, part))]

    def best(self, mood: Mood, part: str) -> str:
        """Return the action most likely to be followed by a smile, the first of equals."""
        return max(self.chances, key=lambda action_id: self.chance(mood, part, action_id))


STANDARD_TASTE = Taste(
    MappingProxyType(
        {
            # at rest: morning, afternoon, evening; smiling: morning, afternoon, evening
            "welcome": (0.35, 0.35, 0.35, 0.35, 0.35, 0.35),
            "sunshine": (0.85, 0.25, 0.15, 0.80, 0.20, 0.15),
            "joke": (0.20, 0.85, 0.80, 0.15, 0.30, 0.25),
            "curious": (0.25, 0.20, 0.85, 0.20, 0.15, 0.30),
            "formal": (0.15, 0.15, 0.20, 0.30, 0.25, 0.20),
            "compliment": (0.30, 0.20, 0.15, 0.85, 0.85, 0.20),
            "weather": (0.20, 0.80, 0.25, 0.25, 0.20, 0.15),
            "thanks": (0.15, 0.15, 0.30, 0.20, 0.25, 0.85),
        }
    )
)
"""The taste of the demo's visitors. Always greeting with ``welcome`` makes 35 % of them smile, the
best greeting of each cell 85 %."""


def draw(seed: int, *names: str | int) -> float:
    """Return a number in [0, 1) that depends on the seed and the names alone.

    A keyed hash instead of a generator: what a visitor does must not depend on who asked what
    before, or a demo that was stopped and went on would see other visitors.
    """
    key = seed.to_bytes(8, "big", signed=True)
    text = "\x1f".join(str(name) for name in names)
    digest = hashlib.blake2b(text.encode(), digest_size=8, key=key).digest()
    # 53 bits: all that a float in [0, 1) can hold without rounding up to 1.0.
    return (int.from_bytes(digest, "big") >> 11) / 2**53
