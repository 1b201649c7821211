"""Between Kinesis and the job's file: each record once, in time's order, killed or not."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import worlds
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from connectors.kinesis_address import KinesisAddress
from connectors.kinesis_intake import INTAKE_STREAMS, LEAD_MS, Intake
from connectors.kinesis_publisher import PUBLISHED_STREAMS, Places, Publisher
from connectors.kinesis_shards import SHARD_END
from connectors.kinesis_sink import RECORD_BYTES, KinesisSink
from connectors.kinesis_source import Batch, KinesisSource, Received
from made_up_kinesis import MadeUpStreams
from schemas.codec import decode
from schemas.errors import LogUnavailable, UsageError

ADDRESS = KinesisAddress("eu-central-1", "shop")
FAST = 1e6


class Killed(Exception):
    """The process ended here."""


class Steps:
    """Ends the process at the n-th step."""

    def __init__(self, at: int | None = None) -> None:
        self.left = at

    def __call__(self, _name: str) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed


def batch(
    stream: str, shard: int, times: list[int], through_ms: int, place: str | None = None
) -> Batch:
    """Return a look at a shard that brought a record at each of these times."""
    records = [
        Received(stream, shard, at_ms * 10, 0, f"k{at_ms}", at_ms, b"%d" % at_ms) for at_ms in times
    ]
    place = place or (str(times[-1] * 10) if times else "TRIM_HORIZON")
    return Batch(stream, f"shardId-{shard:012d}", records, place, through_ms, 0)


READING = {("frames", "shardId-000000000000"), ("visits", "shardId-000000000000")}


def opened(folder: Path, steps: Steps | None = None) -> tuple[EmbeddedLog, Intake]:
    log = EmbeddedLog(folder, None, "NORMAL", steps or Steps())
    return log, Intake(log, "kinesis://eu-central-1/shop")


def test_the_file_keeps_kinesis_time_and_its_clock_is_the_slowest_shard(tmp_path: Path) -> None:
    log, intake = opened(tmp_path)
    looks = [batch("frames", 0, [5_000, 9_000], 20_000), batch("visits", 0, [6_000], 6_500)]
    intake.take(looks, READING)
    assert [(r.stream, r.log_time_ms) for r in log.scan()] == [("frames", 5_000), ("visits", 6_000)]
    assert log.clock() == 6_500, "a shard that is behind holds the time"
    assert intake.waiting == 1
    intake.take([batch("visits", 0, [], 30_000)], READING)
    assert [r.log_time_ms for r in log.scan()] == [5_000, 6_000, 9_000]
    assert log.clock() == 20_000
    log.close()


def test_a_record_waits_for_no_other_shard_where_it_is_a_moment_ahead(tmp_path: Path) -> None:
    log, intake = opened(tmp_path)
    near, far = 6_500 + LEAD_MS - 1, 6_500 + LEAD_MS
    intake.take([batch("frames", 0, [near, far], 9_000), batch("visits", 0, [], 6_500)], READING)
    assert [r.log_time_ms for r in log.scan()] == [near]
    assert log.clock() == 6_500, "the clock does not run ahead with it"
    log.close()


def test_a_record_that_comes_late_takes_the_newest_time_in_the_file(tmp_path: Path) -> None:
    log, intake = opened(tmp_path)
    intake.take([batch("frames", 0, [8_000], 8_000), batch("visits", 0, [], 8_000)], READING)
    intake.take([batch("visits", 0, [7_000], 9_000), batch("frames", 0, [], 9_000)], READING)
    assert [r.log_time_ms for r in log.scan()] == [8_000, 8_000]
    log.close()


def test_the_place_in_the_file_is_that_of_the_records_in_the_file(tmp_path: Path) -> None:
    log, intake = opened(tmp_path)
    looks = [batch("frames", 0, [5_000, 9_000], 20_000), batch("visits", 0, [6_000], 6_500)]
    intake.take(looks, READING)
    log.close()
    log, intake = opened(tmp_path)
    assert intake.places["frames"] == {"shardId-000000000000": "50000"}
    assert intake.places["visits"] == {"shardId-000000000000": "60000"}
    ended = [batch("frames", 0, [9_000], 9_000, SHARD_END), batch("visits", 0, [], 30_000)]
    intake.take(ended, {("visits", "shardId-000000000000"), ("frames", "shardId-000000000001")})
    assert intake.places["frames"] == {"shardId-000000000000": "50000"}, "9000 waits for a child"
    intake.take(
        [batch("frames", 1, [], 30_000)],
        {("visits", "shardId-000000000000"), ("frames", "shardId-000000000001")},
    )
    log.close()
    log, intake = opened(tmp_path)
    assert intake.places["frames"]["shardId-000000000000"] == SHARD_END
    assert [r.log_time_ms for r in log.scan("frames")] == [5_000, 9_000]
    log.close()


def test_a_folder_takes_in_one_log_only(tmp_path: Path) -> None:
    log, _ = opened(tmp_path / "a")
    with pytest.raises(UsageError, match="takes in kinesis://eu-central-1/shop"):
        Intake(log, "kinesis://eu-central-1/other")
    log.close()
    plain = EmbeddedLog(tmp_path / "b", SetClock(1))
    plain.append("frames", worlds.captured("v", "pre", 0, 1, 0.2))
    with pytest.raises(UsageError, match="not taken in from Kinesis"):
        Intake(plain, "kinesis://eu-central-1/shop")
    plain.close()


def test_a_new_folders_time_begins_before_what_waits_on_kinesis(tmp_path: Path) -> None:
    log, intake = opened(tmp_path)
    intake.begin([batch("frames", 0, [5_000], 20_000), batch("visits", 0, [], 20_000)])
    log.append("loops", worlds.loop())
    intake.take([], READING)
    assert [(r.stream, r.log_time_ms) for r in log.scan()] == [("loops", 5_000), ("frames", 5_000)]
    log.close()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 10**6))
def test_killed_anywhere_the_file_holds_each_record_once(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311
    folder = tmp_path_factory.mktemp("intake")
    names = [ADDRESS.stream_name(stream) for stream in INTAKE_STREAMS]
    client = MadeUpStreams(names)
    written: Counter[tuple[str, str, bytes]] = Counter()
    for run in range(6):
        for number in range(chance.randrange(8)):
            stream, key = chance.choice(INTAKE_STREAMS), f"k{chance.randrange(4)}"
            value = b"%d/%d" % (run, number)
            client.streams[ADDRESS.stream_name(stream)].put(key, value)
            written[stream, key, value] += 1
        made_up = client.streams[chance.choice(names)]
        chance.choice([made_up.split, made_up.merge])(chance.randrange(4))
        steps = Steps()
        log, intake = opened(folder, steps)
        source = KinesisSource(client, ADDRESS, intake.places, FAST)
        steps.left = chance.randrange(12) if run < 5 else None
        try:
            for _ in range(10 if run < 5 else 60):
                intake.take(source.poll(0.0), source.reading)
        except Killed:
            pass
        finally:
            source.close()
            log.close()
    log = EmbeddedLog(folder)
    rows = list(log.scan())
    log.close()
    assert Counter((row.stream, row.key, row.value) for row in rows) == written
    assert [row.log_time_ms for row in rows] == sorted(row.log_time_ms for row in rows)
    for key in {row.key for row in rows}:
        for stream in INTAKE_STREAMS:
            mine = [r.value for r in rows if r.key == key and r.stream == stream]
            assert mine == sorted(mine, key=lambda v: tuple(map(int, v.split(b"/"))))


# The other side


def publisher(log: EmbeddedLog, client: MadeUpStreams) -> Publisher:
    def read_behind(places: Places) -> KinesisSource:
        return KinesisSource(client, ADDRESS, places, FAST)

    sink = KinesisSink(client, ADDRESS, 50, pause=lambda _s: None, certain=True)
    return Publisher(log, sink, read_behind)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.kinesis_publisher._SETTLE_S", 0.0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_killed_or_broken_off_anywhere_kinesis_holds_each_record_once(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311
    folder = tmp_path_factory.mktemp("publisher")
    client = MadeUpStreams([ADDRESS.stream_name(stream) for stream in PUBLISHED_STREAMS])
    for run in range(6):
        steps = Steps()
        log = EmbeddedLog(folder, SetClock(worlds.START_MS), "NORMAL", steps)
        for number in range(chance.randrange(6)):
            stream = chance.choice(("decisions", "outcomes", "alarms", "greetings"))
            key = chance.choice(("a", "b", ""))
            log.append_bytes(
                [(stream, key, b"%d/%d" % (run, number)), ("frames", "k", b"not mine")]
            )
        steps.left = chance.randrange(10) if run < 5 else None
        client.fail_next = chance.choices(["", "before", "after"], k=3 if run < 5 else 0)
        made_up = chance.choice(list(client.streams.values()))
        chance.choice([made_up.split, made_up.merge])(0)
        sender = publisher(log, client)
        try:
            for _ in range(6):
                try:
                    sender.step()
                except LogUnavailable:
                    continue
        except Killed:
            pass
        if run < 5:
            log.close()
    mine = [row for row in log.scan() if row.stream in PUBLISHED_STREAMS]
    log.close()
    there: list[Received] = []
    source = KinesisSource(client, ADDRESS, {stream: {} for stream in PUBLISHED_STREAMS}, FAST)
    for _ in range(40):
        there += [record for look in source.poll(0.0) for record in look.records]
    source.close()
    assert Counter((r.stream, r.key, r.data) for r in there) == Counter(
        (row.stream, row.key, row.value) for row in mine
    )
    for place in {(row.stream, row.key) for row in mine}:
        assert [r.data for r in there if (r.stream, r.key) == place] == [
            row.value for row in mine if (row.stream, row.key) == place
        ]


def test_what_is_too_large_for_kinesis_is_a_dead_letter(tmp_path: Path) -> None:
    client = MadeUpStreams([ADDRESS.stream_name(stream) for stream in PUBLISHED_STREAMS])
    log = EmbeddedLog(tmp_path, SetClock(worlds.START_MS))
    log.append_bytes([("policies", "greeting/main", b"x" * RECORD_BYTES), ("alarms", "a", b"1")])
    sender = publisher(log, client)
    while sender.step():
        pass
    (row,) = log.scan("dead-letters")
    letter = decode(row.value)
    assert (letter.reason, letter.stream, letter.offset, letter.raw) == (
        "too_large",
        "policies",
        1,
        b"",
    )
    assert client.streams[ADDRESS.stream_name("alarms")].newest["Data"] == b"1"
    assert client.streams[ADDRESS.stream_name("dead-letters")].newest["Data"] == row.value
    log.close()
