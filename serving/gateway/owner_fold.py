"""Folds the log into what the owner's page shows: record by record, and never reads one twice.

Nothing is kept beside the log: whoever starts again reads it from its beginning.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from connectors.logs import Row
from policies.evaluation.order import InOrder
from schemas.codec import decode
from schemas.decisions import DecisionMade, DecisionShown, GreetingIssued
from schemas.errors import RecordError
from schemas.frames import FrameAnalyzed, FrameCaptured
from schemas.loops import LoopConfigured
from schemas.operations import AlarmRaised
from schemas.outcomes import OutcomeClosed, PolicyDirected, PolicySnapshot
from schemas.streams import SIDE_STREAMS, STREAMS
from serving.gateway.owner_minutes import Minutes
from serving.gateway.owner_recent import Recent
from serving.gateway.owner_speed import Speed
from serving.gateway.owner_worth import WorthOfLoop
from serving.ledger import LedgerBook

FOLDED = (
    *("loops", "frames", "analyses", "decisions", "greetings", "impressions", "outcomes"),
    *("policies", "alarms", "erasures", *SIDE_STREAMS),
)
"""The streams the page is made of."""
ALARMS_KEPT = 50
DIRECTIVES_KEPT = 50
WAYS_OVER = 1_000
"""Decisions over which the shares of control, favourite and exploration are counted: the newest."""


@dataclass(slots=True)
class LoopFold:
    """What the log says of one loop."""

    worth: WorthOfLoop = field(default_factory=WorthOfLoop)
    """What its greetings are worth."""
    order: InOrder = field(default_factory=InOrder)
    """Outcomes that wait for their turn."""
    minutes: Minutes = field(default_factory=Minutes)
    """Its newest minutes."""
    decisions: int = 0
    """Decisions, each id once."""
    given: Counter[str] = field(default_factory=Counter)
    """Decisions by greeting."""
    shown: Counter[str] = field(default_factory=Counter)
    """Showings whose reaction was awaited to the end, by greeting."""
    missing: Counter[str] = field(default_factory=Counter)
    """Of these, how many reactions were not seen, by greeting."""
    ways: deque[str] = field(default_factory=lambda: deque(maxlen=WAYS_OVER))
    """How the newest were chosen: ``control``, ``favourite``, ``exploring``, ``fallback``."""
    floor_ppb: int = 0
    """The exploration floor of the newest decision, in 1e-9."""
    control_share_ppb: int = 0
    """The control share of the newest decision, in 1e-9."""
    policies: dict[str, tuple[PolicySnapshot, int]] = field(default_factory=dict)
    """The newest snapshot of each policy, and its log time, ms."""
    directives: deque[tuple[PolicyDirected, int]] = field(
        default_factory=lambda: deque(maxlen=DIRECTIVES_KEPT)
    )
    """The newest directives with their log times, ms."""
    alarms: deque[AlarmRaised] = field(default_factory=lambda: deque(maxlen=ALARMS_KEPT))
    """The newest alarms."""
    alarm_ids: set[str] = field(default_factory=set)
    """Every alarm ever raised."""


def way_of(decision: DecisionMade) -> str:
    """Return how a decision was chosen."""
    choice = decision.choice
    if choice.mode == "fallback":
        return "fallback"
    if choice.control:
        return "control"
    # Of several that it likes best, as before the first visitor, each is its favourite.
    most_ppb = max(action.policy_probability_ppb for action in choice.actions)
    chosen = next(each for each in choice.actions if each.id == choice.action_id)
    return "favourite" if chosen.policy_probability_ppb == most_ppb else "exploring"


class OwnerFold:
    """Everything the owner's page shows, as far as the log was read."""

    def __init__(self) -> None:
        self.loops: dict[str, LoopFold] = {}
        self.book = LedgerBook()
        self.sides: Counter[str] = Counter()
        """Records of the side outputs, by stream."""
        self.speed = Speed()
        self.recent = Recent()
        self.records = 0
        """Records read."""
        self.unreadable = 0
        """Records that could not be decoded; each has its dead letter."""
        self.newest_ms = 0
        """The newest log time read, ms."""
        self.erasures = 0
        """Persons forgotten so far: one more, and what was folded may hold them."""
        self._places: dict[tuple[str, int], int] = {}
        self._take: dict[type[Any], Callable[[Row, Any], None]] = {
            LoopConfigured: self._configured,
            FrameCaptured: self._captured,
            FrameAnalyzed: self._analysed,
            DecisionMade: self._decided,
            GreetingIssued: self._greeted,
            DecisionShown: self._shown,
            OutcomeClosed: self._closed,
            PolicyDirected: self._directed,
            PolicySnapshot: self._learned,
            AlarmRaised: self._alarmed,
        }

    def loop(self, loop_id: str) -> LoopFold:
        """Return what is known of a loop; made when first met."""
        found = self.loops.get(loop_id)
        if found is None:
            found = self.loops[loop_id] = LoopFold()
        return found

    def take(self, row: Row) -> bool:
        """Take a record; one that was taken changes nothing.

        Returns
        -------
        bool
            Whether it was new.
        """
        place = (row.stream, row.partition)
        if row.stream not in FOLDED or row.position < self._places.get(place, 0):
            return False
        self._places[place] = row.position + 1
        self.records += 1
        self.newest_ms = max(self.newest_ms, row.log_time_ms)
        if row.stream in SIDE_STREAMS:
            self.sides[row.stream] += 1
            return True
        if row.stream == "erasures":
            self.erasures += 1
            return True
        try:
            value = decode(row.value)
        except RecordError:
            self.unreadable += 1
            if row.stream == "outcomes":
                self.loop(row.key).order.unreadable += 1
            return True
        if isinstance(value, STREAMS[row.stream].records):
            self._take[type(value)](row, value)
        return True

    def at_rest(self, complete_ms: int) -> None:
        """Wait no more for outcomes that stand in the log and cannot be read.

        Parameters
        ----------
        complete_ms : int
            Whatever had to happen before it has happened and was taken, log time, ms.
        """
        for loop in self.loops.values():
            if loop.order.unreadable > loop.order.lost:
                loop.order.give_up(complete_ms)
                self._judge(loop)

    def _configured(self, row: Row, config: LoopConfigured) -> None:
        if row.stream == "loops":
            self.loop(config.loop_id).worth.configure(config)

    def _captured(self, row: Row, frame: FrameCaptured) -> None:
        self.speed.frame(frame, row.log_time_ms)

    def _analysed(self, row: Row, answer: FrameAnalyzed) -> None:
        self.book.take(row.stream, answer, row.log_time_ms, row.value)
        self.speed.analysed(answer, row.log_time_ms)

    def _decided(self, row: Row, decision: DecisionMade) -> None:
        if not self.book.take(row.stream, decision, row.log_time_ms, row.value):
            return
        choice = decision.choice
        loop = self.loop(choice.loop_id)
        loop.decisions += 1
        loop.given[choice.action_id] += 1
        loop.ways.append(way_of(decision))
        loop.floor_ppb, loop.control_share_ppb = choice.floor_ppb, choice.control_share_ppb
        loop.minutes.decided(choice.decided_at_ms)
        loop.order.decided(choice.decision_id, row.log_time_ms + decision.rules.longest_life_ms)
        self.recent.decided(decision)
        self._judge(loop)  # its outcome may have come before it, from another partition

    def _greeted(self, row: Row, greeting: GreetingIssued) -> None:
        self.speed.greeted(greeting.decision_id, row.log_time_ms)

    def _shown(self, row: Row, shown: DecisionShown) -> None:
        self.book.take(row.stream, shown, row.log_time_ms, row.value)
        self.speed.shown(shown.decision_id, shown.shown_at_ms)

    def _closed(self, row: Row, outcome: OutcomeClosed) -> None:
        if not self.book.take(row.stream, outcome, row.log_time_ms, row.value):
            return
        choice = outcome.choice
        loop = self.loop(choice.loop_id)
        if outcome.result_reason in ("observed", "nothing_usable"):
            loop.shown[choice.action_id] += 1
            loop.missing[choice.action_id] += outcome.result_reason == "nothing_usable"
        loop.minutes.closed(outcome)
        self.recent.closed(outcome)
        self.speed.closed(outcome, row.log_time_ms)
        loop.order.closed(outcome)
        self._judge(loop)

    def _judge(self, loop: LoopFold) -> None:
        for outcome in loop.order.ready():
            loop.worth.take(outcome)

    def _directed(self, row: Row, directive: PolicyDirected) -> None:
        self.loop(directive.loop_id).directives.append((directive, row.log_time_ms))

    def _learned(self, row: Row, snapshot: PolicySnapshot) -> None:
        self.speed.learned(snapshot, row.log_time_ms)
        policies = self.loop(snapshot.loop_id).policies
        known = policies.get(snapshot.policy_id)
        mine = (snapshot.epoch, snapshot.version)
        if known is None or mine >= (known[0].epoch, known[0].version):
            policies[snapshot.policy_id] = (snapshot, row.log_time_ms)

    def _alarmed(self, _row: Row, alarm: AlarmRaised) -> None:
        loop = self.loop(alarm.loop_id)
        if alarm.alarm_id not in loop.alarm_ids:
            loop.alarm_ids.add(alarm.alarm_id)
            loop.alarms.append(alarm)
