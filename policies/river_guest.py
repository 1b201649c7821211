"""River's models as guests: any of its regressors or contextual bandits as a PHO policy.

A model of River has no binary form but a pickle, and PHO never unpickles what it read. So its
snapshot is what it learned, in order, and restoring learns that again: exact, but in time and size
proportional to all it ever learned (20 to 60 us for each outcome of a linear model). That is for
comparing models in shadow and for small loops; PHO's own `thompson` restores in constant time.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from policies.base import (
    Eligibility,
    Vector,
    dense,
    eligible_places,
    from_named,
    one_by_one,
    to_named,
)
from policies.parameters import Algorithm
from policies.river_models import PREFIX, arguments, check_name, find
from schemas.decisions import Features
from schemas.errors import SnapshotRefused
from schemas.loops import LoopConfigured, PolicyConfigured
from schemas.outcomes import NamedArray, OutcomeClosed, PolicySnapshot

__all__ = ["ALGORITHM", "PREFIX", "RiverGuest", "check_name"]

_BESIDE_FEATURES = 3
"""Numbers in a row of the history beside the features: action, reward, weight."""


class Recipe(NamedTuple):
    """How a guest's models are made."""

    algorithm: str
    """Name of the algorithm, with the prefix."""
    model: Any
    """The class in River."""
    is_bandit: bool
    """True: one bandit for all actions; False: one regressor for each."""
    arguments: dict[str, Any]
    """What it is constructed with."""
    takes_weight: bool
    """True: its regressor learns in proportion to a weight."""


@dataclass(frozen=True, slots=True, eq=False)
class RiverGuest:
    """One regressor of River per action, taken greedily; or one contextual bandit of River.

    The best prediction gets probability 1, equal ones share; a bandit's answer gets 1. Support is
    ``full`` all the same, since the loop's exploration floor is mixed in afterwards: give the loop
    one above 0.
    """

    actions: tuple[str, ...]
    """Ids of the actions, in the order of the probabilities."""
    features: tuple[str, ...]
    """Names of the features, in the order of the dense context."""
    recipe: Recipe
    """How its models are made."""
    models: tuple[Any, ...]
    """One regressor for each action, or the one bandit."""
    history: list[Vector]
    """What was learned, oldest first; shared with the policies that came from this one, which only
    append: the first `n_learned` rows are this policy's."""
    n_learned: int
    """Rows of the history that this policy has learned."""

    support: ClassVar[Literal["full", "degenerate"]] = "full"

    @property
    def algorithm(self) -> str:
        """Name of the algorithm, such as ``river:linear_model.BayesianLinearRegression``."""
        return self.recipe.algorithm

    def probabilities(self, context: Features, eligible: Sequence[bool]) -> Vector:
        """Return 1 for the eligible action that River prefers; equal predictions share it."""
        places = eligible_places(eligible, len(self.actions))
        x = self._named(dense(context, len(self.features)))
        best = self._pulled(x, places) if self.recipe.is_bandit else self._greedy(x, places)
        result = np.zeros(len(self.actions))
        result[best] = 1.0 / len(best)
        return result

    def probabilities_many(self, contexts: Sequence[Features], eligible: Eligibility) -> Vector:
        """Return the same for many contexts: River answers one by one."""
        return one_by_one(self, contexts, eligible)

    def learn(self, outcome: OutcomeClosed) -> RiverGuest:
        """Return the policy that has also seen this outcome.

        It is weighed by its precision where the model takes a weight, else it counts fully.
        """
        choice = outcome.choice
        if choice.action_id not in self.actions or outcome.precision == 0.0:
            return self
        action = self.actions.index(choice.action_id)
        x = dense(choice.features, len(self.features))
        row = np.array((action, *x, outcome.reward, outcome.precision))
        place = 0 if self.recipe.is_bandit else action
        model = copy.deepcopy(self.models[place])
        self._teach(model, row)
        models = (*self.models[:place], model, *self.models[place + 1 :])
        # Only the newest of a line may append; a second step from an older one takes a copy.
        newest = len(self.history) == self.n_learned
        history = self.history if newest else self.history[: self.n_learned]
        history.append(row)
        return RiverGuest(
            self.actions, self.features, self.recipe, models, history, self.n_learned + 1
        )

    def learn_many(self, outcomes: Sequence[OutcomeClosed]) -> RiverGuest:
        """Return the policy that has also seen these, in their order."""
        policy = self
        for outcome in outcomes:
            policy = policy.learn(outcome)
        return policy

    def snapshot_arrays(self) -> tuple[NamedArray, ...]:
        """Return ``learned`` (n, d + 3): action's place, features, reward, weight, in order."""
        rows = self.history[: self.n_learned]
        width = len(self.features) + _BESIDE_FEATURES
        return (to_named("learned", np.array(rows).reshape(len(rows), width)),)

    def with_actions(self, actions: Sequence[str]) -> RiverGuest:
        """Return the policy for other actions, taught again what it saw of those that stay."""
        new = tuple(actions)
        if new == self.actions:
            return self
        places = {
            old: new.index(action) for old, action in enumerate(self.actions) if action in new
        }
        rows = []
        for row in self.history[: self.n_learned]:
            place = places.get(int(row[0]))
            if place is not None:
                rows.append(np.array((place, *row[1:])))
        return taught(self.recipe, new, self.features, rows)

    def _greedy(self, x: dict[str, float], places: list[int]) -> list[int]:
        predictions = [float(self.models[place].predict_one(x)) for place in places]
        scores = [score if math.isfinite(score) else -math.inf for score in predictions]
        most = max(scores)
        return [place for place, score in zip(places, scores, strict=True) if score == most]

    def _pulled(self, x: dict[str, float], places: list[int]) -> list[int]:
        # A pull moves the bandit's own draws on; on a copy, asking twice answers twice the same.
        bandit = copy.deepcopy(self.models[0])
        return [self.actions.index(bandit.pull([self.actions[place] for place in places], x))]

    def _teach(self, model: Any, row: Vector) -> None:
        x, reward, weight = self._named(row[1:-2]), float(row[-2]), float(row[-1])
        if self.recipe.is_bandit:
            model.update(self.actions[int(row[0])], x, reward)
        elif self.recipe.takes_weight:
            model.learn_one(x, reward, w=weight)
        else:
            model.learn_one(x, reward)

    def _named(self, x: Vector) -> dict[str, float]:
        return dict(zip(self.features, x.tolist(), strict=True))


def taught(
    recipe: Recipe, actions: tuple[str, ...], features: tuple[str, ...], rows: Sequence[Vector]
) -> RiverGuest:
    """Make a guest that has learned rows of history, in their order."""
    n_models = 1 if recipe.is_bandit else len(actions)
    models = tuple(recipe.model(**recipe.arguments) for _ in range(n_models))
    guest = RiverGuest(actions, features, recipe, models, list(rows), len(rows))
    for row in rows:
        guest._teach(models[0 if recipe.is_bandit else int(row[0])], row)  # noqa: SLF001 - our own
    return guest


def _recipe(config: LoopConfigured, policy: PolicyConfigured) -> Recipe:
    model, is_bandit = find(policy.algorithm)
    takes_weight = not is_bandit and "w" in inspect.signature(model.learn_one).parameters
    given = arguments(policy, model, config.seed)
    return Recipe(policy.algorithm, model, is_bandit, given, takes_weight)


def _prior(config: LoopConfigured, policy: PolicyConfigured) -> RiverGuest:
    return taught(_recipe(config, policy), config.action_ids, config.feature_names, [])


def _restore(
    snapshot: PolicySnapshot, config: LoopConfigured, policy: PolicyConfigured
) -> RiverGuest:
    shape = (None, len(snapshot.features) + _BESIDE_FEATURES)
    rows = from_named(snapshot.arrays, {"learned": shape})["learned"]
    places = rows[:, 0]
    if not ((places >= 0) & (places < len(snapshot.actions)) & (places == np.floor(places))).all():
        problem = "a snapshot's history names an action that it does not have"
        raise SnapshotRefused(problem, "Take an earlier snapshot, or replay the outcomes")
    return taught(_recipe(config, policy), snapshot.actions, snapshot.features, list(rows))


ALGORITHM = Algorithm(prior=_prior, restore=_restore)
