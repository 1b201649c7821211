"""learn: each outcome once, in order; epochs, versions, directives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from joining import Alone
from policies.registry import restore
from schemas.loops import LoopConfigured, Parameter, PolicyConfigured, with_hash
from schemas.outcomes import OutcomeClosed, PolicyDirected, PolicySnapshot
from worlds import RULES, START_MS, decided, loop, outcome

T = START_MS


class Learning:
    """A learning log, one record each millisecond."""

    def __init__(self, config: LoopConfigured) -> None:
        self.alone = Alone("learn")
        self.count = 0
        self.take(config)

    def take(self, *values: Any) -> PolicySnapshot | None:
        """Append records; return the newest snapshot."""
        for value in values:
            self.count += 1
            self.alone.at(self.count, "outcomes", value)
        snapshots = self.alone.out("policies")
        return snapshots[-1] if snapshots else None

    @property
    def versions(self) -> list[tuple[int, int]]:
        return [(snapshot.epoch, snapshot.version) for snapshot in self.alone.out("policies")]


def learned(config: LoopConfigured, number: int = 0, **changes: Any) -> OutcomeClosed:
    return outcome(decided(f"v{number}", T, config), 0.5, **changes)


def directive(**changes: Any) -> PolicyDirected:
    told = PolicyDirected("d1", "greeting", "main", "explore", "the owner", "a test")
    return replace(told, floor_ppb=300_000_000, **changes)


def test_the_version_counts_the_records_that_changed_the_policy() -> None:
    config = loop()
    learning = Learning(config)
    newest = learning.take(
        learned(config, 1),
        learned(config, 2, learnable=False, learnable_reason="shown_other"),
        learned(config, 3, precision=0.0),
        learned(config, 4),
    )
    assert newest is not None
    assert learning.versions == [(0, 1), (0, 2)]
    assert (newest.learned_through_id, newest.learned_through_log_time_ms) == ("v4", T + 5)


def test_every_version_is_a_prefix_of_the_log() -> None:
    config = loop()
    outcomes = [learned(config, number) for number in range(6)]
    whole = Learning(config)
    whole.take(*outcomes)
    for count in range(1, 7):
        prefix = Learning(config).take(*outcomes[:count])
        assert prefix == whole.alone.out("policies")[count - 1]


def test_the_order_of_the_log_is_the_order_of_learning() -> None:
    config = loop()
    outcomes = [replace(learned(config, n), reward=n / 7.0) for n in range(6)]
    one, other = Learning(config).take(*outcomes), Learning(config).take(*outcomes[::-1])
    assert one is not None
    assert other is not None
    assert one.checksum != other.checksum


def test_an_outcome_before_any_configuration_is_a_dead_letter() -> None:
    alone = Alone("learn")
    alone.at(0, "outcomes", learned(loop()))
    assert alone.aside("dead-letters") == [("outcomes", "unknown_loop")]
    assert alone.remembered == {"learn": 0}


def test_an_outcome_that_does_not_fit_is_a_dead_letter_and_learning_goes_on() -> None:
    config = loop()
    learning = Learning(config)
    broken = learned(config, 1)
    features = replace(broken.choice.features, dense=(1.0,))
    learning.take(replace(broken, choice=replace(broken.choice, features=features)))
    assert learning.alone.aside("dead-letters") == [("outcomes", "not_learnable")]
    learning.take(learned(config, 2))
    assert learning.versions == [(0, 1)]


def test_the_same_configuration_again_changes_nothing() -> None:
    config = loop()
    learning = Learning(config)
    learning.take(learned(config), config)
    assert learning.versions == [(0, 1)]


@pytest.mark.parametrize(
    "changed",
    [
        loop(feature_names=("bias", "sad")),
        loop(rules={"default_reward": 0.25}),
        loop(rules={"reward_window_ms": 6_000}),
        loop(rules={"aggregation": "sum"}),
        loop(
            policies=(PolicyConfigured("main", "thompson", "serving", (Parameter("beta", 2.0),)),)
        ),
        loop(algorithm="uniform"),
    ],
    ids=["features", "default", "window", "aggregation", "parameters", "algorithm"],
)
def test_a_change_of_what_was_learned_starts_a_new_epoch_from_the_prior(
    changed: LoopConfigured,
) -> None:
    config = loop()
    learning = Learning(config)
    learning.take(learned(config, 1), changed)
    assert learning.versions == [(0, 1), (1, 0)]
    prior = Learning(changed).take(directive())
    newest = learning.alone.out("policies")[-1]
    assert prior is not None
    assert newest.checksum == prior.checksum


def test_an_outcome_of_another_epoch_is_not_learned() -> None:
    config, changed = loop(), loop(rules={"default_reward": 0.25})
    learning = Learning(config)
    learning.take(changed, learned(config, 1), learned(changed, 2))
    assert learning.versions == [(1, 0), (1, 1)]


@pytest.mark.parametrize(
    "changed",
    [
        loop(seed=8),
        loop(rules={"grace_ms": 400}),
        loop(rules={"dedup_horizon_ms": 70_000}),
        loop(control_share_ppb=0),
    ],
    ids=["seed", "grace", "horizon", "control"],
)
def test_other_changes_go_on_in_the_same_epoch_and_learn_outcomes_of_both(
    changed: LoopConfigured,
) -> None:
    config = loop()
    learning = Learning(config)
    learning.take(learned(config, 1), changed, learned(config, 2), learned(changed, 3))
    assert learning.versions == [(0, 1), (0, 1), (0, 2), (0, 3)]


def test_actions_come_and_go_and_what_stays_keeps_what_was_learned_of_it() -> None:
    config = loop(3)
    learning = Learning(config)
    learning.take(*(learned(config, number) for number in range(8)))
    before: PolicySnapshot = learning.alone.out("policies")[-1]
    more = loop(4)
    after = learning.take(more)
    assert after is not None
    assert (after.epoch, after.version, after.actions) == (0, 9, ("a0", "a1", "a2", "a3"))
    moments = restore(before, config).snapshot_arrays()[1].data
    assert restore(after, more).snapshot_arrays()[1].data.startswith(moments)
    fewer = learning.take(loop(2))
    assert fewer is not None
    assert (fewer.version, fewer.actions) == (10, ("a0", "a1"))
    gone = next(made for number in range(99) if (made := learned(config, number)).choice.action_id
                == "a2")  # fmt: skip
    learning.take(gone)
    assert learning.versions[-1] == (0, 10), "an action it does not have teaches nothing"


def test_explore_sets_the_floor_of_one_policy_and_counts_as_a_version() -> None:
    shadow = PolicyConfigured("beside", "thompson", "shadow")
    config = loop(policies=(PolicyConfigured("main", "thompson"), shadow))
    learning = Learning(config)
    newest = learning.take(directive())
    assert newest is not None
    assert (newest.policy_id, newest.version, newest.floor_ppb) == ("main", 1, 300_000_000)
    assert len(learning.versions) == 1
    learning.take(learned(config, 1))
    assert [(s.policy_id, s.version, s.floor_ppb) for s in learning.alone.out("policies")[1:]] == [
        ("main", 2, 300_000_000),
        ("beside", 1, config.floor_ppb),
    ]


@pytest.mark.parametrize(
    "bad",
    [
        directive(kind="promote"),
        directive(policy_id="nobody"),
        replace(directive(), floor_ppb=None),
    ],
    ids=["kind", "policy", "floor"],
)
def test_a_directive_that_cannot_be_obeyed_is_a_dead_letter(bad: PolicyDirected) -> None:
    learning = Learning(loop())
    learning.take(bad)
    assert learning.alone.aside("dead-letters") == [("outcomes", "bad_directive")]
    assert learning.versions == []


def test_a_retired_policy_learns_nothing_more() -> None:
    roles = (
        PolicyConfigured("main", "thompson"),
        PolicyConfigured("old", "thompson", "retired"),
    )
    config = loop(policies=roles)
    learning = Learning(config)
    learning.take(learned(config, 1))
    assert [s.policy_id for s in learning.alone.out("policies")] == ["main"]


def test_a_role_is_held_since_the_record_that_gave_it() -> None:
    config = loop(policies=(PolicyConfigured("main", "thompson"),
                            PolicyConfigured("next", "thompson", "shadow")))  # fmt: skip
    swapped = loop(policies=(PolicyConfigured("main", "thompson", "shadow"),
                             PolicyConfigured("next", "thompson")))  # fmt: skip
    learning = Learning(config)
    learning.take(learned(config, 1), swapped)
    main, following = learning.alone.out("policies")[-2:]
    assert (main.role, following.role) == ("shadow", "serving")
    assert main.role_since_log_time_ms == following.role_since_log_time_ms == T + 3
    assert (main.version, following.version) == (1, 1)


def test_what_learn_remembers_survives_its_packing() -> None:
    config = with_hash(replace(loop(), rules=replace(RULES, aggregation="mean")))
    learning = Learning(config)
    learning.take(learned(config, 1), loop(4, rules={"aggregation": "mean"}), directive())
    operator = learning.alone.engine.dataflow.keyed[0].operator
    state, _ = learning.alone.engine.states["learn"]["greeting"]
    again = operator.unpack(*operator.pack(state))
    assert operator.pack(again) == operator.pack(state)
    assert again.config == state.config
    assert [replace(a, policy=b.policy) for a, b in zip(again.learners, state.learners, strict=True)
            ] == list(state.learners)  # fmt: skip


def test_a_policy_that_comes_back_starts_above_its_last_epoch() -> None:
    alone = loop()
    both = loop(policies=(PolicyConfigured("main", "thompson"),
                          PolicyConfigured("next", "thompson", "shadow")))  # fmt: skip
    learning = Learning(both)
    learning.take(learned(both, 1), alone)
    state, _ = learning.alone.engine.states["learn"]["greeting"]
    operator = learning.alone.engine.dataflow.keyed[0].operator
    assert operator.unpack(*operator.pack(state)).ended == state.ended == (("next", 0),)
    learning.take(both)
    newest = {s.policy_id: (s.epoch, s.version) for s in learning.alone.out("policies")}
    # At (0, 0) it would stand below the (0, 1) it left behind, and never be served.
    assert newest == {"main": (0, 1), "next": (1, 0)}
