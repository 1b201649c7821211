"""Ways of choosing, each over the same visitors: they return the place of every action chosen."""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.parts.regret_world import ACTIONS, FEATURES, Tables
from policies.probabilities import mix, pick
from policies.registry import prior
from schemas.checks import PPB
from schemas.decisions import Choice, Features, OfferedAction, RewardRules
from schemas.features import features_hash
from schemas.loops import ActionConfigured, LoopConfigured, Parameter, PolicyConfigured, with_hash
from schemas.outcomes import OutcomeClosed

Chosen = NDArray[np.int64]
Draws = NDArray[np.float64]

FLOOR_PPB = 80_000_000
CONTROL_PPB = 50_000_000
"""Exploration floor and control share as shipped, in 1e-9."""
_ELIGIBLE = (True,) * len(ACTIONS)


def uniform(world: Tables, draws: Draws) -> Chosen:
    """Choose at random."""
    return np.asarray(draws * world.rewards.shape[1], np.int64)


def baseline(world: Tables, _draws: Draws) -> Chosen:
    """Choose the first action, always."""
    return np.zeros(len(world.rewards), np.int64)


def pho(
    world: Tables,
    draws: Draws,
    *,
    served: bool,
    algorithm: str = "thompson",
    parameters: tuple[Parameter, ...] = (),
) -> Chosen:
    """Choose with a policy of PHO.

    Parameters
    ----------
    world : Tables
        The visitors.
    draws : ndarray of float64, shape (n,)
        One number in [0, 1) for each.
    served : bool
        True: with floor and control share, as the loop serves it; False: the policy alone.
    algorithm : str
        Its name.
    parameters : tuple of Parameter
        Its numbers; what is not named is as shipped.
    """
    policy = prior(loop(algorithm, parameters))
    control_ppb, floor_ppb = (CONTROL_PPB, FLOOR_PPB) if served else (0, 0)
    outcome = _outcome()
    chosen = []
    for x, rewards, draw in zip(world.contexts.tolist(), world.rewards, draws, strict=True):
        features = Features(tuple(x))
        says = policy.probabilities(features, _ELIGIBLE).tolist()
        mixed = mix(says, _ELIGIBLE, 0, control_ppb, floor_ppb)
        place, _ = pick(mixed, int(draw * PPB), 0)
        chosen.append(place)
        choice = replace(outcome.choice, features=features, **_chose(place))
        policy = policy.learn(replace(outcome, choice=choice, reward=float(rewards[place])))
    return np.array(chosen)


def river_linucb(world: Tables, _draws: Draws) -> Chosen:
    """Choose with River's LinUCBDisjoint as it comes."""
    from river.bandit import LinUCBDisjoint

    policy: Any = LinUCBDisjoint(alpha=1.0, seed=1)
    arms, chosen = list(range(len(ACTIONS))), []
    for x, rewards in zip(world.contexts.tolist(), world.rewards, strict=True):
        context = dict(zip(FEATURES, x, strict=True))
        place = policy.pull(arms, context)
        policy.update(place, context, float(rewards[place]))
        chosen.append(place)
    return np.array(chosen)


def river_thompson(world: Tables, _draws: Draws) -> Chosen:
    """Choose by sampling from River's Bayesian regressions, one for each action, as they come."""
    from river.linear_model import BayesianLinearRegression

    generator = np.random.default_rng(1)
    models: list[Any] = [BayesianLinearRegression() for _ in ACTIONS]
    chosen = []
    for x, rewards in zip(world.contexts.tolist(), world.rewards, strict=True):
        context = dict(zip(FEATURES, x, strict=True))
        told = [model.predict_one(context, with_dist=True) for model in models]
        # Its sigma holds the noise of one observation: Thompson samples the mean alone.
        deviations = [
            math.sqrt(max(0.0, each.sigma**2 - 1.0 / model.beta))
            for each, model in zip(told, models, strict=True)
        ]
        place = int(np.argmax(generator.normal([each.mu for each in told], deviations)))
        models[place].learn_one(context, float(rewards[place]))
        chosen.append(place)
    return np.array(chosen)


def vowpal_wabbit(world: Tables, draws: Draws, python: str, options: str) -> Chosen:
    """Choose with VowpalWabbit, in a Python of its own.

    Parameters
    ----------
    world : Tables
        The visitors.
    draws : ndarray of float64, shape (n,)
        One number in [0, 1) for each.
    python : str
        The interpreter that has the package ``vowpalwabbit``.
    options : str
        Its exploration, such as ``--squarecb``.

    Raises
    ------
    subprocess.CalledProcessError
        When that interpreter has no VowpalWabbit; it says so on standard error.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "world.npz"
        np.savez(path, contexts=world.contexts, rewards=world.rewards, draws=draws)
        script = Path(__file__).with_name("regret_vw.py")
        command = [python, str(script), str(path), options]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return np.array(json.loads(done.stdout))


def loop(algorithm: str, parameters: tuple[Parameter, ...] = ()) -> LoopConfigured:
    """Return the configuration of the loop that is played."""
    return with_hash(
        LoopConfigured(
            loop_id="greeting",
            config_hash="",
            features_hash=features_hash(FEATURES),
            feature_names=FEATURES,
            actions=tuple(map(ActionConfigured, ACTIONS)),
            baseline_id=ACTIONS[0],
            default_language="en",
            seed=1,
            mode="online",
            control_share_ppb=CONTROL_PPB,
            floor_ppb=FLOOR_PPB,
            rules=RewardRules(
                "at_impression", 30_000, 2_000, "latest", -1.0, 1.0, 0.0, "default", 1_000, 0.5,
                0, 600_000,
            ),
            policies=(PolicyConfigured("main", algorithm, "serving", parameters),),
        )
    )  # fmt: skip


def _chose(place: int) -> dict[str, Any]:
    actions = tuple(
        OfferedAction(name, True, PPB * (number == place), PPB * (number == place))
        for number, name in enumerate(ACTIONS)
    )
    return {"actions": actions, "action_id": ACTIONS[place], "propensity_ppb": PPB}


def _outcome() -> OutcomeClosed:
    choice = Choice(
        decision_id="visit",
        loop_id="greeting",
        config_hash="",
        host="stream",
        decided_at_ms=0,
        features_hash=features_hash(FEATURES),
        features=Features(),
        baseline_id=ACTIONS[0],
        draw_ppb=0,
        control=False,
        control_share_ppb=0,
        floor_ppb=0,
        support="full",
        mode="online",
        policy_id="main",
        epoch=0,
        version=0,
        policy_checksum="",
        **_chose(0),
    )
    return OutcomeClosed(
        choice=choice,
        result="rewarded",
        result_reason="observed",
        source="reaction",
        reward_raw=0.0,
        reward=0.0,
        clipped=False,
        precision=0.95,
        closed_by="visit_end",
        closed_at_ms=0,
        learnable=True,
        learnable_reason="rewarded",
    )
