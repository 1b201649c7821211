"""What each algorithm does that the others do not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.apprentice import Apprentice
from policies.epsilon_greedy import EpsilonGreedy
from policies.linucb import LinUCB
from policies.registry import ALGORITHMS, prior, restore
from policies.snapshots import Identity, take
from policies.softmax import Softmax
from policies.squarecb import SquareCB
from schemas.checks import PPB
from schemas.decisions import Features, OfferedAction
from schemas.errors import SettingsError, SnapshotRefused
from schemas.loops import LoopConfigured
from schemas.outcomes import OutcomeClosed

MakeConfig = Callable[..., LoopConfigured]
MakeOutcome = Callable[..., OutcomeClosed]
P = TypeVar("P")

MEANS = np.array([[0.1, 0.5, -0.2], [0.3, 0.3, 0.0]])
VARIANCES = np.array([[0.04, 0.01, 0.09], [0.04, 0.01, 0.0]])
EVERYONE = (True, True, True)
rows = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12)


def made(kind: type[P], make_config: MakeConfig, name: str, **numbers: float) -> P:
    policy = prior(make_config(name, **numbers))
    assert isinstance(policy, kind)
    return policy


def test_epsilon_greedy_spreads_epsilon_and_gives_the_rest_to_the_best(
    make_config: MakeConfig,
) -> None:
    policy = made(EpsilonGreedy, make_config, "epsilon_greedy", epsilon=0.3)
    shares = policy._shares(MEANS, VARIANCES)
    assert shares == pytest.approx(np.array([[0.1, 0.8, 0.1], [0.45, 0.45, 0.1]]))


def test_softmax_is_e_times_as_probable_for_each_temperature(make_config: MakeConfig) -> None:
    policy = made(Softmax, make_config, "softmax", temperature=0.2)
    p = policy._shares(MEANS, VARIANCES)[0]
    assert p[1] / p[0] == pytest.approx(math.exp(2.0))
    assert p[0] / p[2] == pytest.approx(math.exp(1.5))


def test_squarecb_weighs_by_the_inverse_of_the_gap(
    make_config: MakeConfig, make_outcome: MakeOutcome
) -> None:
    policy = made(SquareCB, make_config, "squarecb", scale=5.0, exponent=0.5, discount=1.0)
    for action in ("hello", "welcome", "hello", "good-day"):
        policy = policy.learn(make_outcome(action, (1.0, 0.0, 0.0), 0.0))
    assert policy.seen.tolist() == [2.0, 1.0, 1.0]
    assert policy.gamma == pytest.approx(5.0 * 2.0)
    p = policy._shares(MEANS, VARIANCES)[0]
    others = [1.0 / (3.0 + 10.0 * 0.4), 1.0 / (3.0 + 10.0 * 0.7)]
    assert p == pytest.approx([others[0], 1.0 - sum(others), others[1]])


def test_squarecb_counts_what_it_has_not_forgotten(
    make_config: MakeConfig, make_outcome: MakeOutcome
) -> None:
    policy = made(SquareCB, make_config, "squarecb", discount=0.9)
    for _ in range(300):
        policy = policy.learn(make_outcome("hello", (1.0, 0.0, 0.0), 0.0))
    assert policy.seen[0] == pytest.approx(10.0)
    without = policy.with_actions(("new", "hello"))
    assert without.seen.tolist() == [0.0, policy.seen[0]]


@given(rows, st.floats(0.0, 1e9))
@settings(max_examples=40)
def test_squarecb_adds_up_exactly_whatever_the_gaps(row: list[float], seen: float) -> None:
    numbers = {"scale": 10.0, "exponent": 0.5}
    posterior = None
    policy = SquareCB((), (), posterior, seen=np.array([seen]), **numbers)  # type: ignore[arg-type]
    p = policy._shares(np.array([row]), np.zeros((1, len(row))))[0]
    assert math.fsum(p) == pytest.approx(1.0, abs=1e-15)
    assert (p >= 0.0).all()
    assert p[np.argmax(row)] == p.max()


def test_linucb_takes_the_largest_upper_bound(make_config: MakeConfig) -> None:
    wide = made(LinUCB, make_config, "linucb", width=3.0)
    narrow = made(LinUCB, make_config, "linucb", width=0.0)
    assert wide._shares(MEANS, VARIANCES).tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    assert narrow._shares(MEANS, VARIANCES).tolist() == [[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]]


def test_linucb_tries_what_it_does_not_know(
    make_config: MakeConfig, make_outcome: MakeOutcome
) -> None:
    policy = made(LinUCB, make_config, "linucb")
    for _ in range(20):
        policy = policy.learn(make_outcome("hello", (1.0, 0.5, 0.5), 0.1))
    context = Features(dense=(1.0, 0.5, 0.5))
    assert policy.probabilities(context, EVERYONE).tolist() == [0.0, 0.5, 0.5]


def test_linucb_without_a_floor_is_refused(make_config: MakeConfig) -> None:
    config = replace(make_config("linucb"), floor_ppb=0)
    with pytest.raises(SettingsError, match="floor above 0"):
        prior(config)


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_every_parameter_is_refused_outside_its_range(
    algorithm: str, make_config: MakeConfig
) -> None:
    for name, known in ALGORITHMS[algorithm].parameters.items():
        for value in (known.low, known.high, known.default):
            prior(make_config(algorithm, **{name: value}))
        for value in (math.nextafter(known.low, -math.inf), math.nextafter(known.high, math.inf)):
            with pytest.raises(SettingsError, match=name):
                prior(make_config(algorithm, **{name: value}))


def offered(outcome: OutcomeClosed, policy: Apprentice) -> OutcomeClosed:
    """Return an outcome of a decision that offered all actions."""
    chosen = outcome.choice.action_id
    offers = tuple(
        OfferedAction(action, True, PPB * (action == chosen), PPB * (action == chosen))
        for action in policy.actions
    )
    return replace(outcome, choice=replace(outcome.choice, actions=offers))


def watching(policy: Apprentice, make_outcome: MakeOutcome, n: int) -> Apprentice:
    """Let it watch somebody who greets the happy one way and the others another."""
    rng = np.random.default_rng(5)
    for _ in range(n):
        happy = float(rng.random())
        action = "welcome" if happy > 0.5 else "good-day"
        outcome = make_outcome(action, (1.0, happy, float(rng.random())), -1.0)
        policy = policy.learn(offered(outcome, policy))
    return policy


def test_an_apprentice_serves_the_baseline_and_learns_to_do_as_others_do(
    make_config: MakeConfig, make_outcome: MakeOutcome
) -> None:
    new = made(Apprentice, make_config, "apprentice", discount=0.99)
    assert new.match == 0.0
    policy = watching(new, make_outcome, 300)
    assert policy.match > 0.9
    happy, sad = Features(dense=(1.0, 0.9, 0.5)), Features(dense=(1.0, 0.1, 0.5))
    assert policy.probabilities(happy, EVERYONE).tolist() == [1.0, 0.0, 0.0]
    assert policy.would_choose(happy, EVERYONE) == 1
    assert policy.would_choose(sad, EVERYONE) == 2
    assert policy.would_choose(sad, (True, True, False)) != 2


def test_an_apprentices_match_forgets_what_was_long_ago(
    make_config: MakeConfig, make_outcome: MakeOutcome
) -> None:
    policy = watching(made(Apprentice, make_config, "apprentice", discount=0.95), make_outcome, 200)
    rng = np.random.default_rng(6)
    for _ in range(100):
        x = (1.0, float(rng.random()), float(rng.random()))
        outcome = make_outcome(policy.actions[int(rng.integers(3))], x, 0.0)
        policy = policy.learn(offered(outcome, policy))
    assert policy.watched[0] == pytest.approx(20.0, rel=1e-3)
    assert policy.match < 0.7


def test_what_left_no_choice_was_not_foretold(
    make_config: MakeConfig, make_outcome: MakeOutcome
) -> None:
    policy = made(Apprentice, make_config, "apprentice")
    learned = policy.learn(make_outcome("welcome", (1.0, 0.5, 0.5), 0.0))
    assert learned.watched.tolist() == [0.0, 0.0]
    assert learned.would_choose(Features(dense=(1.0, 0.5, 0.5)), EVERYONE) == 1


def test_an_apprentice_that_foretold_more_than_it_watched_is_refused(
    make_config: MakeConfig, make_outcome: MakeOutcome
) -> None:
    config = make_config("apprentice")
    policy = watching(made(Apprentice, make_config, "apprentice"), make_outcome, 5)
    identity = Identity("main", 0, 5, "serving", 0, 0)
    for watched in ((1.0, 2.0), (1.0, -1.0)):
        odd = Apprentice(policy.served, policy.posterior, np.array(watched))
        with pytest.raises(SnapshotRefused, match="foretold"):
            restore(take(odd, identity, config), config)


def test_docs_tell_every_algorithm_and_parameter(repository: Path) -> None:
    text = (repository / "docs" / "policies.md").read_text(encoding="utf-8")
    told = [
        tuple(cell.strip(" `") for cell in line.strip("|").split("|")[:4])
        for line in text.splitlines()
        if line.startswith("| `")
    ]
    wanted = [
        (algorithm, name, f"{known.default:g}", f"{known.low:g} to {known.high:g}")
        for algorithm, made_by in ALGORITHMS.items()
        for name, known in made_by.parameters.items()
    ]
    wanted += [(name, "", "", "") for name, made_by in ALGORITHMS.items() if not made_by.parameters]
    assert sorted(told) == sorted(wanted)
