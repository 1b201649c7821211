"""Targets: the policies being judged, each as the probabilities it would have used.

A target may know the past of a record and nothing of the record itself. Who learns on the log
learns an outcome only when it had closed before the decision was made, as it would have had to.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from itertools import count
from typing import Protocol

import numpy as np

from policies.base import Policy, Vector
from policies.evaluation.records import Logged
from policies.probabilities import mix
from policies.registry import prior, restore
from schemas.checks import PPB
from schemas.errors import PhoError
from schemas.loops import LoopConfigured, PolicyConfigured
from schemas.outcomes import OutcomeClosed, PolicySnapshot


class Target(Protocol):
    """A policy being judged."""

    name: str
    """What it is called in a table."""
    says: str
    """What is estimated, in a few words."""

    def probabilities(self, record: Logged) -> Vector | None:
        """Return its probability of every action, in the order offered; None: it says nothing.

        Returns
        -------
        ndarray of float64, shape (n_actions,), or None
            Adds up to 1.
        """
        ...

    def learn(self, record: Logged) -> None:
        """Take a record whose value has been estimated."""
        ...


class Logging:
    """What decided, as it was logged."""

    name = "logging"
    says = "what decided, with its control share and its exploration"

    def probabilities(self, record: Logged) -> Vector | None:
        """Return what was logged."""
        return record.probabilities

    def learn(self, record: Logged) -> None:
        """Learn nothing."""


class Uniform:
    """Each eligible action alike."""

    name = "uniform"
    says = "each eligible action alike"

    def probabilities(self, record: Logged) -> Vector | None:
        """Return 1 / K for each of the K eligible actions."""
        return _even(record)

    def learn(self, record: Logged) -> None:
        """Learn nothing."""


class FixedAction:
    """One action, always."""

    def __init__(self, action_id: str) -> None:
        self.action_id = action_id
        self.name = f"always {action_id}"
        self.says = f"{action_id} for everybody"

    def probabilities(self, record: Logged) -> Vector | None:
        """Return 1 for the action; nothing where it was not eligible."""
        for place, action in enumerate(record.outcome.choice.actions):
            if action.id == self.action_id and action.eligible:
                result = np.zeros(record.probabilities.size)
                result[place] = 1.0
                return result
        return None

    def learn(self, record: Logged) -> None:
        """Learn nothing."""


class BestFixed:
    """For everybody the one action that had done best so far: chosen anew at each record."""

    name = "best-fixed"
    says = "one action for everybody, at each moment the one that had done best until then"

    def __init__(self) -> None:
        self._weights: dict[str, float] = {}
        self._rewards: dict[str, float] = {}

    @property
    def action_id(self) -> str | None:
        """The action that has done best so far; None: nothing was seen."""
        return max(self._weights, key=self._mean, default=None)

    def probabilities(self, record: Logged) -> Vector | None:
        """Return 1 for the best so far among those eligible; at first for the baseline."""
        choice = record.outcome.choice
        places = [place for place, action in enumerate(choice.actions) if action.eligible]
        known = [place for place in places if choice.actions[place].id in self._weights]
        if known:
            best = max(known, key=lambda place: self._mean(choice.actions[place].id))
        else:
            baseline = [p for p in places if choice.actions[p].id == choice.baseline_id]
            best = (baseline or places)[0]
        result = np.zeros(record.probabilities.size)
        result[best] = 1.0
        return result

    def learn(self, record: Logged) -> None:
        """Take the record into the mean of its action, by its weight."""
        action_id = record.outcome.choice.action_id
        weight = 1.0 / float(record.probabilities[record.index])
        self._weights[action_id] = self._weights.get(action_id, 0.0) + weight
        self._rewards[action_id] = self._rewards.get(action_id, 0.0) + weight * record.reward

    def _mean(self, action_id: str) -> float:
        # One record at a half beforehand: a single smile must not make an action the best.
        return (self._rewards[action_id] + 0.5) / (self._weights[action_id] + 1.0)


class LoggedPolicy:
    """A policy that stood beside: what it would have done stands in each decision."""

    def __init__(self, policy_id: str) -> None:
        self.policy_id = policy_id
        self.name = policy_id
        self.says = f"policy {policy_id} as it was at each decision, where that was logged"

    def probabilities(self, record: Logged) -> Vector | None:
        """Return what was logged of it; what decided, where it decided itself."""
        choice = record.outcome.choice
        for shadow in choice.shadows:
            if shadow.policy_id == self.policy_id:
                shares_ppb = shadow.probabilities_ppb
                fits = len(shares_ppb) == len(choice.actions) and min(shares_ppb) >= 0
                if not fits or sum(shares_ppb) != PPB:
                    return None
                return np.array(shares_ppb, dtype=np.float64) / PPB
        return record.probabilities if choice.policy_id == self.policy_id else None

    def learn(self, record: Logged) -> None:
        """Learn nothing: the job has taught it."""


class Kept:
    """A policy as one snapshot kept it: it learns no more."""

    def __init__(self, snapshot: PolicySnapshot, config: LoopConfigured) -> None:
        self._policy = restore(snapshot, config)
        self._config = config
        self._learned_ms = snapshot.learned_through_log_time_ms
        self._floor_ppb = snapshot.floor_ppb
        place = f"{snapshot.policy_id} {snapshot.epoch}.{snapshot.version}"
        self.name = f"snapshot {place}"
        self.says = f"{place} as its snapshot kept it, on what was decided after it had learned"
        self.too_early = 0
        """Records it may have learned from, and so says nothing of."""

    def probabilities(self, record: Logged) -> Vector | None:
        """Return its probabilities with floor and control; nothing of what it learned from."""
        if self._learned_ms is not None and record.outcome.choice.decided_at_ms <= self._learned_ms:
            self.too_early += 1
            return None
        return _procedure(self._policy, record, self._config, self._floor_ppb)

    def learn(self, record: Logged) -> None:
        """Learn nothing: it is judged as it was."""


class Progressive:
    """An algorithm that starts from its prior and learns as it would have had to."""

    def __init__(self, config: LoopConfigured, configured: PolicyConfigured) -> None:
        self._policy = prior(config, configured)
        self._config = config
        self._open: list[tuple[int, int, OutcomeClosed]] = []
        self._number = count()
        self.name = configured.policy_id
        self.says = (
            f"{configured.algorithm}, learning from its prior on, each outcome once it had closed"
        )

    def probabilities(self, record: Logged) -> Vector | None:
        """Return its probabilities with floor and control, after all that had closed by then."""
        decided_ms = record.outcome.choice.decided_at_ms
        while self._open and self._open[0][0] <= decided_ms:
            _, _, outcome = heapq.heappop(self._open)
            self._learn(outcome)
        return _procedure(self._policy, record, self._config, self._config.floor_ppb)

    def learn(self, record: Logged) -> None:
        """Keep it until its close has come."""
        outcome = record.outcome
        if outcome.learnable:
            heapq.heappush(self._open, (outcome.closed_at_ms, next(self._number), outcome))

    def _learn(self, outcome: OutcomeClosed) -> None:
        try:
            self._policy = self._policy.learn(outcome)
        except PhoError:
            return  # of other features: the job's learner set it aside, too


def _even(record: Logged) -> Vector:
    may = np.array(record.eligible, dtype=np.float64)
    result: Vector = may / may.sum()
    return result


def _procedure(
    policy: Policy, record: Logged, config: LoopConfigured, floor_ppb: int
) -> Vector | None:
    choice = record.outcome.choice
    if choice.features_hash != config.features_hash:
        return None
    action_ids = record.action_ids
    if policy.actions != action_ids:
        policy = policy.with_actions(action_ids)
    says = policy.probabilities(choice.features, record.eligible)
    full = policy.support == "full"
    mixed = mix(
        says.tolist(),
        record.eligible,
        action_ids.index(choice.baseline_id),
        choice.control_share_ppb if full else 0,
        floor_ppb if full else 0,
    )
    return np.array(mixed.probabilities_ppb, dtype=np.float64) / PPB


def plain_targets() -> Mapping[str, Target]:
    """Return the targets that every evaluation shows beside: logging, uniform, best fixed."""
    made: tuple[Target, ...] = (Logging(), Uniform(), BestFixed())
    return {target.name: target for target in made}
