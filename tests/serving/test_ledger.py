"""The ledger adds up, and says so when it does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import worlds
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from schemas.operations import SideRecord, Tick
from serving.ledger import read_ledger

AT_MS = worlds.START_MS
DEADLINE_MS = worlds.RULES.reward_window_ms + worlds.RULES.grace_ms


class Book:
    """A log in which each record has the log time it is given."""

    def __init__(self, folder: Path) -> None:
        self.clock = SetClock(AT_MS)
        self.log = EmbeddedLog(folder, self.clock)

    def write(self, stream: str, value: object, after_ms: int = 0) -> None:
        """Append a record so long after the start."""
        self.clock.set(AT_MS + after_ms)
        self.log.append(stream, value)

    def decide(self, decision_id: str, after_ms: int = 0) -> None:
        """Append a decision made at its log time."""
        self.write("decisions", worlds.decided(decision_id, AT_MS + after_ms), after_ms)

    def close(self, decision_id: str, result: Any = "rewarded", after_ms: int = 0) -> None:
        """Append an outcome."""
        outcome = worlds.outcome(worlds.decided(decision_id, AT_MS), 0.5, AT_MS + after_ms)
        self.write("outcomes", dataclasses.replace(outcome, result=result), after_ms)


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    a_book = Book(tmp_path)
    yield a_book
    a_book.log.close()


def test_an_empty_log_is_balanced(book: Book) -> None:
    ledger = read_ledger(book.log)
    assert (ledger.decisions, ledger.open, ledger.balanced) == (0, 0, True)


def test_every_result_has_its_place(book: Book) -> None:
    for result in ("rewarded", "defaulted", "defaulted", "dropped", "not_activated"):
        decision_id = f"d{book.log.end().position}"
        book.decide(decision_id)
        book.close(decision_id, result)
    book.decide("open")
    ledger = read_ledger(book.log)
    assert ledger.balanced
    assert (ledger.decisions, ledger.rewarded, ledger.defaulted) == (6, 1, 2)
    assert (ledger.dropped, ledger.not_activated, ledger.open) == (1, 1, 1)


def test_side_outputs_and_refusals_are_counted_and_balance_nothing(book: Book) -> None:
    for stream in ("late", "unmatched", "unmatched", "dead-letters"):
        book.write(stream, SideRecord("r", "e", "frames", 0, 1, AT_MS, "k", b"raw"))
    book.write("analyses", worlds.analyzed("v", "pre", 0, AT_MS, None, status="refused"))
    ledger = read_ledger(book.log)
    assert (ledger.late, ledger.unmatched, ledger.dead_letters, ledger.refused) == (1, 2, 1, 1)
    assert (ledger.decisions, ledger.balanced) == (0, True)


def test_a_decision_written_twice_is_one(book: Book) -> None:
    book.decide("d")
    book.decide("d", 10)
    book.close("d", after_ms=20)
    ledger = read_ledger(book.log)
    assert (ledger.decisions, ledger.rewarded, ledger.balanced) == (1, 1, True)


def test_a_decision_that_came_too_late_is_none(book: Book) -> None:
    too_late_ms = worlds.RULES.dedup_horizon_ms + 1
    book.write("decisions", worlds.decided("old", AT_MS), too_late_ms)
    assert read_ledger(book.log).decisions == 0
    book.write("decisions", worlds.decided("just", AT_MS + 1), too_late_ms)
    assert read_ledger(book.log).decisions == 1


def test_the_very_same_outcome_twice_is_one(book: Book) -> None:
    book.decide("d")
    book.close("d")
    book.close("d")
    ledger = read_ledger(book.log)
    assert (ledger.rewarded, ledger.balanced) == (1, True)


def test_two_outcomes_of_one_decision_do_not_add_up(book: Book) -> None:
    book.decide("d")
    book.close("d", "defaulted")
    book.close("d", "rewarded", 10)
    ledger = read_ledger(book.log)
    assert not ledger.balanced
    assert ledger.problems == ("decision d has outcomes: defaulted, then rewarded",)
    assert (ledger.defaulted, ledger.rewarded) == (1, 0)


def test_an_outcome_without_a_decision_does_not_add_up(book: Book) -> None:
    book.close("ghost")
    ledger = read_ledger(book.log)
    assert not ledger.balanced
    assert ledger.problems == ("an outcome has no decision: ghost",)


@pytest.mark.parametrize(("after_ms", "balanced"), [(DEADLINE_MS, True), (DEADLINE_MS + 1, False)])
def test_a_decision_is_overdue_once_log_time_passed_its_deadline(
    book: Book, after_ms: int, balanced: bool
) -> None:
    book.decide("d")
    book.write("ticks", Tick(AT_MS + after_ms, "test"), after_ms)
    ledger = read_ledger(book.log)
    assert (ledger.open, ledger.balanced) == (1, balanced)
    assert ["overdue by 1 ms" in problem for problem in ledger.problems] == [True] * (not balanced)


@pytest.mark.parametrize(("late_ms", "moved"), [(DEADLINE_MS, True), (DEADLINE_MS + 1, False)])
def test_an_impression_moves_the_deadline_if_it_came_in_time(
    book: Book, late_ms: int, moved: bool
) -> None:
    book.decide("d")
    book.write("impressions", worlds.shown("d", "a0", AT_MS + late_ms), late_ms)
    book.write("ticks", Tick(AT_MS, "test"), late_ms + DEADLINE_MS)
    assert read_ledger(book.log).balanced is moved


def test_bytes_that_are_no_record_are_left_to_their_dead_letter(book: Book) -> None:
    book.decide("d")
    book.close("d")
    book.log.append_bytes([("outcomes", "greeting", b"nothing we wrote")])
    assert read_ledger(book.log).balanced
