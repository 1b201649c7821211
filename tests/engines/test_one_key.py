"""One key in the contract's order: any arrival that a watermark allows gives the same answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure

import engines.one_key
from careful import careful
from engines.one_key import Memory, OneKey, RawRecord
from join_scripts import Entry
from one_key_runs import keys_of, reference, stepped
from operator_logs import LOGS
from pipelines.greet import Greet
from pipelines.operators import Dataflow, Emit, Record, Shared, Step
from pipelines.remembered import Remembered
from pipelines.topology import greeting_loop
from schemas.codec import encode
from schemas.operations import SideRecord, Tick
from schemas.outcomes import OutcomeClosed
from schemas.streams import DEAD_LETTERS, key_of
from worlds import START_MS, analyzed, decided, ended, loop, outcome, rewarded, shown

Check = Callable[[], None]
PARTS = {part.name: part for part in greeting_loop().keyed}
VALUES = {
    "analyses": analyzed("v", "pre", 0, START_MS, 0.2),
    "decisions": decided("v", START_MS),
    "impressions": shown("v", "a0", START_MS),
    "rewards": rewarded("v", 1, 0.5, START_MS),
    "visits": ended("v", START_MS),
    "outcomes": loop(),
}


def any_arrival(
    name: str,
    examples: int,
    module: ModuleType = engines.one_key,
    flow: Dataflow | None = None,
    *,
    small: bool = True,
) -> Check:
    """Return a check of an operator on logs and arrivals of chance."""

    @settings(
        max_examples=examples,
        phases=list(Phase) if small else [Phase.generate],
        report_multiple_bugs=small,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(LOGS[name], st.randoms(use_true_random=False))
    def check(entries: list[Entry], chance: Random) -> None:
        for key, its_entries in keys_of(name, entries):
            wanted = reference(name, key, its_entries)
            assert stepped(name, key, its_entries, chance, module, flow) == wanted

    return check


@pytest.mark.parametrize("name", LOGS)
def test_any_arrival_of_any_log_gives_what_the_reference_gives(name: str) -> None:
    any_arrival(name, 50)()


# The suite must be able to fail

MUTATIONS = {
    "a timer's <= made <": (
        "while memory.wake_at_ms is not None and memory.wake_at_ms <= through_ms",
        "while memory.wake_at_ms is not None and memory.wake_at_ms < through_ms",
    ),
    "what is due at the watermark itself is left": (
        "if memory.wake_at_ms is not None and memory.wake_at_ms <= through_ms",
        "if memory.wake_at_ms is not None and memory.wake_at_ms < through_ms",
    ),
    "merged records are taken that are not complete": (
        "record.log_time_ms > through_ms",
        "record.log_time_ms > through_ms + 500",
    ),
    "a timer before the records of its time": (
        "self._fire(memory, record.log_time_ms - 1, shared)\n        self._event",
        "self._fire(memory, record.log_time_ms, shared)\n        self._event",
    ),
    "a timer before the merged records of its time": (
        "memory.wake_at_ms < record.log_time_ms:\n                    "
        "emits += self._fire(memory, record.log_time_ms - 1",
        "memory.wake_at_ms <= record.log_time_ms:\n                    "
        "emits += self._fire(memory, record.log_time_ms",
    ),
    "no timer before a merged record": (
        "memory.wake_at_ms < record.log_time_ms:",
        "memory.wake_at_ms < 0:",
    ),
    "merged streams in no order": ("r.log_time_ms, place[r.stream], r.partition", "r.log_time_ms"),
    "merged records of a stream in no order": ("r.partition, r.offset)", "-r.offset)"),
    "merged records taken twice": ("del waiting[:count]", "del waiting[: count - 1]"),
    "a state that is not forgotten": (
        "memory.state = step.state",
        "memory.state = step.state or memory.state",
    ),
    "a key that is not forgotten": ("if memory.is_empty:", "if False:"),
    "a timer lost with the bytes": (
        "Memory(state, wake_at_ms, [self._unpacked",
        "Memory(state, None, [self._unpacked",
    ),
}
"""Name, what stands in engines/one_key.py, and what is put in its place."""


def mutated(old: str, new: str) -> ModuleType:
    """Return engines/one_key.py with a mistake in it."""
    text = Path(str(engines.one_key.__file__)).read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in engines/one_key.py"
    module = ModuleType("mutated_one_key")
    # Its dataclasses look their module up by name.
    module.__dict__["__name__"] = "engines.one_key"
    exec(compile(text.replace(old, new), "mutated", "exec"), module.__dict__)  # noqa: S102
    return module


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mistake_in_the_order_is_noticed(name: str) -> None:
    module = mutated(*MUTATIONS[name])
    operator = "join" if "merged" in name else "greet"
    with pytest.raises(AssertionError):
        any_arrival(operator, 300, module, small=False)()


class Counts(Greet):
    """An operator that remembers more than its state."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def on_event(
        self, state: Remembered | None, record: Record, shared: Shared
    ) -> Step[Remembered]:
        if record.key in self.seen:
            return Step(state, (), state.until_ms if state else None)
        self.seen.add(record.key)
        return super().on_event(state, record, shared)


class Loses(Greet):
    """An operator whose state is another when it was taken apart."""

    def unpack(self, data: bytes, records: tuple[Record, ...]) -> Remembered:
        return Remembered(super().unpack(data, records).until_ms + 1)


@pytest.mark.parametrize("operator", [Counts, Loses])
def test_an_operator_that_is_not_pure_is_noticed(operator: type[Greet]) -> None:
    flow = careful(Dataflow("greet", (replace(PARTS["greet"], operator=operator()),)))
    # Flaky is what hypothesis calls it when a second look finds another answer.
    with pytest.raises((AssertionError, FlakyFailure)):
        any_arrival("greet", 50, flow=flow, small=False)()


# Records that cannot be taken


def poisons(stream: str, value: Any) -> dict[str, tuple[str, bytes]]:
    """Return what nobody can take in a stream: reason to key and bytes."""
    key, raw = key_of(value, stream), encode(value)
    return {
        "UnknownSchema": (key, b"\xc3\x01" + bytes(8) + raw[10:]),
        "TornRecord": (key, raw[:-1]),
        "WrongRecord": (Tick(START_MS, "t").ticker, encode(Tick(START_MS, "t"))),
        "WrongKey": ("another", raw),
    }


def given_by(name: str, reports: tuple[str, ...], records: list[RawRecord]) -> list[Emit]:
    one = OneKey(PARTS[name], reports)
    shared: Shared = {"loops": {"greeting": loop()}, "policies": {}}
    memory, emits = Memory(), []
    for record in records:
        if one.merges:
            memory.waiting.append(record)
        else:
            emits += one.take(memory, record, shared)
    return emits + one.advance(memory, START_MS + 1_000, shared)


@pytest.mark.parametrize("reason", [*poisons("outcomes", loop()), "missing key", "empty"])
@pytest.mark.parametrize("stream", VALUES)
def test_a_record_nobody_can_read_is_one_dead_letter_and_the_next_is_taken(
    stream: str, reason: str
) -> None:
    value = VALUES[stream]
    told = {
        **poisons(stream, value),
        "missing key": ("", encode(value)),
        "empty": ("v", b""),
    }
    key, raw = told[reason]
    readers = [name for name, part in PARTS.items() if stream in part.inputs]
    letters = []
    for number, name in enumerate(readers):
        bad = RawRecord(stream, key, START_MS, raw, 17, 2)
        good = RawRecord(stream, key_of(value, stream), START_MS + 1, encode(value), 18, 2)
        # Only the first of two readers says so.
        reports = (stream,) if number == 0 else ()
        emits = given_by(name, reports, [bad, good])
        alone = given_by(name, reports, [good])
        letters += [emit for emit in emits if emit.stream == DEAD_LETTERS]
        rest = [emit for emit in emits if emit.stream != DEAD_LETTERS]
        assert [(e.stream, e.key) for e in rest] == [(e.stream, e.key) for e in alone]
    (letter,) = letters
    side = letter.value
    assert isinstance(side, SideRecord)
    wanted = {"missing key": "WrongKey", "empty": "UnknownSchema"}.get(reason, reason)
    assert (side.reason, side.stream, side.key) == (wanted, stream, key)
    assert (side.partition, side.offset, side.raw) == (2, 17, raw)


def test_what_an_operator_cannot_take_is_a_dead_letter_and_the_state_stays() -> None:
    class Refuses(Greet):
        def on_event(
            self, state: Remembered | None, record: Record, shared: Shared
        ) -> Step[Remembered]:
            if state is not None:
                problem = "it is too much"
                raise ValueError(problem)
            return super().on_event(state, record, shared)

    one = OneKey(replace(PARTS["greet"], operator=Refuses()), ())
    made = decided("v", START_MS)
    memory, emits = Memory(), []
    for offset in range(2):
        record = RawRecord("decisions", "v", START_MS + offset, encode(made), offset, 0)
        emits += one.take(memory, record, {})
    assert [emit.stream for emit in emits] == ["greetings", DEAD_LETTERS]
    assert (emits[1].value.reason, emits[1].value.offset) == ("poison", 1)
    assert memory.state is not None


def test_a_memory_is_the_same_after_its_bytes() -> None:
    one = OneKey(PARTS["learn"], ())
    made = outcome(decided("v", START_MS), 0.5)
    assert isinstance(made, OutcomeClosed)
    memory = Memory()
    for offset, value in enumerate((loop(), made)):
        one.take(memory, RawRecord("outcomes", "greeting", START_MS, encode(value), offset, 0), {})
    packed = one.pack(memory)
    assert one.pack(one.unpack("greeting", packed)) == packed
    assert one.pack(one.unpack("greeting", b"")) == b""
