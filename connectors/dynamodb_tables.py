"""Decisions and outcomes in DynamoDB: each once, whatever is repeated, killed or throttled.

A put holds only where no item has the key (``attribute_not_exists``), so of several records with
one id the first in the log holds, and a repeat changes nothing. BatchWriteItem knows no
conditions: items go one by one, several at once; deletions, which are harmless to repeat, go in
batches. How far the log was read is written behind the items: killed in between, the next run
puts again what is there already.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from connectors.aws_errors import call
from connectors.dynamodb_items import KINDS, POSITIONS, TTL, Item, definitions
from connectors.persons import Erased
from schemas.errors import CloudError

CONCURRENCY = 16
"""Puts at once. Each takes some 3 to 10 ms: so 2,000 to 5,000 a second from one process."""
PATIENCE_S = 600.0
"""How long a throttled call is tried again before the run ends; nothing is lost by that."""
_BATCH_MAX = 25
"""Deletions in one BatchWriteItem (its own limit)."""
_LONGEST_PAUSE_S = 10.0
_CONDITION = "attribute_not_exists(decision_id)"
_CURE = "Nothing is lost: start again when it answers; the run goes on where it was"
Places = dict[tuple[str, int], int]


class DynamoTables:
    """The tables of one prefix.

    Parameters
    ----------
    client : boto3 client of DynamoDB
        Made by `connectors.aws_clients`.
    prefix : str
        Stands before the tables' names: ``pho`` means ``pho-decisions`` and so on.
    patience_s : float
        How long a throttled call is tried again, seconds.
    sleep : callable
        Waits so many seconds.
    """

    def __init__(
        self,
        client: Any,
        prefix: str,
        patience_s: float = PATIENCE_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.prefix = prefix
        self._client = client
        self._patience_s = patience_s
        self._sleep = sleep

    def create(self) -> list[str]:
        """Make the tables that are not there, as the template does; return their names.

        Raises
        ------
        CloudError
            The service does not take it.
        """
        made = []
        for request in definitions(self.prefix):
            name = request["TableName"]
            if self._status(name):
                continue
            self._call("CreateTable", **request)
            pauses = _pauses(self._patience_s)
            while self._status(name) != "ACTIVE":
                self._rest(pauses, CloudError(f"{name} is not active yet", "Start again", "retry"))
            if name != self._name(POSITIONS):
                ttl = {"AttributeName": TTL, "Enabled": True}
                self._call("UpdateTimeToLive", TableName=name, TimeToLiveSpecification=ttl)
            made.append(name)
        return made

    def put(self, items: Sequence[tuple[str, Item]]) -> int:
        """Write items that are not there yet; return how many were new.

        Parameters
        ----------
        items : sequence of (str, Item)
            Table (``decisions``, ``outcomes``) and item, in the order of the log: of two with one
            key the first holds.

        Raises
        ------
        CloudError
            One could not be written. Others of them may have been; to put all again is harmless.
        """
        first: dict[tuple[str, str, str], tuple[str, Item]] = {}
        for kind, item in items:
            first.setdefault((kind, item["visit"]["S"], item["decision_id"]["S"]), (kind, item))
        if not first:
            return 0
        workers = min(CONCURRENCY, len(first))
        with ThreadPoolExecutor(workers, thread_name_prefix="dynamodb") as pool:
            return sum(pool.map(self._put_one, first.values()))

    def positions(self, feed: str) -> Places:
        """Return the next position to read of each (stream, partition); empty: none was read.

        Raises
        ------
        CloudError
            The service gave no answer, or the table is missing.
        """
        found: Places = {}
        for item in self._query(
            TableName=self._name(POSITIONS),
            KeyConditionExpression="feed = :feed",
            ExpressionAttributeValues={":feed": {"S": feed}},
            ConsistentRead=True,
        ):
            stream, _, partition = item["place"]["S"].rpartition("/")
            found[stream, int(partition)] = int(item["following"]["S"])
        return found

    def set_positions(self, feed: str, places: Places) -> None:
        """Remember how far the log was read, behind the items.

        A position of Kinesis has 56 digits, more than DynamoDB's numbers: it is kept as text.
        """
        for (stream, partition), following in places.items():
            item = {
                "feed": {"S": feed},
                "place": {"S": f"{stream}/{partition}"},
                "following": {"S": str(following)},
            }
            self._call("PutItem", TableName=self._name(POSITIONS), Item=item)

    def items(self, kind: str, *names: str) -> Iterator[Item]:
        """Yield all items of a table, with the attributes named or all.

        Reads the whole table: for checks and erasures, which are rare.
        """
        request: dict[str, Any] = {"TableName": self._name(kind), "ConsistentRead": True}
        if names:
            # Written as #0, #1 …, since a name may be a reserved word of DynamoDB.
            request["ProjectionExpression"] = ", ".join(f"#{n}" for n in range(len(names)))
            request["ExpressionAttributeNames"] = {f"#{n}": each for n, each in enumerate(names)}
        yield from self._pages("Scan", request)

    def query(self, kind: str, **request: Any) -> list[Item]:
        """Return what a `Query` of a table finds, all its pages."""
        return list(self._query(TableName=self._name(kind), **request))

    def erase(self, erased: Erased) -> int:
        """Delete every item of whoever was forgotten; return how many."""
        count = 0
        for kind in KINDS:
            names = ("visit", "decision_id", "visit_id", "subject_hash")
            keys = [
                {"visit": item["visit"], "decision_id": item["decision_id"]}
                for item in self.items(kind, *names)
                if _is_erased(item, erased)
            ]
            self._delete(kind, keys)
            count += len(keys)
        return count

    def _put_one(self, place: tuple[str, Item]) -> int:
        kind, item = place
        try:
            self._call(
                "PutItem",
                TableName=self._name(kind),
                Item=item,
                ConditionExpression=_CONDITION,
            )
        except CloudError as error:
            if error.code == "ConditionalCheckFailedException":
                return 0
            raise
        return 1

    def _delete(self, kind: str, keys: list[Item]) -> None:
        name = self._name(kind)
        waiting = [{"DeleteRequest": {"Key": key}} for key in keys]
        pauses = _pauses(self._patience_s)
        while waiting:
            batch, waiting = waiting[:_BATCH_MAX], waiting[_BATCH_MAX:]
            answer = self._call("BatchWriteItem", RequestItems={name: batch})
            # Part of a batch may be refused for want of capacity, with a 200.
            if left := answer["UnprocessedItems"].get(name, []):
                waiting += left
                problem = f"{name} leaves {len(left)} deletions unprocessed"
                self._rest(pauses, CloudError(problem, _CURE, "retry"))

    def _query(self, **request: Any) -> Iterator[Item]:
        return self._pages("Query", request)

    def _pages(self, operation: str, request: dict[str, Any]) -> Iterator[Item]:
        while True:
            answer = self._call(operation, **request)
            yield from answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return
            request = {**request, "ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def _status(self, name: str) -> str:
        """Return a table's status; empty: it is not there."""
        try:
            answer = self._call("DescribeTable", TableName=name)
        except CloudError as error:
            if error.code == "ResourceNotFoundException":
                return ""
            raise
        return str(answer["Table"]["TableStatus"])

    def _call(self, operation: str, **request: Any) -> Any:
        """Make a call, again and again while another try can help."""
        pauses = _pauses(self._patience_s)
        what = str(request.get("TableName", self.prefix))
        while True:
            try:
                return call(self._client, "dynamodb", operation, what, **request)
            except CloudError as error:
                if error.action != "retry":
                    raise
                self._rest(pauses, error)

    def _rest(self, pauses: Iterator[float], error: CloudError) -> None:
        pause_s = next(pauses, None)
        if pause_s is None:
            raise CloudError(error.problem, _CURE, "retry", error.code) from error
        self._sleep(pause_s)

    def _name(self, kind: str) -> str:
        return f"{self.prefix}-{kind}"


def _pauses(patience_s: float) -> Iterator[float]:
    """Yield growing pauses, full jitter, until so much time was waited in all."""
    waited_s, limit_s = 0.0, 0.05
    while waited_s < patience_s:
        pause_s = random.uniform(limit_s / 2.0, limit_s)  # noqa: S311 - only spreads callers out
        yield pause_s
        waited_s += pause_s
        limit_s = min(_LONGEST_PAUSE_S, 2.0 * limit_s)


def _is_erased(item: Item, erased: Erased) -> bool:
    ids = {item["decision_id"]["S"], item.get("visit_id", item["decision_id"])["S"]}
    subject = item.get("subject_hash", {}).get("S")
    return subject in erased.hashes or any(map(erased.holds, ids))


def first_of(items: Iterable[tuple[str, Item]]) -> dict[tuple[str, str], Item]:
    """Return the first item of each table and decision: what the tables must hold."""
    found: dict[tuple[str, str], Item] = {}
    for kind, item in items:
        found.setdefault((kind, item["decision_id"]["S"]), item)
    return found
