"""Any version again from the learning log: what replay, rollback and erasure stand on."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.logs import Row
from engines.rebuilding import learned, learning, version_of
from joining import Alone
from schemas.codec import encode
from schemas.errors import PolicyError
from schemas.operations import Tick
from worlds import START_MS, decided, loop, outcome

CONFIG = loop()
OUTCOMES = [outcome(decided(f"v{n}", START_MS, CONFIG), n / 5.0) for n in range(5)]


def rows(*values: Any) -> list[Row]:
    return [
        Row(place, "outcomes", "greeting", START_MS + place, encode(value))
        for place, value in enumerate(values, 1)
    ]


def test_every_version_has_the_bytes_that_learn_gave_out() -> None:
    alone = Alone("learn")
    for after_ms, value in enumerate((CONFIG, *OUTCOMES), 1):
        alone.at(after_ms, "outcomes", value)
    given = alone.out("policies")
    assert len(given) == 5
    for snapshot in given:
        log = rows(CONFIG, *OUTCOMES)
        state, again = version_of(log, "main", snapshot.epoch, snapshot.version)
        assert again == snapshot
        assert state.config == CONFIG


def test_repeats_and_ticks_teach_nothing_and_what_was_put_aside_may_come_again() -> None:
    first, second = OUTCOMES[:2]
    tick = Tick(START_MS, "test")
    steps = list(learned(rows(first, CONFIG, tick, first, first, second)))
    assert [step.refused for step in steps] == [True, False, False, False, False]
    assert [step.repeat for step in steps] == [False, False, False, True, False]
    (learner,) = learning(rows(first, CONFIG, tick, first, first, second)).learners
    assert (learner.epoch, learner.version) == (0, 2)


def test_a_walk_stops_where_it_is_told_to_and_goes_on_from_what_is_known() -> None:
    log = rows(CONFIG, *OUTCOMES)
    start = list(learned(log, lambda step: step.record.offset == 3))
    assert len(start) == 3
    whole, rest = list(learned(log)), list(learned(log[3:], start=start[-1].state))
    assert [s.state.learners[0].version for s in rest if s.state] == [3, 4, 5]
    ends = [steps[-1].state for steps in (whole, rest)]
    arrays = [end.learners[0].policy.snapshot_arrays() for end in ends if end]
    assert arrays[0] == arrays[1]


def test_bytes_that_nobody_can_read_are_refused_and_the_walk_goes_on() -> None:
    torn = Row(2, "outcomes", "greeting", START_MS, b"torn")
    steps = list(learned([*rows(CONFIG), torn, *rows(OUTCOMES[0])]))
    assert [step.refused for step in steps] == [False, True, False]


def test_a_version_that_never_was_and_a_log_without_a_loop_are_told() -> None:
    with pytest.raises(PolicyError, match="no epoch 0 version 9"):
        version_of(rows(CONFIG, *OUTCOMES), "main", 0, 9)
    with pytest.raises(PolicyError, match="configures no loop"):
        learning(rows(OUTCOMES[0]))
