"""Bad input to the whole loop on Flink, live: the broker gives the log times, the ticker ticks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from connectors.kafka_clients import Outgoing
from engines.ticker import Ticker
from flink_runs import Topics, running
from schemas.codec import current, decode, encode
from schemas.errors import RecordError
from schemas.operations import AlarmRaised, SideRecord
from schemas.outcomes import OutcomeClosed, PolicySnapshot
from schemas.streams import key_of
from worlds import START_MS, analyzed, decided, ended, loop, rewarded, shown

pytestmark = pytest.mark.timeout(300)

YEAR_2100_MS = 4_102_444_800_000
FAST_MS = 600_000
VISITS = [f"v{number}" for number in range(9)]
FAST = [f"fast{number}" for number in range(9)]
ODD_TIMES = {"born1970": 0, "born2100": YEAR_2100_MS}
RULES = {"activation": "at_decision", "reward_window_ms": 60_000, "dedup_horizon_ms": 200_000}
CONFIG = loop(rules=RULES)
GOOD: dict[str, Any] = {
    "analyses": analyzed("x", "pre", 0, START_MS, 0.2),
    "decisions": decided("x", START_MS),
    "impressions": shown("x", "a0", START_MS),
    "rewards": rewarded("x", 1, 0.5, START_MS),
    "visits": ended("x", START_MS),
    "outcomes": CONFIG,
    "loops": CONFIG,
}
POISONS = {
    "the id of a foreign schema": "UnknownSchema",
    "no value": "UnknownSchema",
    "a truncated value": "TornRecord",
    "a record of another stream": "WrongRecord",
    "another key": "WrongKey",
    "no key": "WrongKey",
}
"""What is wrong with a record, and the reason its dead letter gives."""


def poison(kind: str, stream: str, topic: str) -> Outgoing:
    """Return a record that nobody can take, for the last partition of a topic or its only one."""
    value = GOOD.get(stream)
    key, raw = b"x", current("PolicySnapshot").header
    if value is not None:
        key, raw = key_of(value, stream).encode(), encode(value)
    alarm = AlarmRaised("x", "greeting", "reward_fell", "test", START_MS)
    raw = {
        "the id of a foreign schema": b"\x00\x00\x00\x00\x07" + raw[10:],
        "no value": b"",
        "a truncated value": raw[:-1] if value is not None else raw,
        # It names a loop, as a configuration does.
        "a record of another stream": encode(alarm),
    }.get(kind, raw)
    key = {"another key": b"another", "no key": b""}.get(kind, key)
    return Outgoing(topic, key, raw, partition=0 if stream in ("loops", "policies") else 2)


class Lived:
    """The loop, fed with bad and good, and what came of it."""

    def __init__(self) -> None:
        self.topics = Topics("live", bridged=False)
        self.ticker = Ticker(self.topics.client, lambda: 120_000)
        self.poisoned: dict[tuple[str, str], tuple[int, int]] = {}

    def put(self, stream: str, value: Any, timestamp_ms: int | None = None) -> None:
        topic = self.topics.address.topic(stream)
        key = key_of(value, stream).encode()
        self.topics.client.produce([Outgoing(topic, key, encode(value), timestamp_ms)])

    def begin(self) -> None:
        self.put("loops", CONFIG)
        self.put("outcomes", CONFIG)
        for stream in (*GOOD, "policies"):
            for kind in POISONS:
                if stream == "policies" and kind in ("another key", "no key"):
                    continue
                one = poison(kind, stream, self.topics.address.topic(stream))
                self.poisoned[stream, kind] = self.topics.client.produce([one])[0]

    def frames(self) -> None:
        now_ms = time.time_ns() // 1_000_000
        for name in VISITS:
            self.put("analyses", analyzed(name, "pre", 0, now_ms, 0.2))
        for name, at_ms in ODD_TIMES.items():
            self.put("analyses", analyzed(name, "pre", 0, max(at_ms, now_ms), 0.2))
        self.put("analyses", analyzed("ancient", "pre", 0, 0, 0.2))
        for name in FAST:
            at_ms = now_ms + FAST_MS
            self.put("analyses", analyzed(name, "pre", 0, at_ms, 0.2), at_ms)
            self.put("impressions", shown(name, "a0", at_ms), at_ms)
            self.put("visits", ended(name, at_ms, 1), at_ms)

    def rewards(self) -> None:
        now_ms = time.time_ns() // 1_000_000
        for name in (*VISITS, *FAST):
            at_ms = now_ms + FAST_MS * (name in FAST)
            self.put("rewards", rewarded(name, 1, 0.5, at_ms, final=True), at_ms)
        for name, at_ms in ODD_TIMES.items():
            self.put("rewards", rewarded(name, 1, 0.25, at_ms))
            self.put("rewards", rewarded(name, 2, 0.5, now_ms - 1_000, final=True))

    def has(self, stream: str, count: int, kind: type[Any]) -> bool:
        self.ticker.step(time.monotonic())
        return sum(isinstance(value, kind) for value in self.all(stream)) >= count

    def has_learned(self) -> bool:
        self.ticker.step(time.monotonic())
        versions = [each.version for each in self.all("policies") if hasattr(each, "version")]
        return bool(versions) and max(versions) == sum(
            each.learnable for each in self.outcomes.values()
        )

    def all(self, stream: str) -> list[Any]:
        found = []
        for record in self.topics.records(stream):
            try:
                found.append(decode(record.value or b""))
            except RecordError:
                continue
        return found

    @property
    def outcomes(self) -> dict[str, OutcomeClosed]:
        them = [each for each in self.all("outcomes") if isinstance(each, OutcomeClosed)]
        assert len({each.choice.decision_id for each in them}) == len(them)
        return {each.choice.decision_id: each for each in them}


@pytest.fixture(scope="module")
def lived() -> Iterator[Lived]:
    them = Lived()
    count = len(VISITS) + len(ODD_TIMES) + len(FAST)
    initial = (("loops", key_of(CONFIG, "loops"), 0, 0, START_MS, encode(CONFIG).hex()),)
    them.begin()
    told = them.topics.settings("decide", "greet", "join", "learn", initial=initial)
    with running(told) as job:
        them.frames()
        decisions = count + 2  # two stand there with a wrong key
        for stream, number, kind in (
            ("decisions", decisions, type(GOOD["decisions"])),
            ("dead-letters", len(them.poisoned), SideRecord),
        ):
            job.wait_until(lambda s=stream, n=number, k=kind: them.has(s, n, k), stream)
        them.rewards()
        job.wait_until(lambda: them.has("outcomes", count, OutcomeClosed), "outcomes")
        job.wait_until(lambda: them.has_learned(), "the newest policy")
        yield them
        job.check()
    them.topics.close()


@pytest.mark.parametrize("kind", POISONS)
def test_a_record_nobody_can_take_is_one_dead_letter_with_its_place(
    kind: str, lived: Lived
) -> None:
    letters = [(x.stream, x.partition, x.offset, x.reason) for x in lived.all("dead-letters")]
    wanted = [
        (stream, partition, offset, POISONS[kind])
        for (stream, what), (partition, offset) in lived.poisoned.items()
        if what == kind
    ]
    assert sorted(wanted) == sorted(x for x in letters if x[:3] in {w[:3] for w in wanted})


def test_there_are_no_other_dead_letters(lived: Lived) -> None:
    assert len(lived.all("dead-letters")) == len(lived.poisoned)


def test_the_partitions_go_on_behind_them(lived: Lived) -> None:
    used = {record.partition for record in lived.topics.records("analyses")}
    assert used == {0, 1, 2}
    for name in VISITS:
        assert (lived.outcomes[name].result, lived.outcomes[name].reward) == ("rewarded", 0.5)


def test_event_times_of_1970_and_2100_hold_nobody_up(lived: Lived) -> None:
    old, young = (lived.outcomes[name] for name in ODD_TIMES)
    # What says 1970 lies outside the window; what says 2100 counts as its log time: the latest.
    assert (old.reward_raw, young.reward_raw) == (0.5, 0.25)
    late = [(x.key, x.reason) for x in lived.all("late")]
    assert ("born1970", "outside_window") in late
    assert ("ancient", "analysis_too_old") in late
    assert "ancient" not in lived.outcomes
    assert len(lived.outcomes["born2100"].member_ids) == 2


def test_a_kiosk_ten_minutes_fast_closes_nobody_elses_window(lived: Lived) -> None:
    assert {lived.outcomes[name].closed_by for name in VISITS} == {"final_reward"}
    greeted = [greeting.decision_id for greeting in lived.all("greetings")]
    assert sorted(greeted) == sorted((*VISITS, *ODD_TIMES, *FAST))
    decided_at = [lived.outcomes[name].choice.decided_at_ms for name in (*VISITS, *FAST)]
    assert max(decided_at) < time.time_ns() // 1_000_000


def test_learning_goes_on(lived: Lived) -> None:
    snapshots = [each for each in lived.all("policies") if isinstance(each, PolicySnapshot)]
    learned = [each for each in lived.outcomes.values() if each.learnable]
    assert max(snapshot.version for snapshot in snapshots) == len(learned) > 0
