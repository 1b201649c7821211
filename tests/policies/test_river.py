from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from river import bandit, linear_model, stats
from river.bandit.base import ArmID

from policies.registry import prior, restore
from policies.river_guest import RiverGuest
from policies.river_view import RiverView
from policies.snapshots import Identity, take
from schemas.checks import PPB
from schemas.decisions import Features
from schemas.errors import SettingsError, SnapshotRefused
from schemas.loops import LoopConfigured
from schemas.outcomes import OutcomeClosed

MakeConfig = Callable[..., LoopConfigured]
MakeOutcome = Callable[..., OutcomeClosed]

ARMS: list[ArmID] = ["hello", "welcome", "good-day"]
BAYES = "river:linear_model.BayesianLinearRegression"
IDENTITY = Identity("main", 0, 0, "serving", 0, 0)


Round = tuple[list[ArmID], dict[str, float], ArmID, float]


def history(n: int) -> list[Round]:
    """Return logged rounds (arms, context, arm, reward) where "welcome" suits the happy."""
    rng = np.random.default_rng(4)
    rounds: list[Round] = []
    for _ in range(n):
        happy = float(rng.random())
        arm = ARMS[int(rng.integers(3))]
        reward = happy if arm == "welcome" else 0.5 - 0.5 * happy
        rounds.append((ARMS, {"bias": 1.0, "happy": happy}, arm, reward))
    return rounds


def pulled(view: RiverView, n: int) -> list[ArmID]:
    return [view.pull(ARMS, {"bias": 1.0, "happy": 0.5}) for _ in range(n)]


def test_rivers_own_replay_finds_the_view_better_than_chance(make_config: MakeConfig) -> None:
    rounds = history(3_000)
    view = RiverView(prior(make_config("thompson")), seed=1)
    mean, n_used = bandit.evaluate_offline(view, iter(rounds), stats.Mean())
    by_chance = float(np.mean([reward for *_, reward in rounds]))
    assert n_used == view._n > 700
    earned = mean.get()
    assert earned is not None
    assert earned > by_chance + 0.1


def test_the_view_learns_as_the_policy_does(
    make_config: MakeConfig, make_outcome: MakeOutcome
) -> None:
    policy = prior(make_config("thompson"))
    view = RiverView(policy)
    expected = policy
    for _, context, arm, reward in history(20):
        view.update(arm, context, reward)
        expected = expected.learn(make_outcome(arm, (1.0, context["happy"], 0.0), reward))
    assert view.learned.snapshot_arrays() == expected.snapshot_arrays()
    assert view.policy is policy


def test_the_view_pulls_as_often_as_the_policy_says(make_config: MakeConfig) -> None:
    view = RiverView(prior(make_config("uniform")), seed=3)
    n = 6_000
    counts = [pulled(view, n).count(arm) for arm in ARMS]
    assert all(abs(count - n / 3) < 4.5 * np.sqrt(n * 2 / 9) for count in counts)


def test_the_view_repeats_by_seed(make_config: MakeConfig) -> None:
    policy = prior(make_config("uniform"))
    assert pulled(RiverView(policy, seed=3), 50) == pulled(RiverView(policy, seed=3), 50)
    assert pulled(RiverView(policy, seed=3), 50) != pulled(RiverView(policy, seed=4), 50)


def test_a_clone_of_the_view_starts_anew_with_the_same_settings(make_config: MakeConfig) -> None:
    view = RiverView(prior(make_config("thompson")), seed=3, floor_ppb=PPB // 2)
    fresh = pulled(view, 30)
    for _, context, arm, reward in history(50):
        view.update(arm, context, reward)
    clone = view.clone()
    assert isinstance(clone, RiverView)
    assert (clone.seed, clone.floor_ppb, clone._n) == (3, PPB // 2, 0)
    assert pulled(clone, 30) == fresh
    assert view.clone({"seed": 9}).seed == 9


def test_the_view_measures_its_arms_for_river(make_config: MakeConfig) -> None:
    view = RiverView(prior(make_config("thompson")), burn_in=1)
    for arm in ARMS:
        assert view.pull(ARMS, {}) == arm
        view.update(arm, {}, 0.25)
    assert set(view.ranking) == set(ARMS)
    measured: Any = view._rewards["welcome"]
    assert measured.get() == 0.25
    assert "welcome" in repr(view)


def test_the_view_pulls_only_what_is_offered_and_known(make_config: MakeConfig) -> None:
    view = RiverView(prior(make_config("uniform")))
    assert {view.pull(["welcome"], None) for _ in range(20)} == {"welcome"}
    with pytest.raises(ValueError, match="goodbye"):
        view.pull(["hello", "goodbye"], {})


def test_a_guest_takes_the_best_prediction(
    make_config: MakeConfig, make_outcome: MakeOutcome
) -> None:
    guest = prior(make_config(BAYES, alpha=0.5))
    theirs: dict[ArmID, Any] = {
        arm: linear_model.BayesianLinearRegression(alpha=0.5) for arm in ARMS
    }
    for _, context, arm, reward in history(90):
        x = {**context, "age": 0.0}
        guest = guest.learn(make_outcome(arm, tuple(x.values()), reward))
        theirs[arm].learn_one(x, reward)
    for happy in (0.0, 0.2, 0.6, 1.0):
        x = {"bias": 1.0, "happy": happy, "age": 0.0}
        scores = [theirs[arm].predict_one(x) for arm in ARMS]
        p = guest.probabilities(Features(dense=(1.0, happy, 0.0)), (True,) * 3)
        assert p.tolist() == [float(score == max(scores)) for score in scores]


def test_equal_predictions_share(make_config: MakeConfig) -> None:
    p = prior(make_config(BAYES)).probabilities(
        Features(dense=(1.0, 0.5, 0.5)), (True, False, True)
    )
    assert p.tolist() == [0.5, 0.0, 0.5]


def test_a_guest_weighs_where_river_can(make_config: MakeConfig, make_outcome: MakeOutcome) -> None:
    config = make_config("river:linear_model.LinearRegression")
    guest = prior(config).learn(make_outcome("hello", (1.0, 0.5, 0.0), 1.0, 0.25))
    assert isinstance(guest, RiverGuest)
    theirs: Any = linear_model.LinearRegression()
    theirs.learn_one({"bias": 1.0, "happy": 0.5, "age": 0.0}, 1.0, w=0.25)
    x = {"bias": 1.0, "happy": 1.0, "age": 1.0}
    assert guest.models[0].predict_one(x) == theirs.predict_one(x)


def test_a_guests_snapshot_is_what_it_learned(
    make_config: MakeConfig, make_outcome: MakeOutcome
) -> None:
    guest = prior(make_config(BAYES))
    guest = guest.learn(make_outcome("good-day", (1.0, 0.5, 0.25), 0.75, 0.5))
    (array,) = guest.snapshot_arrays()
    assert (array.name, array.shape) == ("learned", (1, 6))
    assert np.frombuffer(array.data).tolist() == [2.0, 1.0, 0.5, 0.25, 0.75, 0.5]


def test_a_guests_snapshot_with_an_impossible_action_is_refused(make_config: MakeConfig) -> None:
    config = make_config(BAYES)
    guest = prior(config)
    assert isinstance(guest, RiverGuest)
    for place in (3.0, -1.0, 0.5):
        guest.history[:] = [np.array((place, 1.0, 0.5, 0.5, 1.0, 1.0))]
        bad = RiverGuest(
            guest.actions, guest.features, guest.recipe, guest.models, guest.history, 1
        )
        with pytest.raises(SnapshotRefused, match="names an action"):
            restore(take(bad, IDENTITY, config), config)


@pytest.mark.parametrize(
    "algorithm",
    [
        "river:os.system",
        "river:utils.math",
        "river:linear_model",
        "river:linear_model.",
        "river:linear_model._Private",
        "river:linear_model.bayesian_lin_reg.BayesianLinearRegression",
        "river:..os.path",
        "river:stream.iter_csv",
    ],
)
def test_a_name_outside_the_allow_list_is_refused(algorithm: str, make_config: MakeConfig) -> None:
    with pytest.raises(SettingsError, match="names no algorithm of River"):
        prior(make_config(algorithm))


@pytest.mark.parametrize(
    "name",
    ["linear_model.Perceptron", "linear_model.Nothing", "linear_model.base", "bandit.UCB",
     "bandit.evaluate", "linear_model.annotations"],
)  # fmt: skip
def test_what_is_no_regressor_or_contextual_bandit_is_refused(
    name: str, make_config: MakeConfig
) -> None:
    with pytest.raises(SettingsError, match="no regressor or contextual bandit"):
        prior(make_config("river:" + name))


def test_a_model_that_numbers_cannot_make_is_refused(make_config: MakeConfig) -> None:
    with pytest.raises(SettingsError, match="without statistic"):
        prior(make_config("river:dummy.StatisticRegressor"))
    with pytest.raises(SettingsError, match="It knows alpha, beta, smoothing"):
        prior(make_config(BAYES, gamma=1.0))


def test_parameters_reach_the_model_with_their_kind(make_config: MakeConfig) -> None:
    def arguments(algorithm: str, **parameters: float) -> dict[str, Any]:
        guest = prior(make_config(algorithm, **parameters))
        assert isinstance(guest, RiverGuest)
        return guest.recipe.arguments

    bandit_arguments = arguments("river:bandit.LinUCBDisjoint", alpha=2.0, burn_in=3.0)
    assert bandit_arguments == {"alpha": 2.0, "burn_in": 3, "seed": 7}
    assert isinstance(bandit_arguments["burn_in"], int)
    tree = arguments("river:tree.HoeffdingTreeRegressor", binary_split=1.0, grace_period=50.0)
    assert tree["binary_split"] is True
    assert tree["grace_period"] == 50


def test_asking_a_bandit_does_not_move_its_draws(make_config: MakeConfig) -> None:
    guest = prior(make_config("river:bandit.LinUCBDisjoint"))
    # Everything ties before the first reward, so that River draws among all.
    p = [guest.probabilities(Features(dense=(1.0, 0.5, 0.5)), (True,) * 3) for _ in range(20)]
    assert len({each.tobytes() for each in p}) == 1
