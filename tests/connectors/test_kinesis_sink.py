"""What goes to Kinesis: all of it, each key's records in order, whatever a call refuses."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.kinesis_address import KinesisAddress
from connectors.kinesis_aggregation import MAGIC, Part, pack, unpack
from connectors.kinesis_sink import (
    CALL_BYTES,
    CALL_RECORDS,
    RECORD_BYTES,
    KinesisSink,
    partition_key,
)
from schemas.errors import LogUnavailable, UsageError

ADDRESS = KinesisAddress("eu-central-1", "shop")


class MadeUp:
    """A Kinesis in memory that refuses records and calls by seed."""

    def __init__(self, refused: float = 0.0, failed: float = 0.0, lost: float = 0.0, seed: int = 1):
        self.records: list[tuple[str, bytes]] = []
        self.calls: list[int] = []
        self.refused, self.failed, self.lost = refused, failed, lost
        self._chance = random.Random(seed)  # noqa: S311

    def put_records(self, StreamName: str, Records: list[dict[str, Any]]) -> dict[str, Any]:
        from botocore.exceptions import ClientError, ConnectionClosedError

        assert StreamName == "shop-frames"
        assert 0 < len(Records) <= CALL_RECORDS
        sizes = [len(r["Data"]) + len(r["PartitionKey"].encode()) for r in Records]
        assert max(sizes) <= RECORD_BYTES
        assert sum(sizes) <= CALL_BYTES
        assert all(0 < len(r["PartitionKey"]) <= 256 for r in Records)
        self.calls.append(len(Records))
        if self._chance.random() < self.failed:
            told = {"Error": {"Code": "InternalFailureException", "Message": "no"}}
            raise ClientError(told, "PutRecords")
        answers: list[dict[str, Any]] = []
        for record in Records:
            if self._chance.random() < self.refused:
                answers.append({"ErrorCode": "ProvisionedThroughputExceededException"})
                continue
            self.records.append((record["PartitionKey"], record["Data"]))
            number = str(10**55 + len(self.records))
            answers.append({"ShardId": "shardId-000000000003", "SequenceNumber": number})
        if self._chance.random() < self.lost:
            raise ConnectionClosedError(endpoint_url="http://nowhere")
        failed = sum("ErrorCode" in answer for answer in answers)
        return {"Records": answers, "FailedRecordCount": failed}

    def parts(self) -> list[Part]:
        """Return what stands there, packed records taken apart."""
        found = []
        for key, data in self.records:
            found += unpack(data) or [Part(key, data)]
        return found


def sink(client: MadeUp, timeout_ms: int = 60_000) -> KinesisSink:
    return KinesisSink(client, ADDRESS, timeout_ms, pause=lambda _s: None)


def by_key(parts: list[Part]) -> dict[str, list[Part]]:
    found = defaultdict(list)
    for part in parts:
        found[part.key].append(part)
    return dict(found)


keys = st.sampled_from(["a", "b", "c", "", "k" * 300, "ünï", "a\nb"])
datas = st.binary(max_size=30) | st.just(MAGIC + b"0123456789abcdef0123") | st.just(b"\xc3\x01x")
parts_of_a_log = st.lists(st.builds(Part, keys, datas), max_size=60)


@settings(max_examples=80, deadline=None)
@given(parts_of_a_log, st.floats(0.0, 0.8), st.floats(0.0, 0.5), st.integers(0, 1000))
def test_each_keys_records_stand_once_and_in_order(
    parts: list[Part], refused: float, failed: float, seed: int
) -> None:
    client = MadeUp(refused, failed, seed=seed)
    places = sink(client).put("frames", parts)
    assert by_key(client.parts()) == by_key(parts)
    assert len(places) == len(parts)
    at = {(p.sequence, p.nth): part for p, part in zip(places, parts, strict=True)}
    stands = {
        (10**55 + number, nth): part
        for number, (key, data) in enumerate(client.records, 1)
        for nth, part in enumerate(unpack(data) or [Part(key, data)])
    }
    assert {place: part.data for place, part in at.items()} == {
        place: part.data for place, part in stands.items()
    }


@settings(max_examples=60, deadline=None)
@given(parts_of_a_log, st.floats(0.0, 0.6), st.floats(0.01, 0.6), st.integers(0, 1000))
def test_an_answer_that_is_lost_repeats_records_but_passes_none(
    parts: list[Part], refused: float, lost: float, seed: int
) -> None:
    numbered = [Part(p.key, b"%d:" % n + p.data) for n, p in enumerate(parts)]
    client = MadeUp(refused, 0.0, lost, seed)
    sink(client).put("frames", numbered)
    for key, wanted in by_key(numbered).items():
        first: list[bytes] = []
        for part in by_key(client.parts())[key]:
            if part.data not in first:
                first.append(part.data)
        assert first == [part.data for part in wanted]


def test_a_thousand_keys_go_in_calls_of_five_hundred() -> None:
    client = MadeUp()
    sink(client).put("frames", [Part(f"k{n}", b"x") for n in range(1_000)])
    assert client.calls == [500, 500]


def test_records_of_one_key_go_packed_together() -> None:
    client = MadeUp()
    sink(client).put("frames", [Part("loop", b"x" * 100) for _ in range(1_000)])
    assert sum(client.calls) <= 4
    assert len(client.parts()) == 1_000


def test_a_call_holds_no_more_than_five_megabytes() -> None:
    client = MadeUp()
    sink(client).put("frames", [Part(f"k{n}", b"x" * 900_000) for n in range(12)])
    assert client.calls == [5, 5, 2]


def test_a_record_that_is_too_large_is_refused_before_any_is_written() -> None:
    client = MadeUp()
    with pytest.raises(UsageError, match="too large for Kinesis"):
        sink(client).put("frames", [Part("a", b"x"), Part("b", b"x" * RECORD_BYTES)])
    assert not client.calls


def test_what_is_not_taken_in_time_is_said() -> None:
    client = MadeUp(refused=1.0)
    with pytest.raises(LogUnavailable, match="2 records were not taken by shop-frames"):
        sink(client, timeout_ms=20).put("frames", [Part("a", b"1"), Part("b", b"2")])


def test_a_hot_shard_does_not_hold_up_the_others() -> None:
    class Hot(MadeUp):
        def put_records(self, StreamName: str, Records: list[dict[str, Any]]) -> dict[str, Any]:
            told = super().put_records(StreamName, Records)
            for number, record in enumerate(Records):
                if record["PartitionKey"].startswith("hot") and len(self.calls) < 5:
                    told["Records"][number] = {"ErrorCode": "InternalFailure"}
            return told

    client = Hot()
    parts = [Part(f"hot{n}", b"") for n in range(600)] + [Part(f"cool{n}", b"") for n in range(300)]
    sink(client).put("frames", parts)
    cool_after = max(n for n, (key, _) in enumerate(client.records) if key.startswith("cool"))
    assert cool_after < 600 + 300 + 500


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("ResourceNotFoundException", "pho topics create --log kinesis://eu-central-1/shop"),
        ("AccessDeniedException", "kinesis:PutRecords"),
        ("ExpiredTokenException", "Sign in again"),
    ],
)
def test_what_waiting_cannot_mend_is_said_at_once(code: str, says: str) -> None:
    from botocore.exceptions import ClientError

    class Refusing(MadeUp):
        def put_records(self, StreamName: str, Records: list[dict[str, Any]]) -> dict[str, Any]:
            raise ClientError({"Error": {"Code": code, "Message": "no"}}, "PutRecords")

    with pytest.raises(LogUnavailable) as caught:
        sink(Refusing()).put("frames", [Part("a", b"1")])
    assert says in str(caught.value)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.builds(Part, st.text(max_size=300), st.binary(max_size=50)), min_size=1))
def test_what_is_packed_comes_out_again(parts: list[Part]) -> None:
    assert unpack(pack(parts)) == parts


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80))
def test_torn_bytes_are_one_record_as_they_are(noise: bytes) -> None:
    assert unpack(noise) is None
    assert unpack(MAGIC + noise) is None
    whole = pack([Part("a", b"1", (("t", "v"),)), Part("b", b"2")])
    assert unpack(whole[:-1]) is None


def test_a_key_that_kinesis_refuses_leads_to_one_shard_all_the_same() -> None:
    assert partition_key("visit-1") == "visit-1"
    for key in ("", "k" * 257, "a\x00"):
        assert 0 < len(partition_key(key)) <= 256
        assert partition_key(key) == partition_key(key)
