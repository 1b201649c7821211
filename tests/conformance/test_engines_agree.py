"""Every dataflow on every engine: the same log in, the same records out, stream by stream.

Mutations that were tried, each of which makes tests of this folder fail: a timer's ``<`` made
``<=`` (engines/timers.py, engines/memory.py), ``>=`` made ``>`` in `on_timer` (pipelines/join.py,
pipelines/remembered.py), a forgotten key kept (engines/state_store.py, engines/memory.py) or its
going left out of the changelog, the merge taking what is not complete (``<`` made ``<=``) or not
sorting it, the places of the merge kept as those of the reading (engines/embedded.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from join_scripts import Entry
from operator_logs import LOGS, answer_of, ended_by_ticks
from pipelines.operators import Dataflow
from pipelines.topology import greeting_loop
from runs import MemoryRun, Run, everything, feed, finish, without_times
from schemas.codec import decode
from visits import play
from worlds import START_MS, decided, ended, rewarded, shown

Start = Callable[[Dataflow], Run]
VISITS = 40
bounded = settings(
    max_examples=20,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
    ],
)


@pytest.fixture(scope="module")
def played() -> MemoryRun:
    """Return the visits as the reference plays them."""
    run = MemoryRun(greeting_loop(), Path())
    play(run, VISITS)
    return run


def test_the_visits_reach_every_kind_of_result(played: MemoryRun) -> None:
    values = [decode(data) for _, _, data in played.out("outcomes")]
    kinds = Counter(value.result for value in values if hasattr(value, "result"))
    assert kinds.keys() == {"rewarded", "defaulted", "dropped", "not_activated"}
    assert sum(kinds.values()) == VISITS
    for stream in ("late", "unmatched", "alarms", "policies"):
        assert played.out(stream), stream


def test_the_whole_loop_in_lock_step(start: Start, played: MemoryRun) -> None:
    run = start(greeting_loop())
    play(run, VISITS)
    assert everything(run) == everything(played)
    # Only what was learned stays: every visit is closed and forgotten.
    assert run.remembered == {"decide": 0, "greet": 0, "join": 0, "learn": 1}


@pytest.mark.never("memory", reason="it keeps nothing outside the process")
def test_the_whole_loop_with_a_new_engine_after_every_seventh_record(
    start: Start, played: MemoryRun
) -> None:
    run = start(greeting_loop())
    count = 0

    def restart_sometimes() -> None:
        nonlocal count
        count += 1
        if count % 7 == 0:
            run.restart()

    play(run, VISITS, restart_sometimes)
    assert everything(run) == everything(played)
    assert run.remembered == {"decide": 0, "greet": 0, "join": 0, "learn": 1}


def same_time() -> list[Entry]:
    """Return a log that names the streams of one log time in the wrong order.

    Taken in that order the visit would end before its impression: not activated.
    """
    made = decided("v", START_MS)
    values = {
        "visits": ended("v", START_MS, posts=1),
        "rewards": rewarded("v", 1, 0.5, START_MS),
        "impressions": shown("v", made.choice.action_id, START_MS),
        "decisions": made,
    }
    return ended_by_ticks([Entry(START_MS, stream, value) for stream, value in values.items()])


def test_at_one_log_time_the_order_of_the_streams_decides(start: Start) -> None:
    run = start(greeting_loop().only("join"))
    entries = same_time()
    feed(run, entries, [])
    finish(run, entries)
    (data,) = [data for _, _, data in run.out("outcomes")]
    assert (decode(data).result, decode(data).reward) == ("rewarded", 0.5)


# Single operators on logs of chance, in one go and in batches

_batches = st.lists(st.integers(1, 12), max_size=30)


@pytest.mark.parametrize("name", LOGS)
def test_one_operator_on_any_log_in_batches_of_any_size(name: str, start: Start) -> None:
    @bounded
    @given(LOGS[name], _batches)
    def check(entries: list[Entry], batches: list[int]) -> None:
        wanted = answer_of(name, entries)
        for sizes in ([], batches):
            run = start(greeting_loop().only(name))
            feed(run, entries, sizes)
            finish(run, entries)
            assert without_times(run) == without_times(wanted)
            assert run.remembered == wanted.remembered
            run.close()

    check()


@pytest.mark.parametrize("name", LOGS)
@pytest.mark.never("memory", reason="it keeps nothing outside the process")
def test_one_operator_on_any_log_with_a_new_engine_at_any_time(
    name: str, start: Start, engine_name: str
) -> None:
    # A failure that is expected need not be made small, which takes most of the time.
    phases = [Phase.generate] if engine_name == "memory" else list(Phase)

    @settings(bounded, phases=phases)
    @given(LOGS[name], st.lists(st.integers(0, 40), min_size=1, max_size=4))
    def check(entries: list[Entry], restarts: list[int]) -> None:
        wanted = answer_of(name, entries)
        run = start(greeting_loop().only(name))
        cut = [0, *sorted(place % len(entries) for place in restarts), len(entries)]
        for begin, end in pairwise(cut):
            if begin < end:
                feed(run, entries[begin:end], [2, 3])
            run.restart()
        finish(run, entries)
        assert without_times(run) == without_times(wanted)
        assert run.remembered == wanted.remembered
        run.close()

    check()
