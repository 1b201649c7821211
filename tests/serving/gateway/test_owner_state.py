"""What the owner's page is made of equals what the log, the ledger and the report say."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import judged
import worlds
from connectors.embedded_log import EmbeddedLog
from connectors.logs import Log, Row
from owner_shops import board_of, folded, rows_of, simulated, write
from policies.evaluation.confidence import LowerBound, mixture_rate
from schemas.codec import decode, encode
from schemas.errors import LogUnavailable
from schemas.operations import AlarmRaised, ErasureRequested, SideRecord
from schemas.outcomes import OutcomeClosed
from serving.evaluating import Question, evaluate
from serving.gateway.owner_board import OwnerBoard
from serving.gateway.owner_fold import OwnerFold
from serving.gateway.owner_groups import SMILING_FROM
from serving.gateway.owner_means import NARROWEST_AT, Tally, interval
from serving.gateway.owner_minutes import MINUTE_MS, Minutes
from serving.gateway.owner_models import Summary
from serving.gateway.owner_speed import Speed
from serving.gateway.owner_summary import hour_told, summary
from serving.gateway.owner_worth import BLOCKS_MAX, WorthOfLoop
from serving.ledger import read_ledger
from serving.report import read_report
from waiting import wait_until

VISITS = 240


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated(tmp_path_factory.mktemp("owner") / "shop", VISITS)


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[Row]:
    return rows_of(folder)


@pytest.fixture(scope="module")
def whole(rows: list[Row]) -> OwnerFold:
    """Return the fold of the whole log: to look at, not to go on with."""
    return folded(rows)


@pytest.fixture
def log(folder: Path) -> Iterator[Log]:
    with closing(EmbeddedLog(folder)) as opened:
        yield opened


def told(fold: OwnerFold, loop_id: str = "greeting", now_ms: int = worlds.START_MS) -> Summary:
    """Return the page of a fold."""
    board = OwnerBoard(lambda: pytest.fail("nothing is read here"))
    board.fold = fold
    return summary(board, loop_id, now_ms)


def outcomes_in(rows: list[Row]) -> list[OutcomeClosed]:
    """Return the outcomes of a log, each decision once."""
    values = [decode(row.value) for row in rows if row.stream == "outcomes"]
    closed = [value for value in values if isinstance(value, OutcomeClosed)]
    return list({value.choice.decision_id: value for value in closed}.values())


def test_the_ledger_is_that_of_the_command(log: Log, whole: OwnerFold) -> None:
    assert whole.book.ledger(whole.sides, log.complete_through_ms()) == read_ledger(log)


def test_what_each_greeting_earned_is_a_plain_recount(rows: list[Row], whole: OwnerFold) -> None:
    outcomes = outcomes_in(rows)
    page = told(whole)
    assert page.judged == len(outcomes) == VISITS
    for greeting in page.greetings:
        mine = [each for each in outcomes if each.choice.action_id == greeting.action_id]
        assert greeting.given == len(mine)
        smiles = [(each.happiness_after or 0.0) >= SMILING_FROM for each in mine]
        assert greeting.smile is not None
        assert greeting.reward is not None
        assert greeting.smile.value == pytest.approx(np.mean(smiles), abs=1e-6)
        assert greeting.reward.value == pytest.approx(
            np.mean([each.reward for each in mine]), abs=1e-6
        )
        assert greeting.reward.low < greeting.reward.value < greeting.reward.high


def test_learned_and_control_are_those_of_the_report(log: Log, whole: OwnerFold) -> None:
    report = read_report(log, 0)
    page = told(whole)
    assert page.reward.learned is not None
    assert page.reward.control is not None
    assert page.reward.learned.n == len(report.learned)
    assert page.reward.control.n == len(report.control)
    assert page.reward.learned.value == pytest.approx(np.mean(report.learned), abs=1e-6)
    assert page.reward.control.value == pytest.approx(np.mean(report.control), abs=1e-6)
    missing = {rate.action_id: rate.share for rate in report.missing}
    found = {greeting.action_id: greeting.not_seen for greeting in page.greetings}
    assert found == missing


def test_the_lift_is_that_of_evaluate(log: Log, whole: OwnerFold) -> None:
    lift = evaluate(log, Question()).lift
    found = told(whole).reward.lift
    assert lift is not None
    assert found is not None
    assert (found.value, found.low, found.high, found.n) == pytest.approx(
        (lift.value, lift.low, lift.high, lift.n), abs=1e-6
    )


def test_each_way_of_grouping_holds_every_visit_once(rows: list[Row], whole: OwnerFold) -> None:
    page = told(whole)
    assert [slices.by for slices in page.slices] == ["mood_part", "mood", "part", "kiosk"]
    for slices in page.slices:
        assert sum(cell.reward.n for cell in slices.cells) == VISITS
        assert {cell.group for cell in slices.cells} == set(slices.groups)
    (mood,) = [slices for slices in page.slices if slices.by == "mood"]
    smiling = [
        each for each in outcomes_in(rows) if (each.choice.happiness_before or 0.0) >= SMILING_FROM
    ]
    counted = sum(cell.reward.n for cell in mood.cells if cell.group == "smiling")
    assert counted == len(smiling)


def test_the_course_holds_every_visit_in_a_few_steps(whole: OwnerFold) -> None:
    course = told(whole).course
    means = [each for step in course for each in (step.learned_smile, step.control_smile) if each]
    assert sum(mean.n for mean in means) == VISITS
    assert BLOCKS_MAX // 2 <= len(course) <= BLOCKS_MAX
    assert all(one.to_ms <= other.from_ms for one, other in pairwise(course))


def test_a_log_read_in_parts_and_twice_gives_the_same_page(
    rows: list[Row], whole: OwnerFold
) -> None:
    once = told(whole)
    fold = folded(rows[: len(rows) // 3])
    for row in [*rows[: len(rows) // 2], *rows]:
        fold.take(row)
    assert told(fold) == once


def test_a_board_follows_a_log_that_grows(
    rows: list[Row], tmp_path: Path, whole: OwnerFold
) -> None:
    middle = len(rows) // 2
    write(tmp_path / "shop", rows[:middle])
    board = board_of(tmp_path / "shop")
    board.start()
    try:
        wait_until(lambda: board.reading.caught_up)
        before = board.fold.loop("greeting").decisions
        assert 0 < before < VISITS
        write(tmp_path / "shop", rows[middle:])
        wait_until(lambda: board.fold.loop("greeting").worth.learned.reward.n > 0)
        wait_until(
            lambda: (
                board.fold.newest_ms
                == max(row.log_time_ms for row in rows if row.stream != "ticks")
            )
        )
        with board.lock:
            assert told(board.fold).greetings == told(whole).greetings
    finally:
        board.close()


class Watched:
    """A board's lock that notes when it is let go of an empty board said to have caught up."""

    def __init__(self, board: OwnerBoard) -> None:
        self.empty = 0
        self._board = board
        self._lock = threading.RLock()
        self._depth = 0

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0 and self._board.reading.caught_up and not self._board.fold.records:
            self.empty += 1
        self._lock.release()


def test_after_somebody_was_forgotten_the_log_is_read_anew(rows: list[Row], tmp_path: Path) -> None:
    write(tmp_path / "shop", rows[:400])
    board = board_of(tmp_path / "shop")
    board.lock = watched = Watched(board)  # type: ignore[assignment]
    board.start()
    try:
        wait_until(lambda: board.reading.caught_up)
        old = board.fold
        with closing(EmbeddedLog(tmp_path / "shop")) as log:
            log.append("erasures", ErasureRequested("0" * 32, "visit", worlds.START_MS))

        def read_anew() -> bool:
            with board.lock:
                return board.fold is not old and board.reading.caught_up

        wait_until(read_anew)
        assert watched.empty == 0
        assert (
            board.fold.records
            == old.records
            == 1 + sum(row.stream not in ("ticks", "visits") for row in rows[:400])
        )
    finally:
        board.close()


def test_a_log_that_is_away_is_told_and_asked_again(folder: Path) -> None:
    tries: list[int] = []

    def opened() -> Log:
        tries.append(1)
        if len(tries) == 1:
            problem = "the broker is away"
            raise LogUnavailable(problem, "Wait for it")
        return EmbeddedLog(folder)

    board = OwnerBoard(opened)
    board.start()
    try:
        wait_until(lambda: bool(board.reading.problem))
        assert board.reading.problem == "the broker is away"
        wait_until(lambda: board.reading.caught_up)
        assert board.reading.problem == ""
        assert board.is_recording
    finally:
        board.close()


def test_a_log_that_comes_back_without_news_is_complete_as_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rested: list[OwnerFold] = []
    at_rest = OwnerFold.at_rest

    def noting(fold: OwnerFold, complete_ms: int) -> None:
        rested.append(fold)
        at_rest(fold, complete_ms)

    class Leaving(EmbeddedLog):
        asked = 0

        def complete_through_ms(self) -> int:
            self.asked += 1
            if self.asked > 1:
                problem = "the broker is away"
                raise LogUnavailable(problem, "Wait for it")
            return super().complete_through_ms()

    monkeypatch.setattr(OwnerFold, "at_rest", noting)
    logs = iter((Leaving, EmbeddedLog))
    board = OwnerBoard(lambda: next(logs)(folder))
    board.start()
    try:
        wait_until(lambda: bool(board.reading.problem))
        first = board.fold
        wait_until(lambda: board.fold is not first and board.reading.share == 1.0)
        assert rested == [first, board.fold]
    finally:
        board.close()


def test_a_torn_record_is_counted_and_holds_nothing_up(rows: list[Row]) -> None:
    places = [place for place, row in enumerate(rows) if row.stream == "outcomes"]
    torn = list(rows)
    # The first is the loop's configuration; the second is the outcome of the first visit.
    torn[places[1]] = rows[places[1]]._replace(value=rows[places[1]].value[:40])
    fold = folded(torn)
    assert told(fold).reading.unreadable == 1
    assert told(fold).judged == 0  # whose it was cannot be known yet
    fold.at_rest(2**62)
    assert told(fold).judged == VISITS - 1


def test_another_range_of_rewards_begins_anew(tmp_path: Path) -> None:
    loop = judged.config()
    with closing(judged.write(tmp_path, loop, 40)) as log:
        fold = folded(log.scan())
    page = told(fold)
    assert page.judged == 40
    assert not page.sees_faces  # these rewards are explicit
    worth = fold.loop("greeting").worth
    assert isinstance(worth, WorthOfLoop)
    wider = worlds.loop(rules={"reward_low": -2.0, "reward_high": 2.0})
    worth.configure(wider)
    assert told(fold).judged == 0
    assert told(fold).reward_high == 2.0


def test_alarms_and_side_outputs_are_counted_once_each() -> None:
    alarm = AlarmRaised("a-1", "greeting", "reward_fell", "adwin.reward", 5)
    side = SideRecord("torn", "why", "frames", 0, 1, 5, "k", b"x")
    fold = folded(
        [
            Row(1, "alarms", "greeting", 5, encode(alarm)),
            Row(2, "alarms", "greeting", 6, encode(alarm)),
            Row(3, "late", "k", 7, encode(side)),
            Row(4, "dead-letters", "k", 8, encode(side)),
        ]
    )
    page = told(fold)
    assert (page.alarms_ever, [each.alarm_id for each in page.alarms]) == (1, ["a-1"])
    assert (page.ledger.late, page.ledger.unmatched, page.ledger.dead_letters) == (1, 0, 1)


def test_the_interval_is_the_confidence_sequence_from_both_sides() -> None:
    values = [random.Random(3).random() for _ in range(50)]  # noqa: S311 - no secret
    tally = Tally()
    gains, lacks = (LowerBound(0.0, rho=mixture_rate(NARROWEST_AT)) for _ in range(2))
    for value in values:
        tally.take(value)
        gains.take(value)
        lacks.take(1.0 - value)
    found = interval(tally, 2.0, -1.0)
    assert found is not None
    assert found.value == pytest.approx(2.0 * np.mean(values) - 1.0)
    assert found.low == pytest.approx(2.0 * gains.low(0.025) - 1.0)
    assert found.high == pytest.approx(2.0 * (1.0 - lacks.low(0.025)) - 1.0)


def test_the_interval_holds_at_every_moment_at_once() -> None:
    chance = np.random.default_rng(7)
    failed = 0
    for _ in range(40):
        tally = Tally()
        for step in range(1, 301):
            tally.take(float(chance.random() < 0.3))
            if step % 20 == 0:
                found = interval(tally)
                assert found is not None
                if not found.low <= 0.3 <= found.high:
                    failed += 1
                    break
    assert failed <= 2


def test_two_tallies_joined_know_what_both_took() -> None:
    one, other = Tally(), Tally()
    for value in (0.1, 0.9, 0.5):
        one.take(value)
        other.take(1.0 - value)
    one.add(other)
    assert one.n == 6
    assert one.total == pytest.approx(3.0)


def test_the_hour_is_now_or_the_last_one_of_the_log(whole: OwnerFold) -> None:
    loop = whole.loop("greeting")
    newest_ms = loop.minutes.newest_ms
    live = hour_told(loop, newest_ms + 30 * MINUTE_MS)
    assert (live.live, len(live.minutes)) == (True, 60)
    assert live.minutes[29].visits > 0
    late = hour_told(loop, newest_ms + 5_000 * MINUTE_MS)
    assert not late.live
    assert late.minutes[-1].visits == live.minutes[29].visits
    for minute in late.minutes:
        parts = (minute.smiles, minute.no_smile, minute.not_seen, minute.not_greeted, minute.open)
        assert minute.visits == sum(parts)


def test_only_the_newest_minutes_are_kept() -> None:
    minutes = Minutes()
    for number in range(10_000):
        minutes.decided(number * MINUTE_MS)
    minutes.decided(0)  # a straggler is no newest one
    assert len(minutes._minutes) <= 400
    assert [minute.visits for _, minute in minutes.hour_to(9_999 * MINUTE_MS)] == [1] * 60


def test_durations_are_taken_from_the_log_times() -> None:
    speed = Speed()
    at_ms = worlds.START_MS
    speed.frame(worlds.captured("v", "pre", 0, at_ms, 0.2), at_ms + 40)
    speed.greeted("v", at_ms + 340)
    speed.greeted("v", at_ms + 900)  # a repeat
    speed.shown("v", at_ms + 420)
    assert (speed.to_greeting.count, speed.to_greeting.percentile_ms(50.0)) == (1, 300.0)
    assert speed.to_showing.percentile_ms(99.0) == 420.0
    assert sum(speed.to_showing.bars()) == 1


def test_older_lines_come_page_by_page(whole: OwnerFold) -> None:
    recent = whole.recent
    numbers: list[int] = []
    before: int | None = None
    while True:
        lines, before = recent.page("greeting", before, 50)
        numbers += [line.number for line in lines]
        if before is None:
            break
    assert numbers == list(range(VISITS, 0, -1))
    assert recent.page("other", None, 50) == ([], None)


def test_how_greetings_were_chosen_is_counted(rows: list[Row], whole: OwnerFold) -> None:
    decisions = [decode(row.value) for row in rows if row.stream == "decisions"]
    ways: Counter[Any] = Counter()
    for decision in decisions:
        best = max(each.policy_probability_ppb for each in decision.choice.actions)
        chosen = next(a for a in decision.choice.actions if a.id == decision.choice.action_id)
        if decision.choice.control:
            ways["control"] += 1
        else:
            ways[chosen.policy_probability_ppb == best] += 1
    found = told(whole).ways
    assert found.control == ways["control"]
    assert (found.favourite, found.exploring) == (ways[True], ways[False])
