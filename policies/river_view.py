"""Any PHO policy as a contextual bandit of River, for River's own tools.

Importing this module imports River; nothing else in PHO imports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from river import bandit, compose

from policies.base import Policy
from policies.probabilities import draw_ppb, mix, pick
from schemas.checks import PPB
from schemas.decisions import Choice, Features, OfferedAction
from schemas.outcomes import OutcomeClosed

_LOOP_ID = "river-view"


class RiverView(bandit.base.ContextualPolicy):
    """A PHO policy that is pulled and updated as River does it.

    Parameters
    ----------
    policy : Policy
        The policy to start from; it stays as it is, `learned` is the one that has learned since.
    seed : int
        Seed of the draws.
    floor_ppb : int
        Exploration floor, the share spread evenly over the arms, in 1e-9.
    reward_obj : river statistic, metric or distribution, optional
        What measures each arm, as for River's own policies; by default the mean.
    reward_scaler : river target transformer, optional
        Scales rewards before they are measured and learned.
    burn_in : int
        Pulls of each arm before the policy is asked.
    """

    def __init__(
        self,
        policy: Policy,
        seed: int = 0,
        floor_ppb: int = 0,
        reward_obj: Any = None,
        reward_scaler: compose.TargetTransformRegressor | None = None,
        burn_in: int = 0,
    ) -> None:
        super().__init__(reward_obj, reward_scaler, burn_in)
        self.policy = policy
        self.seed = seed
        self.floor_ppb = floor_ppb
        self.learned = policy
        self.pulls = 0

    def _pull(self, arm_ids: list[Any], context: Mapping[str, float] | None = None) -> Any:
        actions = self.learned.actions
        offered = set(arm_ids)
        unknown = sorted(str(arm) for arm in offered.difference(actions))
        if unknown:
            msg = f"the arms {unknown} are no actions of the policy, which has {actions}"
            raise ValueError(msg)
        eligible = [action in offered for action in actions]
        p = self.learned.probabilities(self._features(context), eligible)
        first = eligible.index(True)
        mixed = mix(p.tolist(), eligible, first, 0, self.floor_ppb)
        # A draw by count, not by a generator: a clone starts anew, a copy goes on the same.
        draw = draw_ppb(self.seed, _LOOP_ID, str(self.pulls))
        self.pulls += 1
        index, _ = pick(mixed, draw, first)
        return actions[index]

    def update(self, arm_id: Any, context: Mapping[str, float] | None, *reward_args: Any) -> None:
        """Update an arm with the reward it earned in a context.

        Parameters
        ----------
        arm_id : str
            The action.
        context : mapping of feature to value, optional
            Features that are not in it are 0; what the policy does not know is ignored.
        *reward_args : float
            The reward; what follows it is for the reward object alone.
        """
        super().update(arm_id, context, *reward_args)  # type: ignore[no-untyped-call]
        reward = float(reward_args[0])
        if self.reward_scaler:
            reward = float(self.reward_scaler.func(reward))
        self.learned = self.learned.learn(self._outcome(str(arm_id), context, reward))

    def _features(self, context: Mapping[str, float] | None) -> Features:
        values = context or {}
        return Features(dense=tuple(float(values.get(name, 0.0)) for name in self.policy.features))

    def _outcome(
        self, action_id: str, context: Mapping[str, float] | None, reward: float
    ) -> OutcomeClosed:
        """Tell a reward as PHO's own record; of its choice, only action and features count."""
        choice = Choice(
            decision_id=f"update-{self._n}",
            loop_id=_LOOP_ID,
            config_hash="",
            host="client",
            decided_at_ms=0,
            features_hash="",
            features=self._features(context),
            actions=(OfferedAction(action_id, True, PPB, PPB),),
            baseline_id=action_id,
            action_id=action_id,
            propensity_ppb=PPB,
            draw_ppb=0,
            control=False,
            control_share_ppb=0,
            floor_ppb=0,
            support="degenerate",
            mode="logging",
            policy_id="river-view",
            epoch=0,
            version=0,
            policy_checksum="",
        )
        return OutcomeClosed(
            choice=choice,
            result="rewarded",
            result_reason="observed",
            source="explicit",
            reward_raw=reward,
            reward=reward,
            clipped=False,
            precision=1.0,
            closed_by="final_reward",
            closed_at_ms=0,
            learnable=True,
            learnable_reason="",
        )
