"""States survive being packed away, rewritten and read again; forgotten keys stay forgotten."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines import changes, state_store
from engines.changes import Changelog
from engines.state_store import StateStore
from pipelines.operators import Keyed, Record, Shared, Step
from pipelines.topology import greeting_loop
from runs import EmbeddedRun, MemoryRun, everything
from visits import play


class Held(NamedTuple):
    """What the test's operator remembers: the last records of a key."""

    last: tuple[Record, ...]
    until_ms: int


class Holder:
    """Keeps the last two records of each key for as long as the last one says."""

    def on_event(self, state: Held | None, record: Record, shared: Shared) -> Step[Held]:
        if record.value == "forget":
            return Step(None)
        last = (*(state.last if state else ()), record)[-2:]
        until_ms = record.log_time_ms + record.value
        return Step(Held(last, until_ms), wake_at_ms=until_ms)

    def on_timer(self, state: Held | None, log_time_ms: int, shared: Shared) -> Step[Held]:
        if state is None or log_time_ms >= state.until_ms:
            return Step(None)
        return Step(state, wake_at_ms=state.until_ms)

    def pack(self, state: Held) -> tuple[bytes, tuple[Record, ...]]:
        return state.until_ms.to_bytes(8, "big"), state.last

    def unpack(self, data: bytes, records: tuple[Record, ...]) -> Held:
        return Held(records, int.from_bytes(data, "big"))


class Bench:
    """A store with its changelog in a database in memory, opened again at will."""

    def __init__(self) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.db.execute(
            "CREATE TABLE changes (segment INTEGER PRIMARY KEY AUTOINCREMENT, data BLOB NOT NULL)"
        )
        self.values: dict[int, Any] = {}
        self.now_ms = 0
        self.open()

    def open(self) -> None:
        self.store = StateStore(Keyed("holder", Holder(), ("in",), ()), self.values.__getitem__)
        self.changelog = Changelog(self.db, {"holder": self.store})
        self.changelog.restore()

    def take(self, key: str, after_ms: int, value: Any) -> None:
        self.now_ms += after_ms
        list(self.store.fire(self.now_ms, {}))
        place = len(self.values) + 1
        self.values[place] = value
        self.store.event(Record("in", key, self.now_ms, value, place), {})

    def commit(self) -> None:
        drained = self.store.drain()
        if drained:
            self.changelog.append({"holder": drained})

    def held(self) -> dict[str, tuple[list[tuple[int, Any]], int]]:
        found = {}
        for key in [f"k{i}" for i in range(8)]:
            hot = self.store._hot(key)
            if hot is not None:
                state: Held = hot.state
                found[key] = [(r.log_time_ms, r.value) for r in state.last], state.until_ms
        return found


class Model:
    """The same, as a dictionary and a loop."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[list[tuple[int, Any]], int]] = {}
        self.now_ms = 0

    def take(self, key: str, after_ms: int, value: Any) -> None:
        self.now_ms += after_ms
        gone = [key for key, (_, until_ms) in self.held.items() if until_ms < self.now_ms]
        for each in gone:
            del self.held[each]
        if value == "forget":
            self.held.pop(key, None)
            return
        last = [*self.held.get(key, ([], 0))[0], (self.now_ms, value)][-2:]
        self.held[key] = last, self.now_ms + value


_events = st.tuples(
    st.sampled_from([f"k{i}" for i in range(8)]),
    st.sampled_from([0, 1, 50, 400]),
    st.sampled_from(["forget", 1, 100, 1_000, 1_000]),
)


@settings(max_examples=120)
@given(st.lists(st.lists(_events, max_size=6), max_size=25), st.booleans(), st.booleans())
def test_a_store_remembers_what_it_should_through_eviction_rewriting_and_restarts(
    batches: list[list[tuple[str, int, Any]]], reopened: bool, small: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_store, "_HOT_MAX", 2 if small else 8_000)
        patch.setattr(changes, "_SLACK_BYTES", 0)
        patch.setattr(changes, "_ROWS_AT_ONCE", 2)
        bench, model = Bench(), Model()
        for batch in batches:
            for key, after_ms, value in batch:
                bench.take(key, after_ms, value)
                model.take(key, after_ms, value)
            bench.commit()
            if reopened:
                bench.open()
            assert bench.held() == model.held
            assert len(bench.store) == len(model.held)


def test_stale_rows_are_rewritten_so_that_the_file_does_not_grow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(changes, "_SLACK_BYTES", 0)
    bench = Bench()
    for number in range(400):
        bench.take(f"k{number % 4}", 1, 1_000)
        bench.commit()
    rows = bench.db.execute("SELECT COUNT(*), SUM(LENGTH(data)) FROM changes").fetchone()
    # Four states of some 50 bytes: without rewriting there would be 400 rows of them.
    assert rows[0] <= 2 * changes._ROWS_AT_ONCE
    assert rows[1] < 2_000


def test_what_an_operator_remembers_that_does_not_run_now_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(changes, "_SLACK_BYTES", 0)
    bench = Bench()
    Changelog(bench.db, {}).append({"stranger": [("kept", b"state")]})
    bench.open()
    for number in range(200):
        bench.take(f"k{number % 4}", 1, 1_000)
        bench.commit()
    first = bench.db.execute("SELECT data FROM changes ORDER BY segment LIMIT 1").fetchone()[0]
    assert changes._decode(first) == {"stranger": [("kept", b"state")]}


def test_within_the_slack_nothing_is_rewritten() -> None:
    bench = Bench()
    for _ in range(100):
        bench.take("k0", 1, 1_000)
        bench.commit()
    assert bench.db.execute("SELECT COUNT(*) FROM changes").fetchone() == (100,)


def test_a_state_not_in_use_is_packed_and_its_records_are_read_when_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state_store, "_HOT_MAX", 2)
    bench = Bench()
    for number in range(8):
        bench.take(f"k{number}", 1, 1_000)
        bench.commit()
    assert len(bench.store._young) + len(bench.store._old) <= 4
    assert len(bench.store) == 8
    assert bench.held()["k0"] == ([(1, 1_000)], 1_001)


def test_live_bytes_are_those_of_the_packed_states() -> None:
    bench = Bench()
    for number in range(5):
        bench.take(f"k{number % 3}", 1, 1_000)
        bench.commit()
    bench.take("k0", 1, "forget")
    bench.commit()
    packed = {key: bench.store.packed(key) for key in ("k0", "k1", "k2")}
    assert packed["k0"] is None
    assert bench.store.live_bytes == sum(len(k) + len(p) for k, p in packed.items() if p)


def test_an_operator_that_sets_its_timer_in_the_past_is_found_out() -> None:
    class Restless(Holder):
        def on_timer(self, state: Held | None, log_time_ms: int, shared: Shared) -> Step[Held]:
            return Step(state, wake_at_ms=log_time_ms)

    store = StateStore(Keyed("restless", Restless(), ("in",), ()), lambda _: 5)
    store.event(Record("in", "k", 10, 5, 1), {})
    with pytest.raises(AssertionError, match="restless sets a timer"):
        list(store.fire(100, {}))


def test_the_whole_loop_with_every_state_evicted_rewritten_and_read_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(state_store, "_HOT_MAX", 0)
    monkeypatch.setattr(changes, "_SLACK_BYTES", 0)
    monkeypatch.setattr(changes, "_ROWS_AT_ONCE", 3)
    wanted, run = MemoryRun(greeting_loop(), tmp_path), EmbeddedRun(greeting_loop(), tmp_path)
    play(wanted, 15)
    play(run, 15, after_each=run.restart)
    assert everything(run) == everything(wanted)
    assert run.remembered == wanted.remembered
    run.close()
