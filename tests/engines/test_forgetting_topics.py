"""Forgetting where nothing can be taken out: what is said, and that no outcome is lost between."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from connectors.logs import Clock, Row, Tail
from engines.forgetting import Asked
from engines.forgetting_topics import forget_on_kafka
from engines.rebuilding import learned
from engines.relearning import relearned
from forgetful import outcomes_without, reopened, shop_of, taught_by, visit_id
from policies.base import checksum_of
from schemas.codec import decode, encode
from schemas.errors import LogUnavailable
from schemas.outcomes import PolicyDirected
from schemas.streams import key_of

KEY = bytes(range(32))


class Topics:
    """A log whose rows stay, with one partition a stream; somebody else may append meanwhile."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.name = "topics"
        self.rows: list[Row] = []
        self.before_append: Callable[[], None] = lambda: None
        self.clock: Clock = lambda: self.rows[-1].log_time_ms if self.rows else 0
        for row in rows:
            self.put(row.stream, row.key, row.value, row.log_time_ms)

    def put(self, stream: str, key: str, value: bytes, log_time_ms: int | None = None) -> None:
        """Append a row."""
        place = sum(row.stream == stream for row in self.rows)
        at_ms = self.clock() if log_time_ms is None else log_time_ms
        self.rows.append(Row(place, stream, key, at_ms, value))

    def scan(self, *streams: str, key: str | None = None) -> Iterator[Row]:
        rows = [row for row in self.rows if not streams or row.stream in streams]
        return iter([row for row in rows if key in (None, row.key)])

    def scan_from(
        self, places: Mapping[tuple[str, int], int], *streams: str, key: str | None = None
    ) -> Iterator[Row]:
        for row in self.scan(*streams, key=key):
            if row.position >= places.get((row.stream, row.partition), 0):
                yield row

    def append(self, stream: str, value: Any) -> None:
        self.append_all([(stream, value)])

    def append_all(self, records: Iterable[tuple[str, Any]]) -> None:
        self.before_append()
        for stream, value in records:
            self.put(stream, key_of(value, stream), encode(value))

    def append_bytes(self, records: Sequence[tuple[str, str, bytes]]) -> None:
        raise NotImplementedError

    def tail(self, *streams: str, key: str | None = None) -> Tail:
        raise NotImplementedError

    def last(self, stream: str, count: int) -> list[Row]:
        raise NotImplementedError

    def counts(self) -> dict[str, int]:
        raise NotImplementedError

    def complete_through_ms(self) -> int:
        raise NotImplementedError

    def bookmark(self, name: str) -> dict[tuple[str, int], int]:
        raise NotImplementedError

    def set_bookmark(self, name: str, places: dict[tuple[str, int], int]) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def checksum(self) -> str:
        """Return the checksum of the policy that the learning log teaches now."""
        *_, last = learned(self.scan("outcomes"))
        assert last.state is not None
        return checksum_of(last.state.learners[0].policy)

    @property
    def rows_without_directives(self) -> list[Row]:
        return [r for r in self.rows if not isinstance(decode(r.value), PolicyDirected)]

    @property
    def directives(self) -> list[PolicyDirected]:
        values = [decode(row.value) for row in self.scan("outcomes")]
        return [value for value in values if isinstance(value, PolicyDirected)]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """Return what a shop wrote that fourteen visitors have left."""
    run = reopened(shop_of(tmp_path_factory.mktemp("topics") / "shop", range(14)))
    rows = list(run.log.scan())
    run.close()
    return rows


def without(folder: Path, rows: Iterable[Row], *numbers: int) -> str:
    """Return the checksum of a policy that never met some visitors."""
    names = [visit_id(number) for number in numbers]
    mine = (row for row in rows if row.stream == "outcomes")
    return taught_by(folder / "without", outcomes_without(mine, *names))["main"].checksum


def test_what_the_job_knew_when_it_was_last_here_is_learned_without_him(rows: list[Row]) -> None:
    mine = [row for row in rows if row.stream == "outcomes"]
    gone = next(row for row in mine if visit_id(3).encode() in row.value)
    read = mine[8]
    found = relearned("greeting", lambda: mine, lambda row: row is gone, read.position)
    *_, then = learned(row for row in mine[:9] if row is not gone)
    *_, now = learned(row for row in mine if row is not gone)
    assert found.at_read is not None
    assert then.state is not None
    assert now.state is not None
    assert found.at_read.learners[0].version == then.state.learners[0].version == 6
    assert checksum_of(found.at_read.learners[0].policy) == checksum_of(
        then.state.learners[0].policy
    )
    assert found.after is not None
    assert found.after.learners[0].version == now.state.learners[0].version
    assert found.through_ms == mine[-1].log_time_ms


def asked(number: int) -> Asked:
    return Asked(visit_id(number), None, KEY)


def test_the_policy_is_as_if_he_had_never_come_and_twice_is_said(
    rows: list[Row], tmp_path: Path
) -> None:
    topics = Topics(rows)
    done, person = forget_on_kafka(topics, asked(3), None)
    assert (done.known, done.already, done.decisions, done.open) == (True, False, 1, 0)
    assert person is not None
    assert topics.checksum() == without(tmp_path, rows, 3)
    count = len(topics.rows)
    done, _ = forget_on_kafka(topics, asked(3), None)
    assert (done.known, done.already) == (False, True)
    assert len(topics.rows) == count
    assert visit_id(3).encode() not in b"".join(row.value for row in topics.rows[len(rows) :])


def test_one_after_the_other(rows: list[Row], tmp_path: Path) -> None:
    topics = Topics(rows)
    for number in (3, 9, 1):
        forget_on_kafka(topics, asked(number), None)
    assert topics.checksum() == without(tmp_path, rows, 3, 9, 1)
    assert [directive.new_epoch for directive in topics.directives] == [1, 2, 3]


def test_outcomes_that_the_job_closes_meanwhile_are_not_lost(
    rows: list[Row], tmp_path: Path
) -> None:
    outcomes = [row for row in rows if row.stream == "outcomes"]
    held = outcomes[-3:]
    topics = Topics(row for row in rows if row not in held)
    left = list(held)

    def meanwhile() -> None:
        if left:
            row = left.pop(0)
            topics.put(row.stream, row.key, row.value)

    topics.before_append = meanwhile
    done, _ = forget_on_kafka(topics, asked(3), None)
    assert not left
    assert len(topics.directives) == 4
    assert topics.checksum() == without(tmp_path, rows, 3)
    assert done.policies[0].epoch == 4
    assert done.policies[0].checksum == topics.checksum()


def test_a_repeat_that_comes_meanwhile_is_not_learned_twice(
    rows: list[Row], tmp_path: Path
) -> None:
    topics = Topics(rows)
    again = [row for row in rows if row.stream == "outcomes"][-1]
    topics.before_append = lambda: topics.put(again.stream, again.key, again.value)
    forget_on_kafka(topics, asked(3), None)
    assert len(topics.directives) == 1
    assert topics.checksum() == without(tmp_path, rows, 3)


def test_a_loop_that_is_too_busy_is_told_and_the_next_run_does_it(
    rows: list[Row], tmp_path: Path
) -> None:
    topics = Topics(rows)
    value = decode([row for row in rows if row.stream == "outcomes"][-1].value)
    number = 0

    def meanwhile() -> None:
        nonlocal number
        number += 1
        choice = dataclasses.replace(value.choice, decision_id=f"another-{number}")
        topics.put("outcomes", "greeting", encode(dataclasses.replace(value, choice=choice)))

    topics.before_append = meanwhile
    with pytest.raises(LogUnavailable, match="faster than they can be learned"):
        forget_on_kafka(topics, asked(3), None)
    assert number == 20
    topics.before_append = lambda: None
    forget_on_kafka(topics, asked(3), None)
    assert topics.rows[-1].stream == "erasures"
    assert topics.checksum() == without(tmp_path, topics.rows_without_directives, 3)


def test_a_window_still_open_is_told_and_forgotten_again(rows: list[Row], tmp_path: Path) -> None:
    mine = next(
        row for row in rows if row.stream == "outcomes" and visit_id(3).encode() in row.value
    )
    topics = Topics(row for row in rows if row is not mine)
    done, _ = forget_on_kafka(topics, asked(3), None)
    assert (done.open, done.policies) == (1, ())
    topics.put(mine.stream, mine.key, mine.value)
    done, _ = forget_on_kafka(topics, Asked("", "unknown", KEY), None)
    assert len(done.policies) == 1
    assert topics.checksum() == without(tmp_path, rows, 3)
