"""What comes from Kinesis: every record once, each key's in order, whatever happens to shards."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.kinesis_address import KinesisAddress
from connectors.kinesis_aggregation import Part, pack
from connectors.kinesis_clock import ServerClock
from connectors.kinesis_shards import LATEST, SHARD_END, Shard, ShardTree
from connectors.kinesis_source import KinesisSource, Received
from made_up_kinesis import MadeUpKinesis
from schemas.errors import LogUnavailable

ADDRESS = KinesisAddress("eu-central-1", "shop")
FAST = 1e6

actions = st.lists(
    st.tuples(st.sampled_from(["put", "put", "put", "split", "merge", "read", "restart"]))
    | st.tuples(st.just("put"), st.integers(0, 9)),
    max_size=40,
)


def source(client: Any, places: dict[str, str] | None = None, **options: Any) -> KinesisSource:
    return KinesisSource(client, ADDRESS, {"frames": places or {}}, FAST, **options)


def read_to_end(reader: KinesisSource, found: list[Received]) -> None:
    """Read until every shard is done or gives nothing more."""
    quiet = 0
    while quiet < 3:
        try:
            batches = reader.poll(0.01)
        except LogUnavailable:
            continue
        quiet = quiet + 1 if not any(batch.records for batch in batches) else 0
        found += [record for batch in batches for record in batch.records]


@settings(max_examples=40, deadline=None)
@given(actions, st.integers(0, 5), st.integers(0, 7))
def test_every_record_comes_once_and_each_keys_in_order(
    steps: list[tuple[Any, ...]], expire_every: int, throttle_every: int
) -> None:
    client = MadeUpKinesis()
    written: defaultdict[str, list[bytes]] = defaultdict(list)
    found: list[Received] = []
    reader = source(client)
    client.expire_every = expire_every and expire_every + 2
    client.throttle_every = throttle_every and throttle_every + 2
    try:
        for number, step in enumerate(steps):
            if step[0] == "put":
                key = f"k{step[1] if len(step) > 1 else number % 10}"
                client.put(key, b"%d" % number)
                written[key].append(b"%d" % number)
            elif step[0] == "split":
                client.split(number)
            elif step[0] == "merge":
                client.merge(number)
            elif step[0] == "read":
                try:
                    found += [record for batch in reader.poll(0.0) for record in batch.records]
                except LogUnavailable:
                    pass
            else:
                places = reader.places["frames"]
                reader.close()
                reader = source(client, places)
        read_to_end(reader, found)
    finally:
        reader.close()
    got: defaultdict[str, list[bytes]] = defaultdict(list)
    for record in found:
        got[record.key].append(record.data)
    assert got == written


def test_a_child_waits_until_both_its_parents_are_read() -> None:
    tree = ShardTree()
    tree.learn([Shard("a"), Shard("b"), Shard("c", ("a", "b"))])
    assert set(tree.readable()) == {"a", "b"}
    tree.end("a")
    assert set(tree.readable()) == {"b"}
    tree.end("b")
    assert set(tree.readable()) == {"c"}


def test_a_parent_that_was_trimmed_holds_up_nobody() -> None:
    tree = ShardTree({"a": SHARD_END})
    tree.learn([Shard("c", ("a",)), Shard("d", ("z",))], all_of_them=True)
    assert set(tree.readable()) == {"c", "d"}
    assert tree.places == {}


def test_who_begins_at_the_end_sees_only_what_comes_then() -> None:
    client = MadeUpKinesis()
    client.put("a", b"old")
    client.split(0)
    client.put("a", b"older than the reader")
    reader = source(client, start=LATEST)
    client.put("a", b"new")
    client.split(0)
    client.put("a", b"newer")
    found: list[Received] = []
    read_to_end(reader, found)
    reader.close()
    assert [record.data for record in found] == [b"new", b"newer"]


def test_packed_records_are_taken_apart_and_keep_their_place() -> None:
    client = MadeUpKinesis()
    parts = [Part("a", b"1"), Part("b" * 300, b"2"), Part("", b"3", (("t", "v"),))]
    client.put("a", pack(parts))
    reader = source(client)
    (batch,) = reader.poll(0.1)
    reader.close()
    assert [(r.key, r.data, r.nth, r.tags) for r in batch.records] == [
        (part.key, part.data, nth, part.tags) for nth, part in enumerate(parts)
    ]


def test_time_never_goes_back_within_a_shard_nor_from_parent_to_child() -> None:
    client = MadeUpKinesis()
    for number in range(4):
        client.put("a", b"%d" % number)
    first = client.shards[0].records
    swapped = first[0]["ApproximateArrivalTimestamp"], first[3]["ApproximateArrivalTimestamp"]
    first[3]["ApproximateArrivalTimestamp"], first[0]["ApproximateArrivalTimestamp"] = swapped
    client.split(0)
    client.put("a", b"late")
    child = client.open[0].records or client.open[1].records
    child[0]["ApproximateArrivalTimestamp"] = swapped[0]
    reader = source(client)
    found: list[Received] = []
    read_to_end(reader, found)
    reader.close()
    times = [record.arrival_ms for record in found]
    assert len(times) == 5
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("ResourceNotFoundException", "pho topics create"),
        ("AccessDeniedException", "kinesis:GetRecords"),
        ("InvalidArgumentException", "made anew"),
    ],
)
def test_what_waiting_cannot_mend_is_said_at_once(code: str, says: str) -> None:
    from botocore.exceptions import ClientError

    class Refusing(MadeUpKinesis):
        def get_records(self, ShardIterator: str, **_request: Any) -> dict[str, Any]:
            raise ClientError({"Error": {"Code": code, "Message": "no"}}, "GetRecords")

    reader = source(Refusing())
    with pytest.raises(LogUnavailable) as caught:
        reader.poll(0.1)
    reader.close()
    assert says in str(caught.value)


def test_who_is_throttled_asks_more_seldom() -> None:
    client = MadeUpKinesis()
    client.throttle_every = 1
    reader = KinesisSource(client, ADDRESS, {"frames": {}}, 50.0)
    until_s = time.monotonic() + 0.6
    while time.monotonic() < until_s:
        with pytest.raises(LogUnavailable):
            while time.monotonic() < until_s:
                reader.poll(0.05)
            raise LogUnavailable("time is up")  # noqa: EM101
    reader.close()
    assert reader.throttled == client.reads
    assert client.reads < 15, "50 a second were allowed: 30 looks"


@given(st.integers(-5_000, 5_000), st.lists(st.tuples(st.integers(0, 400), st.integers(1, 80))))
def test_the_servers_clock_is_known_better_with_each_answer_and_never_told_too_late(
    ahead_ms: int, answers: list[tuple[int, int]]
) -> None:
    now = [1_700_000_000_000]
    clock = ServerClock(lambda: now[0])
    width = 10**9
    for wait_ms, takes_ms in answers:
        now[0] += wait_ms
        sent_ms = now[0]
        now[0] += takes_ms
        server_ms = sent_ms + takes_ms // 2 + ahead_ms
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(server_ms // 1_000))
        clock.note(date, sent_ms, now[0])
        low_ms, high_ms = clock.ahead_ms
        assert low_ms <= ahead_ms <= high_ms
        assert high_ms - low_ms <= width
        width = high_ms - low_ms
        assert clock.at(now[0]) <= now[0] + ahead_ms
