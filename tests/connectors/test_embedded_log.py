"""The embedded log: a total order, log times that never go back, and nothing half written."""

from __future__ import annotations

import multiprocessing
import sqlite3
import tempfile
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appending import append_rewards
from connectors import embedded_log
from connectors.clocks import SetClock, WallClock
from connectors.embedded_log import FORMAT_VERSION, EmbeddedLog
from schemas.codec import decode
from schemas.errors import LogFull, LogUnavailable, UsageError
from schemas.operations import Tick
from worlds import START_MS, loop, rewarded, shown

T = START_MS


@pytest.fixture
def clock() -> SetClock:
    return SetClock(T)


@pytest.fixture
def log(tmp_path: Path, clock: SetClock) -> EmbeddedLog:
    return EmbeddedLog(tmp_path, clock, "OFF")


def test_records_come_back_in_the_order_of_the_log(log: EmbeddedLog) -> None:
    values = [rewarded(f"v{i % 3}", i, i / 10.0, T) for i in range(9)]
    positions = [log.append("rewards", value) for value in values]
    assert positions == list(range(1, 10))
    assert [decode(row.value) for row in log.scan("rewards")] == values
    assert [row.position for row in log.scan(key="v1")] == [2, 5, 8]
    assert [row.position for row in log.read(after=3, limit=2)] == [4, 5]
    assert [row.position for row in log.last("rewards", 2)] == [8, 9]
    assert log.at(4).key == "v0"
    assert log.counts()["rewards"] == 9
    assert log.counts()["visits"] == 0


def test_a_scan_goes_on_beyond_one_reading(
    log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EmbeddedLog.read, "__defaults__", (3, None, None))
    log.append_all([("rewards", rewarded("v", i, 0.5, T)) for i in range(8)])
    assert [row.position for row in log.scan("rewards")] == list(range(1, 9))


def test_only_the_streams_asked_for_come(log: EmbeddedLog) -> None:
    log.append("rewards", rewarded("v", 1, 0.5, T))
    log.append("impressions", shown("v", "a0", T))
    log.append("ticks", Tick(T, "x"))
    assert [row.stream for row in log.scan("impressions", "ticks")] == ["impressions", "ticks"]


def test_what_was_appended_is_there_after_reopening(tmp_path: Path, clock: SetClock) -> None:
    log = EmbeddedLog(tmp_path, clock)
    log.append("loops", loop())
    log.close()
    again = EmbeddedLog(tmp_path, clock)
    assert [decode(row.value) for row in again.scan()] == [loop()]
    assert again.append("ticks", Tick(T, "x")) == 2


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(-9, 9), st.booleans()), max_size=20))
def test_log_time_never_goes_back_and_keeps_the_floors_promise(
    moves: list[tuple[int, bool]],
) -> None:

    with tempfile.TemporaryDirectory() as folder:
        now_ms = T
        log = EmbeddedLog(Path(folder), lambda: now_ms, "OFF")
        floor_ms = newest_ms = 0
        for move_ms, seals in moves:
            now_ms += move_ms  # a clock that also goes backwards
            if seals:
                with log.transaction():
                    promised_ms = log.seal()
                assert promised_ms >= max(floor_ms, now_ms)
                floor_ms = promised_ms
            else:
                at_ms = log.at(log.append("ticks", Tick(T, "x"))).log_time_ms
                assert at_ms == max(newest_ms, floor_ms, now_ms)
                newest_ms = at_ms
        assert log.floor_ms() == floor_ms
        log.close()


def test_the_newest_log_time_with_and_without_ticks(log: EmbeddedLog, clock: SetClock) -> None:
    assert log.newest_log_time_ms() == log.newest_log_time_ms(without_ticks=True) == 0
    log.append("rewards", rewarded("v", 1, 0.5, T))
    clock.set(T + 500)
    log.append("ticks", Tick(T + 500, "x"))
    assert log.newest_log_time_ms() == T + 500
    assert log.newest_log_time_ms(without_ticks=True) == T


def test_ticks_at_times_the_log_has_passed_are_left_out(log: EmbeddedLog) -> None:
    log.append("rewards", rewarded("v", 1, 0.5, T))
    log.append_ticks([T - 250, T, T + 250, T + 500], "recording")
    assert [row.log_time_ms for row in log.scan("ticks")] == [T + 250, T + 500]


def test_what_a_stream_does_not_carry_is_refused(log: EmbeddedLog) -> None:
    with pytest.raises(UsageError, match="a Tick does not belong in 'rewards'"):
        log.append("rewards", Tick(T, "x"))
    with pytest.raises(UsageError, match="no stream 'nothing'"):
        log.append("nothing", Tick(T, "x"))
    with pytest.raises(UsageError, match="no stream 'nothing'"):
        log.read(0, streams=("nothing",))
    assert log.end().position == 0


def test_there_is_no_record_where_none_was_written(log: EmbeddedLog) -> None:
    with pytest.raises(LogUnavailable, match="position 7"):
        log.at(7)


def test_several_records_go_together_or_not_at_all(log: EmbeddedLog) -> None:
    with pytest.raises(UsageError):
        log.append_all([("ticks", Tick(T, "x")), ("rewards", Tick(T, "x"))])
    assert list(log.scan()) == []


def test_a_transaction_that_fails_leaves_no_record_and_no_fact(log: EmbeddedLog) -> None:
    with pytest.raises(ZeroDivisionError), log.transaction():
        log.write([("ticks", "x", b"bytes")])
        log.set_fact("engine.places", "{}")
        _ = 1 / 0
    assert log.end().position == 0
    assert log.fact("engine.places", "nothing") == "nothing"
    assert log.append("ticks", Tick(T, "x")) == 1


def test_bytes_go_in_as_they_came(log: EmbeddedLog) -> None:
    log.append_bytes([("rewards", "v", b"\x00torn")])
    assert log.at(1).value == b"\x00torn"


def test_a_full_disk_refuses_whole_records_and_keeps_none_of_them(log: EmbeddedLog) -> None:
    pages = log.db.execute("PRAGMA page_count").fetchone()[0]
    log.db.execute(f"PRAGMA max_page_count = {pages + 4}")
    batch = [("rewards", rewarded("v", i, 0.5, T)) for i in range(20)]
    with pytest.raises(LogFull, match="Free some space"):
        for _ in range(100):
            log.append_all(batch)
    held = len(list(log.scan("rewards")))
    assert held % len(batch) == 0
    assert held > 0
    log.db.execute("PRAGMA max_page_count = 100000")
    assert log.append("ticks", Tick(T, "x")) == held + 1
    assert log.db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_locked_file_is_unavailable_and_says_so(
    tmp_path: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_log, "BUSY_TIMEOUT_MS", 20)
    log = EmbeddedLog(tmp_path, clock, "OFF")
    other = sqlite3.connect(log.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LogUnavailable, match="locked by another process"):
        log.append("ticks", Tick(T, "x"))
    assert list(log.scan()) == [], "reading goes on"
    other.execute("ROLLBACK")
    other.close()
    assert log.append("ticks", Tick(T, "x")) == 1


def test_a_log_of_a_newer_release_is_refused(tmp_path: Path, clock: SetClock) -> None:
    log = EmbeddedLog(tmp_path, clock, "OFF")
    log.db.execute(f"PRAGMA user_version = {FORMAT_VERSION + 1}")
    log.close()
    with pytest.raises(LogUnavailable, match=f"this release knows {FORMAT_VERSION}"):
        EmbeddedLog(tmp_path, clock)


def test_a_file_that_is_no_log_is_refused(tmp_path: Path, clock: SetClock) -> None:
    (tmp_path / embedded_log.FILE_NAME).write_bytes(b"a letter to somebody else, not a log" * 99)
    with pytest.raises(LogUnavailable, match="cannot be used"):
        EmbeddedLog(tmp_path, clock)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, clock: SetClock) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LogUnavailable, match="permissions"):
        EmbeddedLog(tmp_path / "file" / "folder", clock)


def test_each_step_of_an_append_is_named(tmp_path: Path, clock: SetClock) -> None:
    steps: list[str] = []
    log = EmbeddedLog(tmp_path, clock, "OFF", steps.append)
    log.append("ticks", Tick(T, "x"))
    assert steps == ["commit.before", "commit.after", "append"]


def test_the_wall_clock_tells_milliseconds_of_this_century() -> None:
    assert 1_700_000_000_000 < WallClock()() < 4_102_444_800_000


def test_a_set_clock_never_goes_back() -> None:
    clock = SetClock(5)
    clock.set(9)
    clock.set(7)
    assert clock() == 9


def test_several_processes_append_at_once_and_no_record_is_lost(tmp_path: Path) -> None:
    # Nobody made the file before: the first of them does, while the others wait.
    count, writers = 60, 3
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=append_rewards, args=(str(tmp_path), writer, count))
        for writer in range(writers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * writers
    log = EmbeddedLog(tmp_path)
    rows = list(log.scan("rewards"))
    assert [row.position for row in rows] == list(range(1, count * writers + 1))
    times = [row.log_time_ms for row in rows]
    assert times == sorted(times)
    ids = defaultdict(list)
    for row in rows:
        ids[row.key].append(decode(row.value).reward_id)
    assert ids == {f"w{w}": [f"w{w}.reward.{i}" for i in range(count)] for w in range(writers)}
    log.close()
