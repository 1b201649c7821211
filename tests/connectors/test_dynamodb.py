"""Tables in DynamoDB: each record once, under repeats, throttling, kills and erasures."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

import judged
from connectors.aws_clients import AwsAccess, AwsClients
from connectors.dynamodb_feed import STREAMS, DynamoFeed
from connectors.dynamodb_items import INDEX, KINDS, Item, item_of, kiosk_day_key, plain, visit_key
from connectors.dynamodb_tables import DynamoTables, first_of
from connectors.embedded_log import EmbeddedLog
from connectors.persons import Erased
from local_aws_fixture import local_clients
from schemas.codec import decode, encode
from schemas.erasure import id_hash
from schemas.errors import CloudError
from schemas.operations import ErasureRequested

COUNT = 40
DAYS = 30


@pytest.fixture(scope="module")
def clients() -> Iterator[AwsClients]:
    with local_clients() as (_, made):
        yield made


@pytest.fixture
def tables(clients: AwsClients, request: pytest.FixtureRequest) -> DynamoTables:
    made = DynamoTables(clients.client("dynamodb"), f"t{abs(hash(request.node.name)) % 10**9}")
    assert len(made.create()) == 3
    return made


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EmbeddedLog]:
    written = judged.write(tmp_path / "shop", judged.config(), COUNT)
    yield written
    written.close()


def wanted(log: EmbeddedLog) -> dict[tuple[str, str], Item]:
    """Return what the tables must hold of a log."""
    found = [item_of(decode(row.value), DAYS) for row in log.scan("decisions", "outcomes")]
    return first_of([item for item in found if item is not None])


def held(tables: DynamoTables) -> dict[tuple[str, str], Item]:
    """Return what they hold."""
    return {(kind, item["decision_id"]["S"]): item for kind in KINDS for item in tables.items(kind)}


def as_plain(items: dict[tuple[str, str], Item]) -> dict[tuple[str, str], dict[str, Any]]:
    return {place: plain(item) for place, item in items.items()}


def test_the_tables_hold_what_the_log_does(log: EmbeddedLog, tables: DynamoTables) -> None:
    fed = DynamoFeed(log, tables, DAYS).run_once()
    assert (fed.new, fed.held, fed.unreadable) == (2 * COUNT, 0, 0)
    assert as_plain(held(tables)) == as_plain(wanted(log))
    assert tables.create() == []


def test_an_item_is_found_by_visit_and_by_kiosk_and_day(
    log: EmbeddedLog, tables: DynamoTables
) -> None:
    DynamoFeed(log, tables, DAYS).run_once()
    decisions = [decode(row.value).choice for row in log.scan("decisions")]
    choice = decisions[7]
    visit = choice.visit_id or choice.decision_id
    (item,) = tables.query(
        "outcomes",
        KeyConditionExpression="visit = :visit",
        ExpressionAttributeValues={":visit": {"S": visit_key(visit)}},
    )
    told = plain(item)
    assert (told["decision_id"], told["action_id"]) == (choice.decision_id, choice.action_id)
    assert told["expires_at_s"] == choice.decided_at_ms // 1_000 + DAYS * 86_400
    key = kiosk_day_key(str(choice.kiosk_id), str(told["day"]))
    found = tables.query(
        "decisions",
        IndexName=INDEX,
        KeyConditionExpression="kiosk_day = :key AND decided_at_ms BETWEEN :a AND :b",
        ExpressionAttributeValues={
            ":key": {"S": key},
            ":a": {"N": str(decisions[3].decided_at_ms)},
            ":b": {"N": str(decisions[5].decided_at_ms)},
        },
    )
    assert [item["decision_id"]["S"] for item in found] == [d.decision_id for d in decisions[3:6]]


def test_a_second_run_takes_only_what_is_new(log: EmbeddedLog, tables: DynamoTables) -> None:
    DynamoFeed(log, tables, DAYS).run_once()
    again = DynamoFeed(log, tables, DAYS).run_once()
    assert (again.new, again.held) == (0, 0)
    decision = decode(next(iter(log.scan("decisions"))).value)
    other = dataclasses.replace(
        decision, choice=dataclasses.replace(decision.choice, decision_id="new-one")
    )
    log.append("decisions", other)
    third = DynamoFeed(log, tables, DAYS).run_once()
    assert (third.new, third.held) == (1, 0)


def test_of_two_with_one_id_the_first_holds(log: EmbeddedLog, tables: DynamoTables) -> None:
    first = decode(next(iter(log.scan("decisions"))).value)
    later = dataclasses.replace(
        first, presentation=dataclasses.replace(first.presentation, text="another text")
    )
    DynamoFeed(log, tables, DAYS).run_once()
    # In a batch of its own, and in one batch with the first.
    log.append("decisions", later)
    fed = DynamoFeed(log, tables, DAYS).run_once()
    assert (fed.new, fed.held) == (0, 1)
    one, two = (item_of(value, DAYS) for value in (first, later))
    assert one is not None
    assert two is not None
    assert tables.put([one, two]) == 0
    item = held(tables)["decisions", first.choice.decision_id]
    assert item["greeting_text"]["S"] == first.presentation.text


class Dying:
    """A client that is killed at a call, before it or after it."""

    def __init__(self, client: Any, calls: int, *, after: bool) -> None:
        self._client, self._left, self._after = client, calls, after
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def dying(**request: Any) -> Any:
            with self._lock:
                self._left -= 1
                dead = self._left < 0
                last = self._left == 0
            if dead or (last and not self._after):
                raise KeyboardInterrupt
            answer = method(**request)
            if last:
                raise KeyboardInterrupt
            return answer

        return dying


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("calls", [1, 30, 81, 83])
def test_killed_at_any_call_it_loses_and_repeats_nothing(
    log: EmbeddedLog, tables: DynamoTables, clients: AwsClients, calls: int, after: bool
) -> None:
    dying = Dying(clients.client("dynamodb"), calls, after=after)
    with pytest.raises(KeyboardInterrupt):
        while True:
            DynamoFeed(log, DynamoTables(dying, tables.prefix), DAYS).run_once()
    DynamoFeed(log, tables, DAYS).run_once()
    assert as_plain(held(tables)) == as_plain(wanted(log))
    end = log.end().position + 1
    last = next(row for row in reversed(list(log.scan(*STREAMS))))
    places = tables.positions("tables")
    assert set(places.values()) == {last.position + 1}
    assert end >= last.position


class Throttling:
    """A client of whose calls most are throttled, and of whose batches a part is left over."""

    def __init__(self, client: Any, share: int) -> None:
        self._client, self._share, self.calls = client, share, 0
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def throttled(**request: Any) -> Any:
            with self._lock:
                self.calls += 1
                refused = self.calls % self._share != 0
            if name == "batch_write_item" and refused:
                # All but the first of the batch is left over, with a 200.
                ((table, batch),) = request["RequestItems"].items()
                answer = method(RequestItems={table: batch[:1]})
                return {**answer, "UnprocessedItems": {table: batch[1:]} if batch[1:] else {}}
            if refused:
                error = {"Error": {"Code": "ProvisionedThroughputExceededException"}}
                raise ClientError(error, name)
            return method(**request)

        return throttled


def test_throttled_it_takes_longer_and_loses_nothing(
    log: EmbeddedLog, tables: DynamoTables, clients: AwsClients
) -> None:
    pauses: list[float] = []
    slow = Throttling(clients.client("dynamodb"), 3)
    patient = DynamoTables(slow, tables.prefix, 600.0, pauses.append)
    fed = DynamoFeed(log, patient, DAYS).run_once()
    assert fed.new == 2 * COUNT
    assert len(pauses) > COUNT
    assert as_plain(held(tables)) == as_plain(wanted(log))


def test_throttled_for_too_long_it_ends_and_the_next_run_goes_on(
    log: EmbeddedLog, tables: DynamoTables, clients: AwsClients
) -> None:
    waited: list[float] = []
    never = Throttling(clients.client("dynamodb"), 10**9)
    with pytest.raises(CloudError, match="Nothing is lost") as refused:
        DynamoFeed(log, DynamoTables(never, tables.prefix, 60.0, waited.append), DAYS).run_once()
    assert refused.value.action == "retry"
    assert 60.0 <= sum(waited) < 75.0
    assert DynamoFeed(log, tables, DAYS).run_once().new == 2 * COUNT


def test_who_was_forgotten_goes_and_does_not_come_again(
    log: EmbeddedLog, tables: DynamoTables, clients: AwsClients
) -> None:
    DynamoFeed(log, tables, DAYS).run_once()
    key = bytes(range(32))
    choices = [decode(row.value).choice for row in log.scan("decisions")]
    gone = {choices[3].decision_id, choices[9].decision_id}
    hashes = [id_hash(key, text) for text in gone]
    # As on Kafka or Kinesis, where nobody can take a record out of the log.
    log.append_all([("erasures", ErasureRequested(each, "decision", 5)) for each in hashes])
    partly = DynamoTables(
        Throttling(clients.client("dynamodb"), 2), tables.prefix, 600.0, _no_pause
    )
    fed = DynamoFeed(log, partly, DAYS, lambda: Erased(key, hashes)).run_once()
    assert fed.erased == 4
    left = {decision_id for _, decision_id in held(tables)}
    assert left == {choice.decision_id for choice in choices} - gone
    # A new table, filled from the same log: they are left out.
    fresh = DynamoTables(clients.client("dynamodb"), f"{tables.prefix}x")
    fresh.create()
    DynamoFeed(log, fresh, DAYS, lambda: Erased(key, hashes)).run_once()
    assert {decision_id for _, decision_id in held(fresh)} == left


def _no_pause(_seconds: float) -> None:
    pass


def test_a_person_is_found_by_the_keyed_hash_alone(log: EmbeddedLog, tables: DynamoTables) -> None:
    decision = decode(next(iter(log.scan("decisions"))).value)
    known = dataclasses.replace(
        decision,
        choice=dataclasses.replace(decision.choice, decision_id="theirs", subject_hash="a1b2"),
    )
    item = item_of(known, DAYS)
    assert item is not None
    tables.put([item])
    assert tables.erase(Erased(b"k" * 32, ["a1b2"])) == 1
    assert held(tables) == {}


def test_bytes_that_are_no_record_are_counted_and_the_others_go_on(
    log: EmbeddedLog, tables: DynamoTables
) -> None:
    first = next(iter(log.scan("decisions")))
    log.append_bytes([("decisions", "k", b"torn"), ("outcomes", "k", first.value[:-3])])
    fed = DynamoFeed(log, tables, DAYS).run_once()
    assert (fed.new, fed.unreadable) == (2 * COUNT, 2)
    assert len(encode(decode(first.value))) == len(first.value)


def test_positions_of_kinesis_fit(tables: DynamoTables) -> None:
    places = {("decisions", 0): 10**55 + 7, ("outcomes", 12): 3}
    tables.set_positions("shop", places)
    assert tables.positions("shop") == places
    assert tables.positions("another") == {}


def test_missing_tables_say_what_to_do(log: EmbeddedLog, clients: AwsClients) -> None:
    nowhere = DynamoTables(clients.client("dynamodb"), "nowhere")
    with pytest.raises(CloudError, match="ResourceNotFoundException"):
        DynamoFeed(log, nowhere, DAYS).run_once()


def test_a_server_that_is_away_is_waited_for_and_then_told(log: EmbeddedLog) -> None:
    access = AwsAccess("us-east-1", "http://127.0.0.1:1", tries=1, connect_timeout_ms=200)
    away = AwsClients(access)
    pauses: list[float] = []
    with pytest.raises(CloudError, match="Nothing is lost"):
        tables = DynamoTables(away.client("dynamodb"), "pho", 5.0, pauses.append)
        DynamoFeed(log, tables, DAYS).run_once()
    assert len(pauses) > 3
    away.close()
