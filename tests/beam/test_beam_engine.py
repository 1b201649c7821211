"""Beam against the engines that follow a log live: any log, one key at a time, the same bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from connectors.logs import Row
from engines.beam import engine
from engines.beam.per_key import ordered, run_keys
from engines.one_key import Memory, OneKey, RawRecord
from history import given_by_join
from join_scripts import Entry, scripts
from pipelines.operators import Emit, Shared
from pipelines.topology import greeting_loop
from runs import EmbeddedRun, MemoryRun, feed, finish
from schemas.codec import decode, encode
from schemas.errors import UsageError
from schemas.operations import Tick
from schemas.outcomes import PolicySnapshot
from schemas.streams import key_of
from worlds import START_MS, decided, ended, loop, outcome, rewarded, shown

PARTS = {part.name: part for part in greeting_loop().keyed}
JOIN = PARTS["join"]
Told = Counter[tuple[str, str, bytes]]


def bounded(examples: int) -> settings:
    return settings(
        max_examples=examples,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.function_scoped_fixture,
        ],
    )


def live(entries: list[Entry], folder: Path) -> tuple[list[Row], Told]:
    """Return the log of a script as the embedded engine joins it, and what the join gave out."""
    run = EmbeddedRun(greeting_loop().only("join"), folder)
    feed(run, entries, [])
    finish(run, entries)
    rows = list(run.log.scan())
    run.close()
    fed = [row for row in rows if row.stream in (*JOIN.inputs, "ticks")]
    return fed, given_by_join(rows)


def per_key(rows: Iterable[Row]) -> Told:
    """Return what the join gives out key by key, without Beam."""
    fed = list(rows)
    mine = [each for row in fed if row.stream in JOIN.inputs if (each := ordered(JOIN, row))]
    complete_ms = max(row.log_time_ms for row in fed)
    return Counter((e.stream, e.key, e.value) for e in run_keys(JOIN, mine, complete_ms))


def test_key_by_key_gives_out_what_the_whole_log_does(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    @bounded(60)
    @given(scripts())
    def check(entries: list[Entry]) -> None:
        rows, wanted = live(entries, tmp_path_factory.mktemp("log"))
        assert per_key(rows) == wanted

    check()


def test_a_pipeline_gives_out_what_the_whole_log_does(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    @bounded(8)
    @given(scripts())
    def check(entries: list[Entry]) -> None:
        rows, wanted = live(entries, tmp_path_factory.mktemp("log"))
        given_out = engine.run(JOIN, reversed(rows))
        assert Counter((row.stream, row.key, row.value) for row in given_out) == wanted

    check()


def too_early(self: OneKey, memory: Memory, record: RawRecord, shared: Shared) -> list[Emit]:
    """Take a record as if a timer at its very log time came before it."""
    emits = self._fire(memory, record.log_time_ms, shared)
    self._event(memory, record, shared, emits)
    return emits


def test_a_timer_that_fires_before_a_record_of_its_time_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OneKey, "take", too_early)

    @settings(bounded(60), phases=[Phase.generate])
    @given(scripts())
    def check(entries: list[Entry]) -> None:
        rows, wanted = live(entries, tmp_path_factory.mktemp("log"))
        assert per_key(rows) == wanted

    with pytest.raises(AssertionError):
        check()


def row(position: int, stream: str, value: Any, after_ms: int, partition: int = 0) -> Row:
    """Return a row of a log; times are ms after the start."""
    at_ms = START_MS + after_ms
    return Row(position, stream, key_of(value, stream), at_ms, encode(value), partition)


def results(rows: list[Row], complete_after_ms: int) -> list[tuple[str, float, int]]:
    """Return result, reward and closing time, ms after the start, of each outcome."""
    given_out = engine.run(JOIN, rows, START_MS + complete_after_ms)
    values = [decode(row.value) for row in given_out if row.stream == "outcomes"]
    return [(v.result, v.reward, v.closed_at_ms - START_MS) for v in values]


def test_a_record_at_the_deadline_counts_and_the_timer_fires_after_it() -> None:
    made = decided("v", START_MS)
    rows = [
        row(1, "decisions", made, 0),
        row(2, "impressions", shown("v", made.choice.action_id, START_MS), 0),
        row(3, "rewards", rewarded("v", 1, 0.5, START_MS + 5_000), 5_500),
    ]
    assert results(rows, 5_501) == [("rewarded", 0.5, 5_500)]
    rows[2] = row(3, "rewards", rewarded("v", 1, 0.5, START_MS + 5_000), 5_501)
    assert results(rows, 5_501) == [("defaulted", 0.0, 5_500)]


def test_a_window_stays_open_where_the_log_is_not_complete() -> None:
    made = decided("v", START_MS)
    rows = [
        row(1, "decisions", made, 0),
        row(2, "impressions", shown("v", made.choice.action_id, START_MS), 0),
    ]
    # Its deadline is at 5,500: at that very time a record may still come.
    assert results(rows, 5_500) == []
    assert results(rows, 5_501) == [("defaulted", 0.0, 5_500)]
    # A partition that is ahead of the others does not close what they may still add to.
    assert results([*rows, row(3, "visits", ended("v", START_MS), 9_000)], 5_000) == []


def test_at_one_log_time_streams_then_partitions_then_positions_decide() -> None:
    made = decided("v", START_MS)
    first, second = (rewarded("v", 1, value, START_MS + 1) for value in (0.25, 0.5))
    rows = [
        row(1, "visits", ended("v", START_MS + 1), 1),
        row(3, "rewards", second, 1),
        row(2, "rewards", first, 1),
        row(7, "impressions", shown("v", made.choice.action_id, START_MS), 1),
        row(9, "decisions", made, 1),
    ]
    # The first of one id counts; an end before the impression would be `not_activated`.
    assert results(rows, 2) == [("rewarded", 0.25, 1)]
    rows[1], rows[2] = row(3, "rewards", second, 1, 0), row(2, "rewards", first, 1, 1)
    assert results(rows, 2) == [("rewarded", 0.5, 1)]


def test_ticks_in_the_event_streams_are_nobodys_records() -> None:
    made = decided("v", START_MS)
    tick = encode(Tick(START_MS, "test"))
    rows = [
        row(1, "decisions", made, 0),
        Row(2, "decisions", "v", START_MS + 20_000, tick),
    ]
    given_out = engine.run(JOIN, rows)
    assert [each.stream for each in given_out] == ["outcomes"]


def _memory(name: str, entries: list[Entry]) -> MemoryRun:
    run = MemoryRun(greeting_loop().only(name), Path())
    feed(run, entries, [1] * len(entries))
    finish(run, entries)
    return run


def _rows(entries: list[Entry]) -> list[Row]:
    return [
        row(position, entry.stream, entry.value, entry.log_time_ms - START_MS)
        for position, entry in enumerate(entries, 1)
    ]


def test_greet_on_beam_is_greet_in_memory() -> None:
    entries = [
        Entry(START_MS + n * 7_000, "decisions", decided(f"v{n % 5}", START_MS + n % 5))
        for n in range(30)
    ]
    entries.append(Entry(START_MS + 10**6, "ticks", Tick(START_MS, "test")))
    wanted = _memory("greet", entries).out("greetings")
    given_out = engine.run(PARTS["greet"], _rows(entries))
    assert sorted((r.key, r.value) for r in given_out) == sorted((k, v) for k, _, v in wanted)
    assert len(wanted) == 5


def test_learn_on_beam_is_learn_in_memory() -> None:
    configs = [loop(), loop(4)]
    entries = [Entry(START_MS, "outcomes", configs[0])]
    for n in range(40):
        if n == 20:
            entries.append(Entry(START_MS + n, "outcomes", configs[1]))
        made = decided(f"v{n}", START_MS, configs[n >= 20])
        entries.append(Entry(START_MS + n, "outcomes", outcome(made, n % 3 / 2.0)))
    wanted = _memory("learn", entries).out("policies")
    given_out = [r for r in engine.run(PARTS["learn"], _rows(entries)) if r.stream == "policies"]
    assert [(r.key, r.value) for r in given_out] == [(k, v) for k, _, v in wanted]
    (snapshot,) = [decode(r.value) for r in given_out]
    assert isinstance(snapshot, PolicySnapshot)
    assert snapshot.version > 40


def test_decide_is_refused_since_no_log_keeps_what_it_looked_at() -> None:
    with pytest.raises(UsageError, match="whose history no log keeps"):
        engine.run(PARTS["decide"], [])
