"""What holds of the join for every log: whatever comes, in whatever order the log allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from careful import careful
from engines.memory import MemoryEngine
from join_scripts import (
    ELSEWHERE,
    HORIZON_MS,
    POOR_QUALITY,
    Entry,
    another_cut,
    scripts,
)
from pipelines.operators import Record
from pipelines.topology import greeting_loop
from pipelines.windows import event_time_ms
from schemas.codec import encode
from schemas.decisions import DecisionMade, DecisionShown, RewardObserved, VisitEnded
from schemas.frames import FrameAnalyzed
from schemas.outcomes import OutcomeClosed

many = settings(
    max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
RESULTS = ("rewarded", "defaulted", "dropped", "not_activated")


def play(entries: list[Entry], *, watched: bool = False) -> MemoryEngine:
    flow = greeting_loop().only("join")
    engine = MemoryEngine(careful(flow) if watched else flow)
    for entry in entries:
        engine.append(entry.stream, entry.value, entry.log_time_ms)
    engine.advance(engine.now_ms + 1)
    return engine


def out(engine: MemoryEngine, stream: str) -> list[Any]:
    return [record.value for record in engine.log if record.stream == stream]


def outcomes(engine: MemoryEngine) -> dict[str, OutcomeClosed]:
    found = out(engine, "outcomes")
    by_id = {outcome.choice.decision_id: outcome for outcome in found}
    assert len(by_id) == len(found), "a decision has two outcomes"
    return by_id


def opened(engine: MemoryEngine) -> set[str]:
    """Name the decisions that came before their id was too old."""
    return {
        record.key
        for record in engine.log
        if record.stream == "decisions"
        and record.log_time_ms <= record.value.choice.decided_at_ms + HORIZON_MS
    }


@many
@given(scripts())
def test_every_decision_gets_exactly_one_outcome_and_the_ledger_adds_up(
    entries: list[Entry],
) -> None:
    engine = play(entries, watched=True)
    closed = outcomes(engine)
    assert closed.keys() == opened(engine)
    results: Counter[str] = Counter(outcome.result for outcome in closed.values())
    assert sum(results[result] for result in RESULTS) == len(closed)
    assert {"join": 0} == {name: len(states) for name, states in engine.states.items()}


@many
@given(scripts())
def test_only_what_was_shown_as_chosen_is_learned(entries: list[Entry]) -> None:
    for outcome in outcomes(play(entries)).values():
        assert outcome.learnable == (outcome.result in ("rewarded", "defaulted"))
        if outcome.learnable:
            assert outcome.shown_action_id in (None, outcome.choice.action_id)
            assert outcome.choice.mode != "fallback"
        assert -1.0 <= outcome.reward <= 1.0
        assert outcome.clipped == (outcome.reward != outcome.reward_raw)
        assert (outcome.source == "default") == (not outcome.member_ids)


@many
@given(scripts())
def test_every_record_is_accounted_for(entries: list[Entry]) -> None:
    engine = play(entries)
    closed = outcomes(engine)
    sides = Counter(side.offset for name in ("late", "unmatched") for side in out(engine, name))
    assert not sides or max(sides.values()) == 1, "a record left twice"
    taken = [r for r in engine.log if r.stream in _IDS and r.offset not in sides]
    first_of_id: dict[tuple[str, str], Record] = {}
    for record in sorted(taken, key=lambda r: (r.log_time_ms, _PLACE[r.stream], r.offset)):
        if getattr(record.value, "phase", "post") != "post":
            continue
        assert record.key in closed, f"{record} vanished"
        first = first_of_id.setdefault((record.key, _IDS[record.stream](record.value)), record)
        if first is record:
            _check_counted(record, closed[record.key], engine, sides)


_IDS: dict[str, Callable[[Any], str]] = {
    "decisions": lambda value: "decision",
    "impressions": lambda value: "impression",
    "visits": lambda value: "end",
    "analyses": lambda value: value.frame_id,
    "rewards": lambda value: value.reward_id,
}
_PLACE = {name: place for place, name in enumerate(greeting_loop().only("join").keyed[0].inputs)}


def _check_counted(
    record: Record, outcome: OutcomeClosed, engine: MemoryEngine, sides: Counter[int]
) -> None:
    """Hold one record, neither late nor unmatched, against the outcome it must have gone into."""
    match record.value:
        case DecisionMade():
            assert outcome.choice == record.value.choice
        case DecisionShown():
            assert outcome.shown_at_ms == event_time_ms(record)
            assert outcome.shown_action_id == record.value.action_id
        case VisitEnded():
            pass  # its effect is on the others: see _usable
        case RewardObserved():
            assert record.value.reward_id in outcome.member_ids
        case FrameAnalyzed():
            counts = outcome.source != "explicit" and _usable(record, outcome, engine, sides)
            assert (record.value.frame_id in outcome.member_ids) == counts


def _usable(
    record: Record, outcome: OutcomeClosed, engine: MemoryEngine, sides: Counter[int]
) -> bool:
    """Whether a post analysis counts, computed from the whole log instead of step by step."""
    face = record.value.faces[0] if record.value.faces else None
    if face is None or face.confidence < 0.5 or (outcome.choice.confidence_before or 0.0) < 0.5:
        return False
    if face.box == ELSEWHERE or face.quality == POOR_QUALITY:
        return False
    shown_ms = outcome.choice.decided_at_ms if outcome.shown_at_ms is None else outcome.shown_at_ms
    ends = [
        event_time_ms(r)
        for r in sorted(engine.log, key=lambda r: (r.log_time_ms, r.offset))
        if r.stream == "visits" and r.key == record.key and r.offset not in sides
    ]
    at_ms = event_time_ms(record)
    return shown_ms + 500 <= at_ms and (not ends or at_ms <= ends[0])


@many
@given(st.data())
def test_the_same_log_cut_into_other_partitions_gives_the_same_outcomes(
    data: st.DataObject,
) -> None:
    entries = data.draw(scripts())
    other = data.draw(another_cut(entries))
    # Decisions of equal log time and one stream keep their order, so even the order is the same.
    one, two = play(entries), play(other)
    for stream in ("outcomes", "alarms"):
        assert list(map(encode, out(one, stream))) == list(map(encode, out(two, stream)))
    for stream in ("late", "unmatched"):
        assert [(s.reason, s.raw) for s in out(one, stream)] == [
            (s.reason, s.raw) for s in out(two, stream)
        ]


@many
@given(scripts(), st.lists(st.integers(-5_000, 60_000), max_size=20))
def test_ticks_bring_an_outcome_sooner_and_never_change_it(
    entries: list[Entry], tick_after_ms: list[int]
) -> None:
    start_ms = entries[0].log_time_ms
    tick = entries[-1]
    ticks = [Entry(max(0, start_ms + t), "ticks", tick.value) for t in tick_after_ms]
    ticked = sorted([*ticks, *entries], key=lambda entry: entry.log_time_ms)
    assert outcomes(play(ticked)) == outcomes(play(entries))


@many
@given(scripts(), st.integers(0, 50))
def test_a_lost_record_changes_its_own_decision_only(entries: list[Entry], place: int) -> None:
    lost = place % len(entries)
    assume(entries[lost].stream != "ticks")
    whose = getattr(entries[lost].value, "decision_id", None)
    whose = whose or entries[lost].value.choice.decision_id
    before = outcomes(play(entries))
    after = outcomes(play(entries[:lost] + entries[lost + 1 :]))
    before.pop(whose, None)
    after.pop(whose, None)
    assert after == before
