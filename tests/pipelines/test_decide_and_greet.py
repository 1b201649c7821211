"""decide: who decides, with which probabilities, in which words; greet: once, and in time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careful import careful
from engines.memory import MemoryEngine
from joining import Alone
from pipelines.decide import presentation
from pipelines.ready import make_ready
from pipelines.topology import greeting_loop
from policies.probabilities import draw_ppb
from policies.registry import prior
from policies.snapshots import Identity, take
from schemas.checks import PPB
from schemas.decisions import DecisionMade, GreetingIssued
from schemas.loops import ActionConfigured, LoopConfigured, PolicyConfigured, Role, Wording
from schemas.outcomes import PolicySnapshot
from worlds import START_MS, analyzed, decided, loop, outcome

T = START_MS


def deciding(config: LoopConfigured | None = None) -> Alone:
    alone = Alone("decide")
    alone.at(0, "loops", config or loop())
    return alone


def decisions_for(*frames: Any, config: LoopConfigured | None = None) -> list[DecisionMade]:
    alone = deciding(config)
    for after_ms, frame in enumerate(frames, 1):
        alone.at(after_ms, "analyses", frame)
    return alone.out("decisions")


def snapshot(config: LoopConfigured, version: int = 3, epoch: int = 0) -> PolicySnapshot:
    ready = make_ready(config, None)
    assert ready is not None
    policy = ready.policy
    for number in range(version):
        made = decided(f"v{number}", T, config)
        policy = policy.learn(outcome(made, 1.0))
    return take(policy, Identity("main", epoch, version, "serving", T, 123_456_789), config)


def test_the_first_answered_pre_frame_decides_and_later_ones_change_nothing() -> None:
    made = decisions_for(
        analyzed("v", "pre", 0, T, 0.1, status="refused", faces=()),
        analyzed("v", "pre", 1, T, 0.1, status="expired", faces=()),
        analyzed("v", "post", 2, T, 0.1),
        analyzed("v", "pre", 3, T, 0.3),
        analyzed("v", "pre", 4, T, 0.9),
    )
    assert [d.cause_id for d in made] == ["v.pre.3"]
    assert made[0].choice.happiness_before == 0.3
    assert made[0].choice.decided_at_ms == made[0].cause_log_time_ms == T + 4


@pytest.mark.parametrize("status", ["no_face", "failed"])
def test_without_a_face_the_baseline_is_a_fallback_of_probability_one(status: Any) -> None:
    (made,) = decisions_for(analyzed("v", "pre", 0, T, None, status=status))
    choice = made.choice
    assert (choice.mode, choice.support, choice.control) == ("fallback", "degenerate", False)
    assert (choice.action_id, choice.propensity_ppb) == ("a0", PPB)
    assert [a.probability_ppb for a in choice.actions] == [PPB, 0, 0]


@pytest.mark.parametrize("status", ["expired", "refused", "unknown"])
def test_an_expired_or_refused_frame_decides_nothing(status: Any) -> None:
    assert decisions_for(analyzed("v", "pre", 0, T, None, status=status)) == []


def test_an_unknown_loop_is_a_dead_letter_and_the_next_frame_may_decide() -> None:
    alone = Alone("decide")
    alone.at(0, "analyses", analyzed("v", "pre", 0, T, 0.1))
    assert alone.aside("dead-letters") == [("analyses", "unknown_loop")]
    alone.at(1, "loops", loop())
    alone.at(2, "analyses", analyzed("v", "pre", 1, T, 0.1))
    assert len(alone.out("decisions")) == 1


def test_the_newest_configuration_in_the_log_decides() -> None:
    alone = deciding(loop(seed=1))
    newest = loop(seed=2)
    alone.at(1, "loops", newest)
    alone.at(2, "analyses", analyzed("v", "pre", 0, T, 0.1))
    (made,) = alone.out("decisions")
    assert made.choice.config_hash == newest.config_hash


def test_before_any_snapshot_the_prior_decides_as_version_zero() -> None:
    (made,) = decisions_for(analyzed("v", "pre", 0, T, 0.1))
    assert (made.choice.epoch, made.choice.version) == (0, 0)
    assert made.choice.policy_checksum


@pytest.mark.parametrize("newest_first", [True, False])
def test_the_newest_policy_is_the_highest_version_not_the_last_in_the_log(
    newest_first: bool,
) -> None:
    config = loop()
    alone = deciding(config)
    both = [snapshot(config, 1, epoch=1), snapshot(config, 3, epoch=0)]
    for each in both if newest_first else both[::-1]:
        alone.at(1, "policies", each)
    alone.at(2, "analyses", analyzed("v", "pre", 0, T, 0.1))
    (made,) = alone.out("decisions")
    assert (made.choice.epoch, made.choice.version) == (1, 1)
    assert made.choice.policy_checksum == both[0].checksum
    assert made.choice.floor_ppb == 123_456_789


def test_a_snapshot_of_other_features_is_not_served_the_baseline_is() -> None:
    old = loop()
    config = loop(feature_names=("bias", "sad"))
    alone = deciding(config)
    alone.at(1, "policies", snapshot(old))
    alone.at(2, "analyses", analyzed("v", "pre", 0, T, 0.1))
    (made,) = alone.out("decisions")
    assert made.choice.mode == "fallback"


def test_a_snapshot_of_fewer_actions_decides_among_the_new_ones() -> None:
    old, config = loop(2), loop(4)
    serving = make_ready(config, snapshot(old))
    assert serving is not None
    assert serving.policy.actions == ("a0", "a1", "a2", "a3")
    # The floor in the snapshot was the old configuration's.
    assert serving.floor_ppb == config.floor_ppb


def with_shadow(**changes: Any) -> LoopConfigured:
    shadow = PolicyConfigured("next", "uniform", "shadow")
    return loop(policies=(PolicyConfigured("main", "thompson"), shadow), **changes)


def decided_after(config: LoopConfigured, *snapshots: PolicySnapshot) -> DecisionMade:
    alone = deciding(config)
    for each in snapshots:
        alone.at(1, "policies", each)
    alone.at(2, "analyses", analyzed("v", "pre", 0, T, 0.1))
    (made,) = alone.out("decisions")
    assert isinstance(made, DecisionMade)
    return made


def of(config: LoopConfigured, policy_id: str, role: Role, since_ms: int) -> PolicySnapshot:
    configured = next(p for p in config.policies if p.policy_id == policy_id)
    policy = prior(config, configured)
    return take(policy, Identity(policy_id, 0, 5, role, since_ms, 200_000_000), config)


@pytest.mark.parametrize(
    ("roles", "serves", "shadows"),
    [
        ([], "main", ["next"]),
        ([("main", "serving", 1)], "main", ["next"]),
        ([("main", "shadow", 2), ("next", "serving", 2)], "next", ["main"]),
        ([("next", "serving", 2)], "next", []),  # main's own snapshot, "shadow", comes in a moment
        ([("main", "serving", 1), ("next", "serving", 2)], "next", []),
        ([("main", "serving", 3), ("next", "serving", 2)], "main", []),
        ([("main", "shadow", 2)], "main", ["next"]),  # on the way: the other's comes in a moment
        ([("main", "serving", 1), ("next", "retired", 2)], "main", []),
    ],
)
def test_the_policy_decides_whose_snapshot_was_given_the_role_last(
    roles: list[tuple[str, Role, int]], serves: str, shadows: list[str]
) -> None:
    config = with_shadow()
    made = decided_after(config, *(of(config, *role) for role in roles))
    assert made.choice.policy_id == serves
    assert [shadow.policy_id for shadow in made.choice.shadows] == shadows


def test_a_shadow_says_what_it_would_have_decided_with() -> None:
    config = with_shadow()
    main, following = of(config, "main", "serving", 1), of(config, "next", "shadow", 1)
    beside = decided_after(config, main, following).choice.shadows[0]
    swapped = replace(main, role="shadow"), replace(following, role="serving")
    as_if = decided_after(config, *swapped)
    assert beside.probabilities_ppb == tuple(o.probability_ppb for o in as_if.choice.actions)
    assert (beside.epoch, beside.version) == (as_if.choice.epoch, as_if.choice.version) == (0, 5)
    assert sum(beside.probabilities_ppb) == PPB


def test_what_is_kept_ready_follows_every_snapshot_and_configuration() -> None:
    config = with_shadow()
    alone = deciding(config)
    arrivals: list[tuple[str, Any]] = [
        ("policies", of(config, "main", "serving", 1)),
        ("policies", of(config, "next", "serving", 2)),
        ("policies", of(config, "main", "shadow", 2)),
        ("loops", with_shadow(seed=8)),
    ]
    for number, (stream, value) in enumerate(arrivals):
        alone.at(2 * number + 1, stream, value)
        alone.at(2 * number + 2, "analyses", analyzed(f"v{number}", "pre", 0, T, 0.1))
    made = [decision.choice for decision in alone.out("decisions")]
    assert [(choice.policy_id, choice.version) for choice in made] == [
        ("main", 5),
        ("next", 5),
        ("next", 5),
        ("next", 5),
    ]
    shadows = [[shadow.policy_id for shadow in choice.shadows] for choice in made]
    assert shadows == [["next"], [], ["main"], ["main"]]
    assert made[3].config_hash != made[2].config_hash


def test_a_fallback_has_no_shadows_and_a_refused_shadow_is_left_out() -> None:
    config = with_shadow()
    alone = deciding(config)
    alone.at(1, "analyses", analyzed("v", "pre", 0, T, None))
    alone.at(2, "policies", replace(of(config, "next", "shadow", 1), checksum="0" * 32))
    alone.at(3, "analyses", analyzed("w", "pre", 0, T, 0.2))
    assert [made.choice.shadows for made in alone.out("decisions")] == [(), ()]


@settings(max_examples=60)
@given(
    name=st.from_regex(r"\A[a-z0-9]{1,12}\Z"),
    happy=st.floats(0.0, 1.0),
    control=st.sampled_from([0, 1, 50_000_000, PPB]),
    floor=st.sampled_from([0, 1, 80_000_000, PPB]),
    enabled=st.lists(st.booleans(), min_size=3, max_size=3).filter(any),
    learned=st.integers(0, 2),
)
def test_probabilities_are_whole_add_up_and_name_the_draw(
    name: str, happy: float, control: int, floor: int, enabled: list[bool], learned: int
) -> None:
    actions = tuple(ActionConfigured(f"a{i}", enabled=on) for i, on in enumerate(enabled))
    config = loop(actions=3, control_share_ppb=control, floor_ppb=floor)
    config = replace(config, actions=actions)
    alone = deciding(config)
    if learned:
        alone.at(1, "policies", snapshot(loop(), learned))
    alone.at(2, "analyses", analyzed(name, "pre", 0, T, happy))
    (made,) = alone.out("decisions")
    choice = made.choice
    assert sum(a.probability_ppb for a in choice.actions) == PPB
    assert sum(a.policy_probability_ppb for a in choice.actions) == PPB
    assert [a.eligible for a in choice.actions] == enabled
    assert choice.draw_ppb == draw_ppb(config.seed, "greeting", name)
    assert choice.control == (choice.draw_ppb < choice.control_share_ppb)
    if choice.control:
        assert choice.action_id == "a0"
    if not enabled[0]:
        assert choice.control_share_ppb == 0


def test_actions_are_chosen_as_often_as_their_probabilities_say() -> None:
    config = loop(algorithm="uniform", control_share_ppb=200_000_000)
    frames = [analyzed(f"v{i}", "pre", 0, T, 0.5) for i in range(3_000)]
    engine = MemoryEngine(greeting_loop().only("decide"))
    engine.append("loops", config, T)
    for frame in frames:
        engine.append("analyses", frame)
    engine.run()
    made = [r.value for r in engine.log if r.stream == "decisions"]
    expected = {a.id: 3 * a.probability_ppb / 1e6 for a in made[0].choice.actions}
    counts = Counter(d.choice.action_id for d in made)
    for action_id, mean in expected.items():
        # Five standard deviations of a binomial: one failure in two million seeds, and the seed
        # is fixed.
        assert abs(counts[action_id] - mean) < 5 * (mean * (1 - mean / 3_000)) ** 0.5


@pytest.mark.parametrize(
    ("wished", "text"),
    [
        ("de", "Hallo"),
        ("DE", "Hallo"),
        ("de-AT", "Hallo"),
        ("pt-BR", "Oi"),
        ("pt", "Hello"),
        ("fr", "Hello"),
        (None, "Hello"),
    ],
)
def test_words_come_in_the_wished_language_its_parent_or_the_loops_own(
    wished: str | None, text: str
) -> None:
    wordings = (Wording("de", "Hallo"), Wording("pt-BR", "Oi"), Wording("en", "Hello"))
    action = ActionConfigured("a0", wordings, mood="warm")
    said = presentation(replace(loop(1), actions=(action,)), "a0", wished)
    assert (said.text, said.mood) == (text, "warm")


def test_an_action_without_the_loops_language_takes_its_first_words_and_without_any_none() -> None:
    one = replace(loop(1), actions=(ActionConfigured("a0", (Wording("fr", "Salut"),)),))
    none = replace(loop(1), actions=(ActionConfigured("a0"),))
    assert presentation(one, "a0", "de").text == "Salut"
    assert (presentation(none, "a0", "de").text, presentation(none, "a0", "de").language) == (
        "",
        "en",
    )


def test_a_visit_is_forgotten_after_the_horizon() -> None:
    alone = deciding()
    alone.at(1, "analyses", analyzed("v", "pre", 0, T, 0.1))
    assert alone.remembered == {"decide": 1}
    alone.until(60_000)
    assert alone.remembered == {"decide": 1}
    alone.until(60_001)
    assert alone.remembered == {"decide": 0}


# greet


def greetings(*decisions: tuple[int, DecisionMade]) -> list[GreetingIssued]:
    alone = Alone("greet")
    for after_ms, made in decisions:
        alone.at(after_ms, "decisions", made)
    alone.until(70_000)
    assert alone.remembered == {"greet": 0}
    return alone.out("greetings")


def test_a_greeting_says_what_the_decision_carries() -> None:
    made = decided("v", T, loop())
    (greeting,) = greetings((0, made))
    assert greeting.text == made.presentation.text
    assert greeting.action_id == made.choice.action_id
    assert greeting.expires_at_ms == T + 5_000


def test_a_repeated_decision_is_not_shown_twice() -> None:
    made = decided("v", T, loop())
    assert len(greetings((0, made), (10, made), (60_000, made))) == 1


@pytest.mark.parametrize("captured_after_ms", [0, 600_000], ids=["in time", "by a fast clock"])
def test_a_frame_answered_again_after_the_horizon_decides_nothing_anew(
    captured_after_ms: int,
) -> None:
    # A recovery that took longer than the horizon asks for the same frame again.
    config = loop()
    horizon_ms = config.rules.dedup_horizon_ms
    frame = analyzed("v", "pre", 0, T + captured_after_ms, 0.2)
    for again_ms in (horizon_ms - 1, horizon_ms, horizon_ms + 1, 10 * horizon_ms, 50 * horizon_ms):
        alone = deciding(config)
        alone.at(1, "analyses", frame)
        alone.at(1 + again_ms, "analyses", frame)
        assert len(alone.out("decisions")) == 1
    assert [side.reason for side in alone.out("late")] == ["analysis_too_old"]


def test_a_decision_older_than_the_horizon_is_not_shown() -> None:
    made = decided("v", T, loop())
    assert greetings((60_001, made)) == []
    assert len(greetings((60_000, made))) == 1


def test_a_decision_without_a_kiosk_is_nobodys_greeting() -> None:
    assert greetings((0, decided("v", T, loop(), kiosk_id=None))) == []


def test_a_loop_of_another_algorithm_is_served_by_it() -> None:
    config = loop(policies=(PolicyConfigured("main", "fixed"),), control_share_ppb=0, floor_ppb=0)
    (made,) = decisions_for(analyzed("v", "pre", 0, T, 0.1), config=config)
    assert (made.choice.action_id, made.choice.propensity_ppb) == ("a0", PPB)
    assert made.choice.support == "degenerate"


def test_every_operator_of_the_loop_can_be_watched() -> None:
    assert [part.name for part in careful(greeting_loop()).keyed] == [
        "decide",
        "greet",
        "join",
        "learn",
    ]


def test_a_degenerate_policy_gives_its_action_the_whole_probability() -> None:
    # The loop has a control share and a floor; mixed in, the decision would be another procedure.
    (made,) = decisions_for(analyzed("v", "pre", 0, T, 0.5), config=loop(algorithm="fixed"))
    choice = made.choice
    assert (choice.support, choice.mode, choice.control) == ("degenerate", "online", False)
    assert (choice.control_share_ppb, choice.floor_ppb) == (0, 0)
    assert [action.probability_ppb for action in choice.actions] == [PPB, 0, 0]
