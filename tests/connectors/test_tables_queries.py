"""The owner's ten questions: one text for SQLite and Postgres, and the answers are right."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from statistics import fmean
from typing import Any

import psycopg
import pytest

from analysts import CONFIG, feed, opened, write_shop
from connectors.embedded_log import EmbeddedLog
from connectors.tables_sqlite import SqliteTables
from postgres import shared_postgres
from schemas.codec import decode
from schemas.decisions import DecisionMade, VisitEnded
from schemas.errors import RecordError
from schemas.frames import FrameAnalyzed
from schemas.outcomes import OutcomeClosed

QUERIES = Path(__file__).parents[2] / "docs" / "queries"
NAMES = sorted(path.stem for path in QUERIES.glob("*.sql"))
VISITS = 200
MINUTE_MS = 60_000
Answer = list[tuple[Any, ...]]


class Log:
    """What the log says, read with plain Python: the first record of each id."""

    def __init__(self, log: EmbeddedLog) -> None:
        self.decisions: dict[str, DecisionMade] = {}
        self.outcomes: dict[str, OutcomeClosed] = {}
        self.first: dict[str, FrameAnalyzed] = {}
        self.ends: dict[str, VisitEnded] = {}
        for row in log.scan():
            try:
                value = decode(row.value)
            except RecordError:
                continue
            if isinstance(value, DecisionMade):
                self.decisions.setdefault(value.choice.decision_id, value)
            elif isinstance(value, OutcomeClosed):
                self.outcomes.setdefault(value.choice.decision_id, value)
            elif isinstance(value, FrameAnalyzed):
                self.first.setdefault(value.visit_id, value)
            elif isinstance(value, VisitEnded):
                self.ends.setdefault(value.visit_id, value)

    def local(self, name: str) -> datetime:
        """Return when a visit began, by the kiosk's own clock."""
        frame = self.first[name]
        at_ms = frame.captured_at_ms + frame.utc_offset_minutes * MINUTE_MS
        return datetime.fromtimestamp(at_ms / 1000, UTC)

    def earned(self, name: str) -> float | None:
        """Return what a decision earned; None: nothing, or it is open."""
        outcome = self.outcomes.get(name)
        if outcome is None or outcome.result not in ("rewarded", "defaulted"):
            return None
        return outcome.reward


def mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def which_greeting_pleases(log: Log) -> Answer:
    rewards: dict[str, list[float]] = defaultdict(list)
    chosen: Counter[str] = Counter()
    for name, made in log.decisions.items():
        chosen[made.choice.action_id] += 1
        if (reward := log.earned(name)) is not None:
            rewards[made.choice.action_id].append(reward)
    answer = []
    for action_id, count in sorted(chosen.items()):
        values = rewards[action_id]
        middle = fmean(values)
        spread = fmean([(value - middle) ** 2 for value in values]) / len(values)
        answer.append((action_id, count, len(values), middle, spread))
    return answer


def lift_over_control(log: Log) -> Answer:
    groups: dict[bool, list[float]] = {True: [], False: []}
    for name, made in log.decisions.items():
        if (reward := log.earned(name)) is not None:
            groups[made.choice.control].append(reward)
    learned, control = groups[False], groups[True]
    lift = fmean(learned) - fmean(control)
    return [("greeting", len(learned), len(control), fmean(learned), fmean(control), lift)]


def day_by_day(log: Log) -> Answer:
    days: dict[str, list[str]] = defaultdict(list)
    for name in log.first:
        days[log.local(name).date().isoformat()].append(name)
    return [
        (
            day,
            len(names),
            sum(name in log.decisions for name in names),
            sum(name in log.outcomes and log.outcomes[name].result == "rewarded" for name in names),
            mean(log.earned(name) for name in names),
        )
        for day, names in sorted(days.items())
    ]


def hour_by_hour(log: Log) -> Answer:
    hours: dict[int, list[str]] = defaultdict(list)
    for name in log.first:
        hours[log.local(name).hour].append(name)
    return [
        (
            hour,
            len(names),
            mean(log.outcomes[n].choice.happiness_before for n in names if n in log.outcomes),
            mean(log.earned(name) for name in names),
        )
        for hour, names in sorted(hours.items())
    ]


def kiosk_by_kiosk(log: Log) -> Answer:
    kiosks: dict[str, list[str]] = defaultdict(list)
    for name, frame in log.first.items():
        kiosks[frame.kiosk_id].append(name)
    answer = []
    for kiosk_id, names in sorted(kiosks.items()):
        status = Counter(log.first[name].status for name in names)
        shown = [n for n in names if n in log.outcomes and log.outcomes[n].shown_at_ms is not None]
        stays_s = [
            (log.ends[name].ended_at_ms - log.first[name].captured_at_ms) / 1000
            for name in names
            if name in log.ends
        ]
        failed = status["failed"] + status["expired"]
        told = (status["refused"], failed, status["no_face"], len(shown), mean(stays_s))
        answer.append((kiosk_id, len(names), *told))
    return answer


def from_visitor_to_smile(log: Log) -> Answer:
    seen_after = [each for each in log.outcomes.values() if each.happiness_after is not None]
    happier = [
        each
        for each in seen_after
        if each.happiness_after is not None
        and each.choice.happiness_before is not None
        and each.happiness_after > each.choice.happiness_before
    ]
    seen = sum(frame.status == "ok" for frame in log.first.values())
    shown = sum(each.shown_at_ms is not None for each in log.outcomes.values())
    return [(len(log.first), seen, len(log.decisions), shown, len(seen_after), len(happier))]


def for_whom(log: Log) -> Answer:
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for name, outcome in log.outcomes.items():
        before, reward = outcome.choice.happiness_before, log.earned(name)
        if before is None or reward is None:
            continue
        comes_in = "1 sad" if before < 0.33 else "2 neutral" if before < 0.67 else "3 happy"
        groups[comes_in, outcome.choice.action_id].append(reward)
    return [(*key, len(values), fmean(values)) for key, values in sorted(groups.items())]


def what_was_learned(log: Log) -> Answer:
    days: dict[str, list[float]] = defaultdict(list)
    for outcome in log.outcomes.values():
        if outcome.learnable:
            decided = datetime.fromtimestamp(outcome.choice.decided_at_ms / 1000, UTC)
            days[decided.date().isoformat()].append(outcome.reward)
    answer: Answer = []
    first_day = datetime.fromtimestamp(1_767_600_000, UTC).date().isoformat()
    answer.append(("even", 0, first_day, "shadow", 0, 0, 0, 0, None, None))
    directed = sorted(days)[len(days) // 2]
    version = 0
    for day, rewards in sorted(days.items()):
        before, version = version, version + len(rewards) + (day == directed)
        told = ("explore" if day == directed else None, fmean(rewards))
        change = (before, version, len(rewards), int(day == directed))
        answer.append(("main", 0, day, "serving", *change, *told))
    return answer


def how_quick(log: Log) -> Answer:
    kiosks: dict[str, list[int]] = defaultdict(list)
    for outcome in log.outcomes.values():
        if outcome.shown_at_ms is not None:
            after_ms = outcome.shown_at_ms - outcome.choice.decided_at_ms
            kiosks[outcome.choice.kiosk_id or ""].append(after_ms)
    return [
        (kiosk_id, len(times), fmean(times), max(times), sum(t <= 1000 for t in times) / len(times))
        for kiosk_id, times in sorted(kiosks.items())
    ]


def does_it_add_up(log: Log) -> Answer:
    counts: Counter[tuple[str, str]] = Counter()
    for name in log.decisions:
        outcome = log.outcomes.get(name)
        told = (outcome.result, outcome.result_reason) if outcome else ("open", "not closed yet")
        counts[told] += 1
    assert sum(counts.values()) == len(log.decisions)
    return [(*key, n, n / len(log.decisions)) for key, n in sorted(counts.items())]


ANSWERS: dict[str, Callable[[Log], Answer]] = {
    answer.__name__: answer
    for answer in (
        which_greeting_pleases,
        lift_over_control,
        day_by_day,
        hour_by_hour,
        kiosk_by_kiosk,
        from_visitor_to_smile,
        for_whom,
        what_was_learned,
        how_quick,
        does_it_add_up,
    )
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedLog, Path]]:
    """Return a shop's log over some days, and its tables in SQLite."""
    folder = tmp_path_factory.mktemp("queries")
    log = write_shop(folder, VISITS)
    tables = SqliteTables(folder / "tables.db")
    feed(log, tables).run()
    tables.close()
    yield log, folder / "tables.db"
    log.close()


@pytest.fixture(scope="module")
def postgres(shop: tuple[EmbeddedLog, Path]) -> str:
    """Return the address of the same tables in Postgres."""
    dsn = shared_postgres().new_database()
    tables = opened("postgres", dsn)
    feed(shop[0], tables).run()
    tables.close()
    return dsn


def plain(rows: list[tuple[Any, ...]]) -> Answer:
    """Return an answer without a database's own types."""
    return [tuple(_plain(value) for value in row) for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    return value if value is None or isinstance(value, int | float | str) else str(value)


def assert_same(found: Answer, right: Answer) -> None:
    """Compare answers, up to the places they are rounded to."""
    assert len(found) == len(right)
    for ours, theirs in zip(found, right, strict=True):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            if isinstance(one, float) and isinstance(other, int | float):
                assert one == pytest.approx(other, rel=1e-9, abs=_rounded(one, other))
            else:
                assert one == other, (ours, theirs)


def _rounded(one: float, other: float) -> float:
    """Return how far rounding may have moved a number; a half may go either way."""
    if abs(other) >= 2.0:
        return 0.5 if abs(other) >= 100.0 else 0.05
    places = max(3, len(f"{one:.9f}".rstrip("0").partition(".")[2]))
    return 0.51 * 10.0**-places


def text_of(name: str) -> str:
    return (QUERIES / f"{name}.sql").read_text(encoding="utf-8")


def in_sqlite(path: Path, name: str) -> Answer:
    db = sqlite3.connect(path)
    try:
        return plain(db.execute(text_of(name)).fetchall())
    finally:
        db.close()


@pytest.mark.parametrize("name", NAMES)
def test_the_answer_is_what_plain_python_finds_in_the_log(
    name: str, shop: tuple[EmbeddedLog, Path]
) -> None:
    log, path = shop
    assert_same(in_sqlite(path, name), ANSWERS[name[3:]](Log(log)))


@pytest.mark.parametrize("name", NAMES)
def test_postgres_gives_the_same_answer(
    name: str, shop: tuple[EmbeddedLog, Path], postgres: str
) -> None:
    with psycopg.connect(postgres, options="-c search_path=pho") as db:
        found = plain(db.execute(text_of(name).encode()).fetchall())
    assert_same(found, in_sqlite(shop[1], name))


def test_there_are_ten_and_each_begins_with_its_question() -> None:
    assert len(NAMES) == len(ANSWERS) == 10
    for name in NAMES:
        question = text_of(name).split("SELECT")[0]
        assert question.startswith("-- ")
        assert "?" in question
    assert CONFIG.loop_id == "greeting"
