"""Timers fire once, in the order (time, key), and only those still wanted."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engines.timers import Timers

_keys = st.sampled_from("abcde")
# Around the edges of buckets of 256 ms.
_times = st.sampled_from([1, 255, 256, 257, 511, 512, 513]) | st.integers(1, 3_000)
_actions = st.one_of(
    st.tuples(st.just("set"), _keys, _times),
    st.tuples(st.just("forget"), _keys, st.just(0)),
    st.tuples(st.just("fire"), st.just(""), _times),
)


def _fired(timers: Timers, wanted: dict[str, int], before_ms: int) -> list[tuple[int, str]]:
    found = []
    while (due := timers.pop_due(before_ms)) is not None:
        found.append(due)
        del wanted[due[1]]
    return found


@settings(max_examples=300)
@given(st.lists(_actions, max_size=40))
def test_what_fires_is_what_is_wanted_below_the_time_in_order(
    actions: list[tuple[str, str, int]],
) -> None:
    wanted: dict[str, int] = {}
    timers = Timers(wanted.get)
    for kind, key, at_ms in actions:
        if kind == "set":
            wanted[key] = at_ms
            timers.set(key, at_ms)
        elif kind == "forget":
            wanted.pop(key, None)
        else:
            expected = sorted((t, k) for k, t in wanted.items() if t < at_ms)
            assert _fired(timers, wanted, at_ms) == expected


def test_a_timer_fires_after_every_record_of_its_own_time() -> None:
    wanted = {"a": 100}
    timers = Timers(wanted.get)
    timers.set("a", 100)
    assert timers.pop_due(100) is None
    assert timers.pop_due(101) == (100, "a")


def test_a_timer_that_was_replaced_fires_at_its_new_time_only() -> None:
    wanted = {"a": 100}
    timers = Timers(wanted.get)
    timers.set("a", 100)
    wanted["a"] = 900
    timers.set("a", 900)
    assert timers.pop_due(900) is None
    assert _fired(timers, wanted, 901) == [(900, "a")]


def test_a_timer_set_twice_for_the_same_time_fires_once() -> None:
    wanted = {"a": 100}
    timers = Timers(wanted.get)
    for _ in range(2):
        timers.set("a", 100)
    assert _fired(timers, wanted, 5_000) == [(100, "a")]
