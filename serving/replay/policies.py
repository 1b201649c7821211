"""The policies again: `learn` over its own log, and any version of it for whoever asks in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from engines.rebuilding import Learned, learned
from pipelines.learners import Learner, snapshot_of
from schemas.codec import decode, released
from schemas.errors import RecordError
from schemas.loops import LoopConfigured
from schemas.outcomes import PolicyDirected, PolicySnapshot
from serving.replay.verdicts import LAG_MS, History, Verdict, differences

_DIRECTIVES = tuple(h for h, entry in released().items() if entry.name == "PolicyDirected")


class Named(NamedTuple):
    """One version of one policy."""

    loop_id: str
    """The loop."""
    policy_id: str
    """The policy."""
    epoch: int
    """Its epoch."""
    version: int
    """Its version in that epoch."""

    @property
    def text(self) -> str:
        """The version for a person to read."""
        return f"policy {self.policy_id} epoch {self.epoch} version {self.version}"


@dataclass(frozen=True, slots=True)
class Held:
    """A version that was learned again."""

    learner: Learner
    """What was known."""
    config: LoopConfigured
    """The newest configuration at that time."""


class Reached(NamedTuple):
    """Where the learning log stands with one policy."""

    name: Named
    """Its newest version."""
    at_ms: int
    """Log time of the record that made it, ms."""


class Versions:
    """Walks the learning logs beside records that name versions, and holds what they need.

    A record that was made with a version stands in the log behind what that version learned; so
    whoever asks in the order of log time needs the versions between the oldest still served and
    now, never all of them.

    Parameters
    ----------
    history : History
        The log.
    needed : Counter of Named
        How often each version will be asked for; it is let go after the last time.
    """

    def __init__(self, history: History, needed: Counter[Named]) -> None:
        self._history = history
        self._needed = needed
        self._held: dict[Named, list[Held]] = {}
        self._walks: dict[str, Iterator[Learned]] = {}
        self._next: dict[str, Learned | None] = {}
        self.reached: dict[tuple[str, str], Reached] = {}

    def knows(self, name: Named, at_ms: int) -> bool:
        """Whether a version is taught by a log time."""
        self.walk(name.loop_id, at_ms)
        return name in self._held

    def wants(self, name: Named) -> bool:
        """Whether a version will be asked for."""
        return self._needed[name] > 0

    def take(self, name: Named, at_ms: int) -> list[Held]:
        """Return a version as it was known by a log time; empty: the log never teaches it.

        There may be several, one for each configuration it stood under.
        """
        self.walk(name.loop_id, at_ms)
        if name not in self._held:
            # Where outcomes and decisions lie with two brokers, their clocks may differ so much.
            self.walk(name.loop_id, at_ms + LAG_MS)
        found = list(self._held.get(name, ()))
        self._needed[name] -= 1
        if self._needed[name] <= 0:
            self._held.pop(name, None)
        return found

    def walk(self, loop_id: str, through_ms: int) -> None:
        """Learn all records of a loop up to a log time."""
        if loop_id not in self._walks:
            self._walks[loop_id] = learned(self._history.scan("outcomes", key=loop_id))
            self._next[loop_id] = next(self._walks[loop_id], None)
        step = self._next[loop_id]
        while step is not None and step.record.log_time_ms <= through_ms:
            self._note(loop_id, step)
            step = self._next[loop_id] = next(self._walks[loop_id], None)

    def _note(self, loop_id: str, step: Learned) -> None:
        if step.state is None:
            return
        config = step.state.config
        for learner in step.state.learners:
            policy_id = learner.policy_id
            name = Named(loop_id, policy_id, learner.epoch, learner.version)
            before = self.reached.get((loop_id, policy_id))
            if before is None or before.name != name:
                self.reached[loop_id, policy_id] = Reached(name, step.record.log_time_ms)
            if self._needed[name] > 0:
                held = self._held.setdefault(name, [])
                if not held or held[-1].learner is not learner or held[-1].config is not config:
                    held.append(Held(learner, config))


@dataclass(slots=True)
class Erased:
    """What erasures took away: versions that no prefix of the learning log teaches any more."""

    ended: set[tuple[str, str, int]] = field(default_factory=set)
    """Epochs (loop, policy, epoch) that an erasure ended."""
    newest: dict[tuple[str, str], int] = field(default_factory=dict)
    """The newest epoch of each (loop, policy), where there were erasures."""
    through_ms: int = -1
    """Log time of the newest erasure, ms; -1: there was none."""

    def ends(self, name: Named) -> bool:
        """Whether an erasure ended the epoch: its versions had learned from who is forgotten."""
        return (name.loop_id, name.policy_id, name.epoch) in self.ended

    def touches(self, name: Named, at_ms: int) -> bool:
        """Whether a version may have learned from who is forgotten, in an epoch that is over.

        Such an epoch ended for another reason, before anybody was forgotten, so nothing in the log
        says whether it knew them. What replays of it is compared; what does not, cannot be judged.
        """
        newest = self.newest.get((name.loop_id, name.policy_id))
        return newest is not None and name.epoch < newest and at_ms <= self.through_ms


def erasures_of(history: History, loop_ids: Iterable[str], through_ms: int) -> Erased:
    """Return what erasures took away, as `learn` obeyed them.

    Parameters
    ----------
    history : History
        The log.
    loop_ids : iterable of str
        Its loops.
    through_ms : int
        Log time of the newest erasure, ms; -1: there was none, and nothing is looked for.
    """
    found = Erased(through_ms=through_ms)
    if through_ms < 0:
        return found
    for loop_id in loop_ids:
        for step in learned(history.scan("outcomes", key=loop_id)):
            if step.record.raw.startswith(_DIRECTIVES) and not step.refused:
                directive = _erasure(step.record.raw)
                if directive is not None and directive.new_epoch is not None:
                    found.ended.add((loop_id, directive.policy_id, directive.new_epoch - 1))
            for learner in step.state.learners if step.state is not None else ():
                found.newest[loop_id, learner.policy_id] = learner.epoch
    return found


def _erasure(data: bytes) -> PolicyDirected | None:
    try:
        value = decode(data)
    except RecordError:
        return None
    return value if isinstance(value, PolicyDirected) and value.kind == "erase" else None


def snapshot_difference(logged: PolicySnapshot, found: list[Held], *, strictly: bool) -> str | None:
    """Say where a snapshot of the log differs from the version that was learned again.

    Parameters
    ----------
    logged : PolicySnapshot
        As it stands in the log.
    found : list of Held
        The version, as `Versions.take` returns it.
    strictly : bool
        False: not since when it has its role. Where configurations are appended again by every
        start of a job (Kafka), and many partitions are merged, that is no part of what it knows.

    Returns
    -------
    str or None
        None: it does not differ.
    """
    first = "no prefix of the learning log teaches it"
    for place, held in enumerate(found):
        again = snapshot_of(held.config, held.learner)
        if not strictly:
            again = replace(again, role_since_log_time_ms=logged.role_since_log_time_ms)
        where = next(differences(again, logged), None)
        if where is None:
            return None
        first = where if place == 0 else first
    return f"{name_of(logged).text}: {first}"


def name_of(snapshot: PolicySnapshot) -> Named:
    """Return which version a snapshot is."""
    return Named(snapshot.loop_id, snapshot.policy_id, snapshot.epoch, snapshot.version)


def compare_newest(
    verdict: Verdict,
    versions: Versions,
    newest: dict[tuple[str, str], Named],
    through_ms: int,
    beheaded: Set[str] = frozenset(),
) -> None:
    """Compare how far the log's snapshots go with how far its learning log does.

    Parameters
    ----------
    verdict : Verdict
        Told what differs.
    versions : Versions
        Walked to the end.
    newest : dict
        The newest snapshot of each (loop, policy) in the log.
    through_ms : int
        The log is complete below this time, ms.
    beheaded : set of str
        Loops that are left out: the beginning of their learning log is gone.
    """
    for place, (name, at_ms) in versions.reached.items():
        logged = newest.get(place)
        taught, is_there = (name.epoch, name.version), (-1, -1)
        if logged is not None:
            is_there = (logged.epoch, logged.version)
        if taught <= max(is_there, (0, 0)) or name.loop_id in beheaded:
            continue  # a snapshot above it was named already: nothing teaches it
        if at_ms >= through_ms - LAG_MS:
            verdict.beside["not learned yet"] += 1
            continue
        held = f"ends with version {is_there[1]} of epoch {is_there[0]}" if logged else "has none"
        verdict.differs(f"{name.text} is taught by the learning log; `policies` {held}")
