"""The embedded engine where things go wrong: bytes, disks, locks, neighbours."""

from __future__ import annotations

import contextlib
import gc
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectors import embedded_log
from engines import embedded
from engines.embedded import EmbeddedEngine
from engines.one_key import RawRecord, refusal
from pipelines.topology import greeting_loop
from runs import EmbeddedRun, MemoryRun, everything
from schemas.codec import decode, encode
from schemas.errors import EngineBusy, LogFull, LogUnavailable
from schemas.operations import SideRecord, Tick
from schemas.streams import DEAD_LETTERS, STREAMS
from visits import play
from worlds import START_MS, analyzed, captured, decided, ended, loop, outcome, rewarded, shown

T = START_MS


@pytest.fixture
def run(tmp_path: Path) -> Iterator[EmbeddedRun]:
    made = EmbeddedRun(greeting_loop(), tmp_path, now_ms=T)
    for stream in ("outcomes", "loops"):
        made.append(stream, loop())
    made.settle()
    yield made
    made.close()


def dead_letters(run: EmbeddedRun) -> list[SideRecord]:
    return [decode(row.value) for row in run.log.scan("dead-letters")]


def test_a_second_engine_on_the_folder_is_refused_until_the_first_has_closed(
    run: EmbeddedRun,
) -> None:
    with pytest.raises(EngineBusy, match="another process already runs"):
        EmbeddedEngine(run.log, run.flow)
    run.engine.close()
    run.engine = EmbeddedEngine(run.log, run.flow)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "UnknownSchema"),
        (b"not ours at all", "UnknownSchema"),
        (encode(shown("v", "a0", T))[:-1], "TornRecord"),
        (encode(shown("v", "a0", T)) + b"x", "TornRecord"),
        (encode(Tick(T, "x")), "WrongRecord"),
    ],
)
def test_bytes_that_are_no_record_become_a_dead_letter_and_nothing_stops(
    data: bytes, reason: str, run: EmbeddedRun
) -> None:
    (position,) = run.log.append_bytes([("impressions", "v", data)])
    run.append("frames", captured("w", "pre", 0, T, 0.5))
    run.settle()
    run.restart()
    run.settle()
    (letter,) = dead_letters(run)
    assert (letter.reason, letter.raw, letter.offset) == (reason, data, position)
    assert (letter.stream, letter.key, letter.log_time_ms) == ("impressions", "v", T)
    assert len(run.out("greetings")) == 1


@pytest.mark.parametrize(
    "value",
    [
        loop(loop_id="farewell"),
        captured("v", "pre", 0, T, 0.5),
        analyzed("v", "pre", 0, T, 0.5),
        decided("v", T),
        shown("v", "a0", T),
        rewarded("v", 1, 0.5, T),
        ended("v", T),
        outcome(decided("v", T), 0.5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_record_under_a_wrong_key_is_put_aside_as_on_flink_and_changes_nothing(
    value: Any, run: EmbeddedRun
) -> None:
    stream = next(name for name, each in STREAMS.items() if isinstance(value, each.records))
    before = run.log.counts()
    (position,) = run.log.append_bytes([(stream, "another", encode(value))])
    run.settle()
    run.restart()
    run.settle()
    (letter,) = dead_letters(run)
    row = run.log.at(position)
    record = RawRecord(row.stream, row.key, row.log_time_ms, row.value, position, 0)
    assert (letter.reason, letter.error) == refusal(record)
    assert letter.reason == "WrongKey"
    assert (letter.stream, letter.key, letter.offset) == (stream, "another", position)
    assert letter.raw == encode(value)
    after = run.log.counts()
    assert {name: n - before[name] for name, n in after.items() if n != before[name]} == {
        stream: 1,
        DEAD_LETTERS: 1,
    }
    run.append("frames", captured("w", "pre", 0, T, 0.5))
    run.settle()
    assert len(run.out("greetings")) == 1


def test_a_torn_frame_is_a_dead_letter_and_asked_of_nobody(run: EmbeddedRun) -> None:
    data = encode(captured("v", "pre", 0, T, 0.5))[:-3]
    run.log.append_bytes([("frames", "v", data)])
    run.append("frames", captured("w", "pre", 0, T, 0.5))
    run.settle()
    assert [letter.reason for letter in dead_letters(run)] == ["TornRecord"]
    assert len(run.out("analyses")) == 1


def test_a_record_that_an_operator_cannot_take_is_poison_and_the_next_is_taken(
    run: EmbeddedRun,
) -> None:
    good = analyzed("w", "pre", 0, T, 0.5)
    config = loop(policies=(replace(loop().policies[0], algorithm="no such algorithm"),))
    run.append("loops", config)
    run.append("analyses", good)
    run.append("loops", loop())
    run.append("analyses", replace(good, decision_id="x", frame_id="x"))
    run.settle()
    (letter,) = dead_letters(run)
    assert letter.reason == "poison"
    assert "decide cannot take it: SettingsError" in letter.error
    assert [key for key, _, _ in run.out("decisions")] == ["x"]


def test_a_full_disk_stops_the_engine_and_the_next_one_goes_on_as_if_nothing_was(
    tmp_path: Path,
) -> None:
    wanted = MemoryRun(greeting_loop(), tmp_path)
    play(wanted, 12)
    run = EmbeddedRun(greeting_loop(), tmp_path)
    full = 0

    def settle() -> None:
        nonlocal full
        before = run.log.end()
        pages = run.log.db.execute("PRAGMA page_count").fetchone()[0]
        run.log.db.execute(f"PRAGMA max_page_count = {pages}")
        try:
            run.engine.run_to_rest()
        except LogFull:
            full += 1
            assert run.log.end().position >= before.position
            run.restart()
            run.engine.run_to_rest()
        run.log.db.execute("PRAGMA max_page_count = 1000000")

    run.settle = settle  # type: ignore[method-assign]
    play(run, 12)
    given = everything(run)
    run.close()
    assert full > 1
    assert given == everything(wanted)


def test_a_log_locked_by_another_process_stops_the_engine_and_nothing_is_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_log, "BUSY_TIMEOUT_MS", 20)
    run = EmbeddedRun(greeting_loop(), tmp_path, now_ms=T)
    run.append("outcomes", loop())
    run.append("loops", loop())
    run.append("frames", captured("v", "pre", 0, T, 0.5))
    with contextlib.closing(sqlite3.connect(run.log.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogUnavailable, match="locked"):
            run.settle()
        other.execute("ROLLBACK")
    assert run.log.end().position == 3
    # What it had computed is lost with the commit: going on would leave it out.
    with pytest.raises(LogUnavailable, match="new engine"):
        run.settle()
    run.restart()
    run.settle()
    assert len(run.out("analyses")) == len(run.out("greetings")) == 1
    run.close()


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_the_size_of_a_batch_changes_nothing(
    batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "BATCH_MAX", batch)
    wanted, run = MemoryRun(greeting_loop(), tmp_path), EmbeddedRun(greeting_loop(), tmp_path)
    play(wanted, 12)
    play(run, 12)
    given = everything(run)
    run.close()
    assert given == everything(wanted)


def test_only_the_newest_snapshot_of_a_policy_stays_and_none_of_the_learning_log_goes(
    run: EmbeddedRun,
) -> None:
    for number in range(30):
        run.append("outcomes", outcome(decided(f"v{number}", T, loop()), 1.0))
        run.settle()
    snapshots = [decode(row.value) for row in run.log.scan("policies")]
    assert [snapshot.version for snapshot in snapshots] == [30]
    assert run.log.counts()["outcomes"] == 31


def test_every_configuration_ever_used_stays_in_the_log(run: EmbeddedRun) -> None:
    for seed in (1, 2, 3, 1):
        run.append("loops", loop(seed=seed))
        run.settle()
    seeds = [decode(row.value).seed for row in run.log.scan("loops")]
    assert sorted(seeds) == [1, 2, 3, 7]
    assert seeds[-1] == 1, "the newest is the last in the log"


def test_a_restart_shares_what_was_shared(run: EmbeddedRun) -> None:
    run.append("outcomes", outcome(decided("v", T, loop()), 1.0))
    run.settle()
    before = {name: dict(known) for name, known in run.engine.shared.items()}
    assert before["policies"]["greeting/main"].version == 1
    run.restart()
    assert run.engine.shared == before


def test_an_event_is_not_joined_before_its_log_time_is_complete(run: EmbeddedRun) -> None:
    # Another writer may still append at this very log time, to a stream that comes first.
    made = decided("v", T, loop(rules={"activation": "at_decision"}))
    run.append("rewards", rewarded("v", 1, 0.5, T, final=True))
    run.settle()
    run.append("decisions", made)
    run.settle()
    assert len(run.out("outcomes")) == 1  # the configuration
    run.clock.set(T + 1)
    run.settle()
    assert decode(run.out("outcomes")[-1][2]).closed_by == "final_reward"


def test_nothing_happens_where_nothing_is_new(run: EmbeddedRun) -> None:
    run.clock.set(T + 1)
    run.settle()
    assert not run.engine.cycle()
    end = run.log.end()
    run.clock.set(T + 1_000_000)
    assert not run.engine.cycle()
    assert run.log.end() == end


def test_a_batch_that_ends_inside_one_log_time_waits_for_the_rest_of_it(
    run: EmbeddedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "BATCH_MAX", 1)
    made = decided("v", T, loop())
    for stream, value in (
        ("visits", ended("v", T, posts=1)),
        ("decisions", made),
        ("impressions", shown("v", made.choice.action_id, T)),
    ):
        run.append(stream, value)
    run.clock.set(T + 1)
    for _ in range(6):  # each takes one record, and promises that nothing more comes below T + 1
        run.cycle()
    run.append("rewards", rewarded("v", 1, 0.5, T, final=True))
    run.clock.set(T + 2)
    run.settle()
    outcome_made = decode(run.out("outcomes")[-1][2])
    # Taken as it was read, the visit would have ended before its impression.
    assert outcome_made.result == "rewarded"


def test_the_cycle_collector_is_on_again_after_a_cycle_also_after_one_that_failed(
    run: EmbeddedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.append("outcomes", outcome(decided("v", T, loop()), 1.0))
    run.settle()
    assert gc.isenabled()

    def broken() -> None:
        assert not gc.isenabled()
        problem = "the disk went away"
        raise LogUnavailable(problem)

    run.append("outcomes", outcome(decided("w", T, loop()), 1.0))
    monkeypatch.setattr(run.engine, "_commit", broken)
    with pytest.raises(LogUnavailable, match="went away"):
        run.settle()
    assert gc.isenabled()
