"""learn: outcomes in the order of the log, a new policy version out.

It obeys the records of its own stream and nothing else: the configuration of the loop, directives
and outcomes all stand in `outcomes`, so any version can be built again from that log alone.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from pipelines.directives import obey, with_role
from pipelines.learners import (
    Learner,
    Learning,
    learner_from,
    prior_learner,
    snapshot_of,
    step_with,
)
from pipelines.operators import Aside, Emit, Record, Shared, Step
from schemas.codec import decode, encode
from schemas.decisions import RewardRules
from schemas.errors import PhoError
from schemas.loops import LoopConfigured, PolicyConfigured
from schemas.outcomes import OutcomeClosed, PolicyDirected
from schemas.streams import DEAD_LETTERS


class Learn:
    """Learn each outcome once, in the order of the loop's own log."""

    def on_event(self, state: Learning | None, record: Record, shared: Shared) -> Step[Learning]:
        """Take one record of the loop's learning log."""
        value = record.value
        if isinstance(value, LoopConfigured):
            return _configured(state, record, value)
        if state is None:
            error = (
                "No LoopConfigured stands before it in the learning log; start the job with the "
                "loop in pho.toml, then `pho dead-letters --replay`"
            )
            return Step(None, (Emit(Aside(record, "unknown_loop", error), DEAD_LETTERS),))
        if isinstance(value, PolicyDirected):
            return obey(state, record, value)
        return _outcome(state, record, value)

    def on_timer(self, state: Learning | None, log_time_ms: int, shared: Shared) -> Step[Learning]:
        """Do nothing: learning waits for nobody."""
        return Step(state)

    def pack(self, state: Learning) -> tuple[bytes, tuple[Record, ...]]:
        """Take the state apart: configuration and snapshots, as they travel."""
        snapshots = [
            (encode(snapshot_of(state.config, learner)), learner.config_hashes)
            for learner in state.learners
        ]
        parts = (encode(state.config), snapshots, state.ended, state.directive_ids)
        return msgspec.msgpack.encode(parts), ()

    def unpack(self, data: bytes, records: tuple[Record, ...]) -> Learning:
        """Put it together again."""
        # Until directives were remembered a state had three parts; those must still be read.
        config_bytes, packed, ended, *remembered = msgspec.msgpack.decode(data)
        config: LoopConfigured = decode(config_bytes)
        learners = tuple(
            learner_from(config, decode(snapshot), tuple(hashes)) for snapshot, hashes in packed
        )
        directive_ids = tuple(remembered[0]) if remembered else ()
        ended = tuple((name, epoch) for name, epoch in ended)
        return Learning(config, learners, ended, directive_ids)


def _outcome(state: Learning, record: Record, outcome: OutcomeClosed) -> Step[Learning]:
    if not outcome.learnable:
        return Step(state)
    learners, changed = [], []
    for learner in state.learners:
        # Another epoch's features or reward mean something else: `other_epoch`, not learned.
        if outcome.choice.config_hash in learner.config_hashes and learner.role != "retired":
            try:
                policy = learner.policy.learn(outcome)
            except PhoError as error:
                aside = Aside(record, "not_learnable", str(error))
                return Step(state, (Emit(aside, DEAD_LETTERS),))
            if policy is not learner.policy:  # else it taught nothing, and the version stays
                learner = learner.after(policy, outcome.choice.decision_id, record.log_time_ms)
                changed.append(learner)
        learners.append(learner)
    after = Learning(state.config, tuple(learners), state.ended, state.directive_ids)
    return step_with(after, changed)


def _configured(state: Learning | None, record: Record, config: LoopConfigured) -> Step[Learning]:
    if state is None:
        learners = tuple(prior_learner(config, p, 0, record) for p in config.policies)
        return Step(Learning(config, learners))
    if config.config_hash == state.config.config_hash:
        return Step(state)
    known = {learner.policy_id: learner for learner in state.learners}
    ended = dict(state.ended)
    learners_now = []
    for configured in config.policies:
        learner = known.pop(configured.policy_id, None)
        if learner is None:
            epoch = ended.pop(configured.policy_id, -1) + 1
            learner = prior_learner(config, configured, epoch, record)
        elif starts_anew(state.config, config, configured.policy_id):
            learner = _start_anew(learner, config, configured, record)
        else:
            learner = _go_on(learner, config, configured, record)
        learners_now.append(learner)
    ended |= {name: learner.epoch for name, learner in known.items()}
    one_serves = _one_serves(config, learners_now, record)
    after = Learning(config, one_serves, tuple(ended.items()), state.directive_ids)
    return step_with(after, after.learners)


def _one_serves(
    config: LoopConfigured, learners: list[Learner], record: Record
) -> tuple[Learner, ...]:
    """Let one policy serve where the configuration and earlier promotions name none, or two."""
    if sum(policy.role == "serving" for policy in config.policies) > 1:
        return tuple(learners)  # a split: each of its arms serves
    serving = [learner for learner in learners if learner.role == "serving"]
    # The one it was given to last; of several at once, the one that is configured first.
    chosen = max(serving, key=lambda each: each.role_since_log_time_ms, default=None)
    chosen_id = chosen.policy_id if chosen else config.serving.policy_id
    result = []
    for learner in learners:
        if learner.policy_id == chosen_id and learner.role != "serving":
            learner = with_role(learner, "serving", record)
        elif learner.policy_id != chosen_id and learner.role == "serving":
            learner = with_role(learner, "shadow", record)
        result.append(learner)
    return tuple(result)


def _start_anew(
    learner: Learner, config: LoopConfigured, configured: PolicyConfigured, record: Record
) -> Learner:
    fresh = prior_learner(config, configured, learner.epoch + 1, record)
    was = learner.configured.role
    if configured.role != was or learner.role == was:
        return fresh
    # A promotion outlives what was learned: other reward rules are no verdict on it.
    return replace(fresh, role=learner.role, role_since_log_time_ms=learner.role_since_log_time_ms)


def _go_on(
    learner: Learner, config: LoopConfigured, configured: PolicyConfigured, record: Record
) -> Learner:
    same_actions = tuple(learner.policy.actions) == config.action_ids
    same_role = configured.role == learner.configured.role
    return replace(
        learner,
        configured=configured,
        policy=learner.policy.with_actions(config.action_ids),
        version=learner.version + (not same_actions),
        config_hashes=(*learner.config_hashes, config.config_hash),
        role=learner.role if same_role else configured.role,
        role_since_log_time_ms=(
            learner.role_since_log_time_ms if same_role else record.log_time_ms
        ),
        floor_ppb=config.floor_ppb,
    )


def starts_anew(before: LoopConfigured, now: LoopConfigured, policy_id: str) -> bool:
    """Whether what a policy learned under one configuration means something else in another.

    Then a new epoch starts at the prior, and no version of before can be returned to.

    Parameters
    ----------
    before, now : LoopConfigured
        The configurations; both must have the policy.
    policy_id : str
        The policy.
    """
    was, becomes = (
        next(policy for policy in config.policies if policy.policy_id == policy_id)
        for config in (before, now)
    )
    return (
        before.features_hash != now.features_hash
        or _reward_rule(before.rules) != _reward_rule(now.rules)
        or was.algorithm != becomes.algorithm
        or was.parameters != becomes.parameters
        # The prior of the fixed policy is a function of the baseline.
        or (becomes.algorithm in ("apprentice", "fixed") and before.baseline_id != now.baseline_id)
    )


def _reward_rule(rules: RewardRules) -> RewardRules:
    # Neither the time a repeat is remembered nor the log's own slack changes what a reward means.
    neutral_ms = 7 * 86_400_000 * 4
    return replace(rules, dedup_horizon_ms=neutral_ms, grace_ms=0)
