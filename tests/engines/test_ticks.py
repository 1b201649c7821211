"""Ticks let log time pass while nobody comes, and end when nothing can happen any more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from connectors.pictures import FolderPictures
from engines.embedded import EmbeddedEngine
from engines.job import Job, configure, tick
from pipelines.topology import TICK_INTERVAL_MS, greeting_loop, tick_tail_ms
from runs import answerer
from schemas.codec import decode
from schemas.operations import Tick
from worlds import START_MS, decided, loop, rewarded

T = START_MS
TAIL_MS = 10_000


@pytest.fixture
def clock() -> SetClock:
    return SetClock(T)


@pytest.fixture
def log(tmp_path: Path, clock: SetClock) -> Iterator[EmbeddedLog]:
    made = EmbeddedLog(tmp_path, clock, "OFF")
    yield made
    made.close()


def test_an_empty_log_gets_no_tick(log: EmbeddedLog) -> None:
    assert not tick(log, TAIL_MS)


def test_a_tick_comes_when_the_newest_record_is_older_than_the_interval(
    log: EmbeddedLog, clock: SetClock
) -> None:
    log.append("rewards", rewarded("v", 1, 0.5, T))
    clock.set(T + TICK_INTERVAL_MS - 1)
    assert not tick(log, TAIL_MS)
    clock.set(T + TICK_INTERVAL_MS)
    assert tick(log, TAIL_MS)
    assert not tick(log, TAIL_MS), "the Tick itself is a newest record"
    (row,) = log.scan("ticks")
    assert (row.log_time_ms, decode(row.value)) == (
        T + TICK_INTERVAL_MS,
        Tick(T + TICK_INTERVAL_MS, "embedded"),
    )


def test_ticks_end_once_they_have_passed_the_tail(log: EmbeddedLog, clock: SetClock) -> None:
    log.append("rewards", rewarded("v", 1, 0.5, T))
    for at_ms in range(T, T + 3 * TAIL_MS, TICK_INTERVAL_MS):
        clock.set(at_ms)
        tick(log, TAIL_MS)
    assert log.newest_log_time_ms() == T + TAIL_MS + TICK_INTERVAL_MS


def test_after_a_standstill_one_tick_still_comes(log: EmbeddedLog, clock: SetClock) -> None:
    log.append("rewards", rewarded("v", 1, 0.5, T))
    clock.set(T + 3_600_000)
    assert tick(log, TAIL_MS)
    clock.set(T + 3_700_000)
    assert not tick(log, TAIL_MS)


def test_the_tail_covers_the_longest_window_and_the_wait_of_an_orphan() -> None:
    rules = loop().rules
    assert tick_tail_ms(rules) == 2 * 5_500 + 60_000 + 10_000


def test_a_configuration_goes_first_where_learn_reads_and_only_when_it_changed(
    log: EmbeddedLog,
) -> None:
    assert configure(log, (loop(),)) == ["greeting"]
    assert configure(log, (loop(),)) == []
    assert configure(log, (loop(seed=9),)) == ["greeting"]
    assert [row.stream for row in log.scan()] == ["outcomes", "loops"] * 2


def test_a_running_job_closes_the_last_window_and_stops_when_told(
    tmp_path: Path, log: EmbeddedLog
) -> None:
    config = loop(rules={"reward_window_ms": 600, "grace_ms": 0, "reaction_delay_ms": 0})
    wall = EmbeddedLog(tmp_path / "live", synchronous="OFF")
    configure(wall, (config,))
    engine = EmbeddedEngine(wall, greeting_loop(), answerer())
    job = Job(engine, FolderPictures(tmp_path / "pictures"), (config,))
    stop = threading.Event()
    thread = threading.Thread(target=job.run, args=(stop,))
    other = EmbeddedLog(tmp_path / "live", synchronous="OFF")
    other.append("decisions", decided("v", wall.clock(), config))
    thread.start()
    pause = threading.Event()
    for _ in range(400):
        if other.counts()["outcomes"] == 2:
            break
        pause.wait(0.02)
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    outcome = decode(other.last("outcomes", 1)[0].value)
    opened_ms = next(iter(other.scan("decisions"))).log_time_ms
    assert (outcome.result, outcome.closed_at_ms) == ("not_activated", opened_ms + 600)
    for each in (engine, wall, other):
        each.close()
