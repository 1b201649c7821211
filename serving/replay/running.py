"""`pho replay`: the whole loop again from its log, and three verdicts on what comes out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from connectors.logs import Row
from engines.one_key import NEVER_MS
from schemas.decisions import DecisionMade
from schemas.frames import FrameAnalyzed
from schemas.operations import Tick
from schemas.outcomes import PolicySnapshot
from serving.replay.decisions import Frames, Made, decision_difference, versions_of
from serving.replay.outcomes import replay_outcomes
from serving.replay.policies import (
    Named,
    Versions,
    compare_newest,
    erasures_of,
    name_of,
    snapshot_difference,
)
from serving.replay.survey import survey, value_of
from serving.replay.verdicts import GONE, LAG_MS, History, Verdict, complete_ms, keeps_total_order

ERASED = "not replayable (erased)"
UNREADABLE = "unreadable"
AGAIN = "repeated or newer"

Said = Callable[[str], None]
"""Told what is done next."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """The verdicts on one log."""

    log: str
    """Where it is."""
    verdicts: tuple[Verdict, ...]
    """On the outcomes, on the policies, on the decisions."""

    @property
    def holds(self) -> bool:
        """Whether nothing differs."""
        return all(verdict.holds for verdict in self.verdicts)

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        told = {verdict.what: verdict.document() for verdict in self.verdicts}
        return {"log": self.log, **told, "holds": self.holds}


def replay(history: History, tolerance_ppb: int = 0, say: Said = lambda _what: None) -> Replayed:
    """Run a log again and compare.

    Parameters
    ----------
    history : History
        The log, or an archive of it.
    tolerance_ppb : int
        How far probabilities may differ, in 1e-9: 0 on the machine that decided, 2 elsewhere.
    say : callable
        Told what is done next.

    Raises
    ------
    LogUnavailable
        When the log cannot be read.
    """
    say("outcomes again")
    outcomes = replay_outcomes(history)
    say("policies and decisions again")
    return Replayed(history.name, (outcomes, *_Walk(history, tolerance_ppb).run()))


class _Walk:
    """Walks decisions and snapshots in the order of the log, the learning logs beside them."""

    def __init__(self, history: History, tolerance_ppb: int) -> None:
        self.history = history
        self.tolerance_ppb = tolerance_ppb
        self.policies = Verdict("policies")
        self.decisions = Verdict("decisions")
        # A live log grows meanwhile: what was not there yet now is not looked at.
        self.survey = survey(history)
        self.open = set(self.survey.decision_ids)
        self.erased = erasures_of(history, self.survey.loop_ids, self.survey.erased_through_ms)
        self.frames = Frames()
        self.strictly = keeps_total_order(history)
        self.versions = Versions(history, self.survey.needed)
        # `pho forget` puts a snapshot into the place of one that knew somebody: before its epoch.
        self.early: list[tuple[Row, PolicySnapshot]] = []

    def run(self) -> tuple[Verdict, Verdict]:
        """Return the verdicts on policies and decisions."""
        # `loops` is what decides, `outcomes` what teaches.
        of = {"loops": self.decisions, "decisions": self.decisions}
        for stream, text in self.survey.altered:
            of.get(stream, self.policies).differs(text)
        for stream, count in self.survey.unreadable.items():
            of.get(stream, self.policies).beside[UNREADABLE] += count
        waiting: deque[tuple[Row, Any]] = deque()
        for row in self.history.scan("analyses", "decisions", "policies"):
            value = value_of(row)
            if value is None or isinstance(value, Tick):
                continue
            # A little later: two brokers' clocks may put a frame behind its decision.
            while waiting and waiting[0][0].log_time_ms < row.log_time_ms - LAG_MS:
                self._compare(*waiting.popleft())
            if row.stream == "analyses":
                self.frames.add(value, row.log_time_ms)
            else:
                waiting.append((row, value))
        while waiting:
            self._compare(*waiting.popleft())
        for loop_id in self.survey.loop_ids:
            self.versions.walk(loop_id, NEVER_MS)
        for row, snapshot in self.early:
            self._compare_snapshot(row, snapshot, last=True)
        newest, through_ms = self.survey.newest, complete_ms(self.history)
        compare_newest(self.policies, self.versions, newest, through_ms, self.survey.beheaded)
        return self.policies, self.decisions

    def _compare(self, row: Row, value: Any) -> None:
        if row.stream == "policies":
            self._compare_snapshot(row, value)
        else:
            self._compare_decision(row, value)

    def _compare_snapshot(self, row: Row, snapshot: PolicySnapshot, *, last: bool = False) -> None:
        name = name_of(snapshot)
        if not self.versions.wants(name):
            self.policies.beside[AGAIN] += 1
            return
        if not last and not self.versions.knows(name, row.log_time_ms):
            self.early.append((row, snapshot))
            return
        found = self.versions.take(name, row.log_time_ms)
        if name.loop_id in self.survey.beheaded:
            self.policies.beside[GONE] += 1
            return
        text = None
        if not self.erased.ends(name):
            text = snapshot_difference(snapshot, found, strictly=self.strictly)
        self._note(self.policies, row, (name,), text)

    def _compare_decision(self, row: Row, decision: DecisionMade) -> None:
        choice = decision.choice
        if choice.decision_id not in self.open:
            # Where delivery is at least once a decision may be made twice: the first one counts.
            self.decisions.beside[AGAIN] += 1
            return
        self.open.remove(choice.decision_id)
        frame = self.frames.take(decision)
        names = tuple(dict.fromkeys(versions_of(choice)))
        found = {name: self.versions.take(name, row.log_time_ms) for name in names}
        if self._is_gone(decision, frame):
            self.decisions.beside[GONE] += 1
            return
        text = None
        if not any(map(self.erased.ends, names)):
            config = self.survey.configs.get((choice.loop_id, choice.config_hash))
            text = decision_difference(Made(decision, config, frame), found, self.tolerance_ppb)
        self._note(self.decisions, row, names, text)

    def _is_gone(self, decision: DecisionMade, frame: FrameAnalyzed | None) -> bool:
        """Whether retention took the frame of a decision, or what its policy had learned."""
        if decision.choice.loop_id in self.survey.beheaded and decision.choice.mode != "fallback":
            return True
        caused_ms = decision.cause_log_time_ms
        first_ms = self.survey.begins_ms.get("analyses", 0)
        return frame is None and caused_ms is not None and caused_ms < first_ms

    def _note(self, verdict: Verdict, row: Row, names: tuple[Named, ...], text: str | None) -> None:
        ended = any(map(self.erased.ends, names))
        touched = any(self.erased.touches(name, row.log_time_ms) for name in names)
        if ended or (text is not None and touched):
            verdict.beside[ERASED] += 1
        elif text is None:
            verdict.identical += 1
        else:
            verdict.differs(text)
