"""Directives: obeyed once, in the order of the log, or put aside with the state untouched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from joining import Alone
from pipelines.learn import Learn
from pipelines.learners import Learning
from schemas.codec import encode
from schemas.loops import LoopConfigured, PolicyConfigured
from schemas.outcomes import NamedArray, PolicyDirected, PolicySnapshot
from worlds import START_MS, decided, loop, outcome

T = START_MS
MAIN, NEXT = PolicyConfigured("main", "thompson"), PolicyConfigured("next", "thompson", "shadow")


class Log:
    """A learning log of a loop with two policies, one record each millisecond."""

    def __init__(self, config: LoopConfigured | None = None, *, watched: bool = True) -> None:
        self.config = config or loop(policies=(MAIN, NEXT))
        self.alone = Alone("learn", watched=watched)
        self.count = 0
        self.take(self.config)

    def take(self, *values: Any) -> None:
        """Append records."""
        for value in values:
            self.count += 1
            self.alone.at(self.count, "outcomes", value)

    def learn(self, count: int) -> None:
        """Append outcomes."""
        for _ in range(count):
            self.take(outcome(decided(f"v{self.count}", T, self.config), 0.5))

    @property
    def state(self) -> Learning:
        """What is learned."""
        state, _ = self.alone.engine.states["learn"]["greeting"]
        assert isinstance(state, Learning)
        return state

    @property
    def roles(self) -> dict[str, str]:
        """The role of each policy."""
        return {learner.policy_id: learner.role for learner in self.state.learners}

    @property
    def versions(self) -> dict[str, tuple[int, int]]:
        """Epoch and version of each policy."""
        return {each.policy_id: (each.epoch, each.version) for each in self.state.learners}

    def newest(self, policy_id: str = "main") -> PolicySnapshot:
        """Return the newest snapshot of a policy."""
        found: list[PolicySnapshot] = self.alone.out("policies")
        return [each for each in found if each.policy_id == policy_id][-1]

    @property
    def dead_letters(self) -> list[str]:
        """The errors of what was put aside."""
        return [side.error for side in self.alone.out("dead-letters")]


def told(
    kind: Any, policy_id: str = "main", directive_id: str = "d1", **more: Any
) -> PolicyDirected:
    base = PolicyDirected(directive_id, "greeting", policy_id, kind, "the owner", "a test")
    return replace(base, **more)


def back_to(snapshot: PolicySnapshot, new_epoch: int, **more: Any) -> PolicyDirected:
    directive = told("rollback", snapshot.policy_id)
    return replace(
        directive,
        new_epoch=new_epoch,
        base_epoch=snapshot.epoch,
        base_version=snapshot.version,
        arrays=snapshot.arrays,
        snapshot_checksum=snapshot.checksum,
        **more,
    )


def test_a_promotion_swaps_the_roles_from_its_record_on_and_counts_in_both() -> None:
    log = Log()
    log.learn(2)
    log.take(told("promote", "next"))
    assert log.roles == {"main": "shadow", "next": "serving"}
    assert log.versions == {"main": (0, 3), "next": (0, 3)}
    assert log.newest("main").role_since_log_time_ms == T + 4
    assert log.newest("next").role_since_log_time_ms == T + 4
    log.learn(1)
    assert log.versions == {"main": (0, 4), "next": (0, 4)}, "both go on learning"


def test_a_rollback_starts_an_epoch_with_the_bytes_of_its_base_and_learns_on() -> None:
    log = Log()
    log.learn(2)
    base = log.newest()
    log.learn(3)
    log.take(back_to(base, 1))
    newest = log.newest()
    assert (newest.epoch, newest.version) == (1, 0)
    assert (newest.base_epoch, newest.base_version) == (0, 2)
    assert (newest.checksum, newest.role) == (base.checksum, "serving")
    assert log.versions["next"] == (0, 5), "the other goes on"
    log.learn(1)
    assert log.versions["main"] == (1, 1)
    assert (log.newest().base_epoch, log.newest().base_version) == (0, 2)


def test_a_rolled_back_policy_is_the_one_that_learned_only_the_base_and_what_followed() -> None:
    log, other = Log(), Log()
    outcomes = [outcome(decided(f"v{n}", T, log.config), n / 9.0) for n in range(9)]
    log.take(*outcomes[:3])
    base = log.newest()
    log.take(*outcomes[3:6], back_to(base, 1), *outcomes[6:])
    other.take(*outcomes[:3], *outcomes[6:])
    assert log.newest().checksum == other.newest().checksum


def test_an_erasure_starts_an_epoch_with_what_the_log_without_the_person_teaches() -> None:
    log, without = Log(), Log()
    outcomes = [outcome(decided(f"v{n}", T, log.config), n / 9.0) for n in range(9)]
    log.take(*outcomes[:6])
    without.take(*(each for n, each in enumerate(outcomes[:6]) if n != 2))
    clean = without.newest()
    erase = told("erase", new_epoch=1, arrays=clean.arrays, snapshot_checksum=clean.checksum,
                 learn_from_log_time_ms=T + log.count)  # fmt: skip
    log.take(erase, *outcomes[6:])
    without.take(*outcomes[6:])
    assert log.newest().checksum == without.newest().checksum
    assert log.versions["main"] == (1, 3)


def test_an_epoch_can_start_from_the_prior_or_from_given_arrays() -> None:
    log = Log()
    empty = Log()
    empty.take(told("explore", floor_ppb=1))
    log.learn(3)
    taught = log.newest("next")
    log.take(told("prior", new_epoch=1))
    assert log.newest().checksum == empty.newest().checksum
    assert (log.newest().base_epoch, log.newest().role) == (None, "serving")
    log.take(told("prior", directive_id="d2", new_epoch=2, arrays=taught.arrays,
                  snapshot_checksum=taught.checksum))  # fmt: skip
    assert log.newest().checksum == taught.checksum


def test_a_retired_policy_learns_nothing_until_it_is_added_again() -> None:
    log = Log()
    log.take(told("retire", "next"))
    log.learn(2)
    assert (log.roles["next"], log.versions["next"]) == ("retired", (0, 1))
    log.take(told("add", "next", "d2"))
    log.learn(1)
    assert (log.roles["next"], log.versions["next"]) == ("shadow", (0, 3))


def test_a_repeat_of_a_directive_changes_nothing() -> None:
    log = Log()
    base = Log()
    base.learn(1)
    for directive in (
        told("promote", "next", "p"),
        told("explore", "next", "e", floor_ppb=5),
        replace(back_to(base.newest(), 1), directive_id="r"),
    ):
        log.take(directive)
        before, snapshots = log.state, len(log.alone.out("policies"))
        log.take(directive)
        assert log.state == before
        assert len(log.alone.out("policies")) == snapshots
    assert log.dead_letters == []


def bad_ones() -> dict[str, tuple[PolicyDirected, str]]:
    """Return directives that cannot be obeyed, each with what its cure says."""
    log = Log()
    log.learn(1)
    base = log.newest()
    torn = NamedArray("moments", (1,), b"\0" * 8)
    other = replace(base.arrays[1], data=b"\1" + base.arrays[1].data[1:])
    return {
        "unknown kind": (told("unknown"), "It obeys"),
        "unknown policy": (told("promote", "nobody"), "It has main, next"),
        "serves already": (told("promote"), "Nothing is to be done"),
        "retire who serves": (told("retire"), "Promote another first"),
        "add who learns": (told("add", "next"), "Only a retired policy"),
        "no floor": (told("explore"), "Give floor_ppb"),
        "no epoch": (told("prior"), "it must start 1"),
        "same epoch": (back_to(base, 0), "it must start 1"),
        "far epoch": (back_to(base, 2), "it must start 1"),
        "no base": (replace(back_to(base, 1), base_version=None), "Give base_epoch"),
        "no arrays": (replace(back_to(base, 1), arrays=()), "Its checksum is"),
        "no checksum": (replace(back_to(base, 1), snapshot_checksum=None), "names the checksum"),
        "altered": (replace(back_to(base, 1), arrays=(base.arrays[0], other)), "Its checksum is"),
        "torn": (replace(back_to(base, 1), arrays=(torn,)), "Its checksum is"),
        "from the future": (back_to(base, 1, learn_from_log_time_ms=T + 10**6), "at most its own"),
        "erase without arrays": (told("erase", new_epoch=1), "names the checksum"),
    }


@pytest.mark.parametrize("name", bad_ones())
def test_a_directive_that_cannot_be_obeyed_is_a_dead_letter_and_the_state_stays(name: str) -> None:
    bad, cure = bad_ones()[name]
    log = Log()
    log.learn(2)
    before, snapshots = log.state, len(log.alone.out("policies"))
    log.take(bad)
    assert log.alone.aside("dead-letters") == [("outcomes", "bad_directive")]
    assert cure in log.dead_letters[0]
    assert log.state == before
    assert len(log.alone.out("policies")) == snapshots


def test_a_retired_policy_is_not_promoted() -> None:
    log = Log()
    log.take(told("retire", "next"), told("promote", "next", "d2"))
    assert log.roles == {"main": "serving", "next": "retired"}
    assert "Add it again first" in log.dead_letters[0]


def test_a_promotion_outlives_other_configurations_and_a_new_epoch() -> None:
    log = Log()
    log.take(told("promote", "next"))
    log.take(loop(4, policies=(MAIN, NEXT)))
    assert log.roles == {"main": "shadow", "next": "serving"}
    log.take(loop(4, policies=(MAIN, NEXT), rules={"default_reward": 0.25}))
    assert log.versions == {"main": (1, 0), "next": (1, 0)}
    assert log.roles == {"main": "shadow", "next": "serving"}


def test_when_the_promoted_policy_is_taken_out_the_configured_one_serves_again() -> None:
    log = Log()
    log.take(told("promote", "next"), loop(policies=(MAIN,)))
    assert log.roles == {"main": "serving"}
    assert log.newest().role_since_log_time_ms == T + 3


def test_after_a_configuration_that_names_another_only_one_serves() -> None:
    log = Log()
    third = PolicyConfigured("third", "thompson")
    log.take(told("promote", "next"))
    log.take(loop(policies=(replace(MAIN, role="shadow"), NEXT, third)))
    assert log.roles == {"main": "shadow", "next": "shadow", "third": "serving"}


def test_a_state_packed_before_directives_were_remembered_is_read() -> None:
    log = Log()
    log.learn(2)
    operator = Learn()
    data, records = operator.pack(log.state)
    old = msgspec.msgpack.encode(msgspec.msgpack.decode(data)[:3])
    again = operator.unpack(old, records)
    assert again.directive_ids == ()
    assert operator.pack(again) == (data, records)


def test_what_is_remembered_of_directives_and_bases_survives_packing() -> None:
    log = Log()
    log.learn(2)
    log.take(back_to(log.newest(), 1), told("promote", "next", "d2"))
    operator = Learn()
    again = operator.unpack(*operator.pack(log.state))
    assert again.directive_ids == ("d1", "d2")
    assert [(each.base_epoch, each.base_version) for each in again.learners] == [
        (0, 2),
        (None, None),
    ]
    assert operator.pack(again) == operator.pack(log.state)


KINDS = ("add", "promote", "retire", "explore", "prior", "rollback", "learn", "again")


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(("main", "next", "third")),
                          st.integers(0, 3)), max_size=14))  # fmt: skip
def test_whatever_is_directed_one_policy_serves_and_the_log_alone_says_all(
    script: list[tuple[str, str, int]],
) -> None:
    third = replace(NEXT, policy_id="third")
    log = Log(loop(policies=(MAIN, NEXT, third)), watched=False)
    records: list[Any] = []
    for number, (kind, policy_id, epoch) in enumerate(script):
        if kind == "learn":
            records.append(outcome(decided(f"v{number}", T, log.config), epoch / 4.0))
        elif kind == "again" and records:
            records.append(records[epoch % len(records)])
            if encode(records[-1]) in map(encode, records[:-1]) and not isinstance(
                records[-1], PolicyDirected
            ):
                records.pop()  # an engine drops repeated outcomes before they come here
        elif kind != "again":
            more = {"floor_ppb": 7} if kind == "explore" else {"new_epoch": epoch}
            records.append(told(kind, policy_id, f"d{number}", **more))
    seen: dict[str, tuple[int, int]] = {}
    for record in records:
        log.take(record)
        assert list(log.roles.values()).count("serving") == 1
        for policy_id, now in log.versions.items():
            assert now >= seen.get(policy_id, (0, 0)), "versions only rise"
            seen[policy_id] = now
    again = Log(log.config, watched=False)
    again.take(*records)
    operator = Learn()
    assert operator.pack(again.state) == operator.pack(log.state)
    # A restart between any two records changes nothing.
    middle = Log(log.config, watched=False)
    for record in records:
        packed = operator.unpack(*operator.pack(middle.state))
        middle.alone.engine.states["learn"]["greeting"] = (packed, None)
        middle.take(record)
    assert operator.pack(middle.state) == operator.pack(log.state)
