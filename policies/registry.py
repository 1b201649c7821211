"""Which policies there are: from a configuration to a prior, from a snapshot to a policy."""

from __future__ import annotations

from policies import (
    apprentice,
    endpoint,
    epsilon_greedy,
    fixed,
    linucb,
    river_guest,
    softmax,
    squarecb,
    thompson,
    uniform,
)
from policies.base import Policy, checksum
from policies.parameters import Algorithm
from schemas.errors import SettingsError, SnapshotRefused
from schemas.loops import LoopConfigured, PolicyConfigured
from schemas.outcomes import PolicySnapshot

ALGORITHMS = {
    "apprentice": apprentice.ALGORITHM,
    "epsilon_greedy": epsilon_greedy.ALGORITHM,
    "fixed": fixed.ALGORITHM,
    "linucb": linucb.ALGORITHM,
    "softmax": softmax.ALGORITHM,
    "squarecb": squarecb.ALGORITHM,
    "thompson": thompson.ALGORITHM,
    "uniform": uniform.ALGORITHM,
}
"""PHO's own algorithms by name; ``river:MODULE.CLASS`` names one of River's, and
``endpoint:ALGORITHM`` a model elsewhere with one of these behind it."""

_EARLIER = "Take an earlier snapshot, or replay the outcomes"


def algorithm(name: str) -> Algorithm:
    """Return how the policies of an algorithm are made.

    Raises
    ------
    SettingsError
        When there is none of that name, with those there are.
    """
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    if name.startswith(river_guest.PREFIX):
        river_guest.check_name(name)
        return river_guest.ALGORITHM
    if name.startswith(endpoint.PREFIX) and not name.startswith(endpoint.PREFIX * 2):
        return endpoint.hosted(algorithm(name.removeprefix(endpoint.PREFIX)))
    problem = f"there is no policy algorithm {name!r}"
    known = ", ".join(sorted(ALGORITHMS))
    raise SettingsError(problem, f"Use {known}, or river:linear_model.BayesianLinearRegression")


def prior(config: LoopConfigured, policy: PolicyConfigured | None = None) -> Policy:
    """Make the policy that has learned nothing: version 0 of epoch 0, a function of `config`.

    Parameters
    ----------
    config : LoopConfigured
        The loop.
    policy : PolicyConfigured, optional
        Which of its policies; by default the one that serves.

    Raises
    ------
    SettingsError
        When the algorithm is unknown, or a parameter is unknown or outside its range.
    """
    chosen = config.serving if policy is None else policy
    return algorithm(chosen.algorithm).prior(config, chosen)


def restore(snapshot: PolicySnapshot, config: LoopConfigured) -> Policy:
    """Make a policy from its snapshot, with exactly the bytes it was taken from.

    Its actions are the snapshot's; where the configuration now offers others, `with_actions`
    follows. Parameters (such as a discount) are the configuration's.

    Raises
    ------
    SnapshotRefused
        When it belongs to another loop, to other features or to a policy the loop does not have,
        when its algorithm is unknown or not the configured one, or its arrays are torn or altered.
    SettingsError
        When a configured parameter is unknown or outside its range.
    """
    policy = _configured(snapshot, config)
    if policy.algorithm != snapshot.algorithm:
        problem = f"policy {policy.policy_id!r} is now {policy.algorithm!r}, not what it was"
        raise SnapshotRefused(problem, f"Start a new epoch; the snapshot is {snapshot.algorithm!r}")
    try:
        maker = algorithm(snapshot.algorithm)
    except SettingsError as error:
        raise SnapshotRefused(error.problem, error.cure) from error
    found = checksum(snapshot.algorithm, snapshot.actions, snapshot.features, snapshot.arrays)
    if found != snapshot.checksum:
        problem = f"a snapshot of policy {policy.policy_id!r} hashes to {found}"
        raise SnapshotRefused(problem, f"Its checksum is {snapshot.checksum}. {_EARLIER}")
    return maker.restore(snapshot, config, policy)


def _configured(snapshot: PolicySnapshot, config: LoopConfigured) -> PolicyConfigured:
    if snapshot.loop_id != config.loop_id:
        problem = f"a snapshot belongs to loop {snapshot.loop_id!r}, not {config.loop_id!r}"
        raise SnapshotRefused(problem)
    same_names = snapshot.features == config.feature_names
    if snapshot.features_hash != config.features_hash or not same_names:
        problem = f"a snapshot of policy {snapshot.policy_id!r} knows other features"
        raise SnapshotRefused(problem, "A change of features starts a new epoch from the prior")
    for policy in config.policies:
        if policy.policy_id == snapshot.policy_id:
            return policy
    problem = f"loop {config.loop_id!r} has no policy {snapshot.policy_id!r}"
    raise SnapshotRefused(problem, "Name it in the loop's configuration")
