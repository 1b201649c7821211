"""For whom: the groups a decision belongs to, by what was known before its greeting was chosen.

Nothing of what came after the choice may stand here: it would bend what a group seems to earn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from schemas.decisions import Choice
from schemas.features import DAYPARTS, EMOTIONS, daypart
from schemas.loops import LoopConfigured

SMILING_FROM = 0.5
"""A face with this happiness smiles, 0..1; as in the report of `pho demo`."""
GROUPS_MAX = 24
"""Of kiosks there may be many; those that come later are counted together."""
_FEATURES_MAX = 6
_TOLD_ELSEWHERE = ("bias", "happy", *(f"daypart.{part}" for part in DAYPARTS))

TITLES = {
    "mood": "Smiling before or not",
    "part": "Part of the day",
    "mood_part": "Mood and part of the day",
    "kiosk": "Kiosk",
}
"""What the groups are by, for a person to read; a feature stands for itself."""


def mood(choice: Choice) -> str:
    """Return how the visitor came: ``smiling``, ``at rest``, or ``not seen``."""
    if choice.happiness_before is None:
        return "not seen"
    return "smiling" if choice.happiness_before >= SMILING_FROM else "at rest"


def part_of_day(choice: Choice, config: LoopConfigured | None) -> str:
    """Return the part of the day at the place, as the policy was told it; else by UTC."""
    values = _named(choice, config)
    for part in DAYPARTS:
        if values.get(f"daypart.{part}"):
            return part
    return daypart(choice.decided_at_ms, 0)


def _named(choice: Choice, config: LoopConfigured | None) -> dict[str, float]:
    dense = choice.features.dense
    if config is None or config.features_hash != choice.features_hash:
        return {}
    return dict(zip(config.feature_names, dense, strict=False))


@dataclass(slots=True)
class Groups:
    """Names the groups of each decision of one loop."""

    _seen: dict[str, set[str]] = field(default_factory=dict)

    def of(self, choice: Choice, config: LoopConfigured | None) -> Iterator[tuple[str, str]]:
        """Yield what a group is by, and its name, for each group the decision is in."""
        how, part = mood(choice), part_of_day(choice, config)
        yield "mood_part", f"{how}, {part}"
        yield "mood", how
        yield "part", part
        if choice.kiosk_id is not None:
            yield "kiosk", self._bounded("kiosk", choice.kiosk_id)
        for name, value in self._others(choice, config):
            yield name, _level(name, value)

    def _bounded(self, by: str, name: str) -> str:
        seen = self._seen.setdefault(by, set())
        if name not in seen:
            if len(seen) >= GROUPS_MAX:
                return "others"
            seen.add(name)
        return name

    @staticmethod
    def _others(choice: Choice, config: LoopConfigured | None) -> Iterator[tuple[str, float]]:
        """Yield the features that no group above tells: emotions, age, attributes, labels."""
        found = 0
        for name, value in _named(choice, config).items():
            if name in _TOLD_ELSEWHERE or ":" in name or found >= _FEATURES_MAX:
                continue
            found += 1
            yield name, value


def title(by: str) -> str:
    """Return what groups are by, for a person to read."""
    kind, _, rest = by.partition(".")
    return TITLES.get(by) or (rest if kind in ("attribute", "label") else by).replace("_", " ")


def _level(name: str, value: float) -> str:
    if name == "age":
        if not value:
            return "not known"
        decade = int(value * 100.0) // 20 * 20
        return f"{decade} to {decade + 19}"
    kind = "seems" if name in EMOTIONS or name == "smile" else "with"
    return kind if value >= 0.5 else "not" if kind == "seems" else "without"
