"""learn: outcomes in the order of the log, a new policy version out.

It obeys the records of its own stream and nothing else: the configuration of the loop, directives
and outcomes all stand in `outcomes`, so any version can be built again from that log alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import msgspec

from pipelines.operators import Aside, Emit, Record, Shared, Step
from policies.base import Policy
from policies.registry import prior, restore
from policies.snapshots import Identity, take
from schemas.codec import decode, encode
from schemas.compiled import quick
from schemas.decisions import RewardRules
from schemas.errors import PhoError
from schemas.loops import LoopConfigured, PolicyConfigured, Role
from schemas.outcomes import OutcomeClosed, PolicyDirected, PolicySnapshot
from schemas.streams import DEAD_LETTERS


@dataclass(frozen=True, slots=True)
class Learner:
    """One policy of the loop, as far as it has learned."""

    configured: PolicyConfigured
    """How it is set."""
    policy: Policy
    """What it knows."""
    epoch: int
    """Counts the times it was started anew."""
    version: int
    """Records that changed it in this epoch."""
    config_hashes: tuple[str, ...]
    """The configurations of this epoch: outcomes of others are not learned."""
    role: Role
    """Whether it decides."""
    role_since_log_time_ms: int
    """Since when, log time, ms."""
    floor_ppb: int
    """The exploration floor it is served with, in 1e-9."""
    learned_through_id: str | None = None
    """The last decision it learned from."""
    learned_through_log_time_ms: int | None = None
    """Log time of that outcome, ms."""

    def after(self, policy: Policy, decision_id: str, log_time_ms: int) -> Learner:
        """Return the learner after one outcome; `dataclasses.replace` costs seven times as much."""
        return _new_learner_after(
            self.configured,
            policy,
            self.epoch,
            self.version + 1,
            self.config_hashes,
            self.role,
            self.role_since_log_time_ms,
            self.floor_ppb,
            decision_id,
            log_time_ms,
        )


_new_learner_after = quick(Learner)


@dataclass(frozen=True, slots=True)
class Learning:
    """What `learn` knows of one loop."""

    config: LoopConfigured
    """The newest configuration."""
    learners: tuple[Learner, ...]
    """Its policies."""
    ended: tuple[tuple[str, int], ...] = ()
    """Policies that were taken out of the configuration, with their last epoch: one that comes
    back starts above it, or the snapshot it left behind would look newer."""


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
            return _directed(state, record, value)
        return _outcome(state, record, value)

    def on_timer(self, state: Learning | None, log_time_ms: int, shared: Shared) -> Step[Learning]:
        """Do nothing: learning waits for nobody."""
        return Step(state)

    def pack(self, state: Learning) -> tuple[bytes, tuple[Record, ...]]:
        """Take the state apart: configuration and snapshots, as they travel."""
        snapshots = [
            (encode(_snapshot(state.config, learner)), learner.config_hashes)
            for learner in state.learners
        ]
        return msgspec.msgpack.encode((encode(state.config), snapshots, state.ended)), ()

    def unpack(self, data: bytes, records: tuple[Record, ...]) -> Learning:
        """Put it together again."""
        config_bytes, packed, ended = msgspec.msgpack.decode(data)
        config: LoopConfigured = decode(config_bytes)
        learners = tuple(
            _learner(config, decode(snapshot), tuple(hashes)) for snapshot, hashes in packed
        )
        return Learning(config, learners, tuple((name, epoch) for name, epoch in ended))


def _learner(config: LoopConfigured, snapshot: PolicySnapshot, hashes: tuple[str, ...]) -> Learner:
    configured = next(p for p in config.policies if p.policy_id == snapshot.policy_id)
    return Learner(
        configured,
        restore(snapshot, config),
        snapshot.epoch,
        snapshot.version,
        hashes,
        snapshot.role,
        snapshot.role_since_log_time_ms,
        snapshot.floor_ppb,
        snapshot.learned_through_id,
        snapshot.learned_through_log_time_ms,
    )


def _snapshot(config: LoopConfigured, learner: Learner) -> PolicySnapshot:
    identity = Identity(
        learner.configured.policy_id,
        learner.epoch,
        learner.version,
        learner.role,
        learner.role_since_log_time_ms,
        learner.floor_ppb,
        learner.learned_through_id,
        learner.learned_through_log_time_ms,
    )
    return take(learner.policy, identity, config)


def _step(state: Learning, changed: list[Learner]) -> Step[Learning]:
    emits = tuple(
        Emit(
            partial(_snapshot, state.config, learner),
            "policies",
            f"{state.config.loop_id}/{learner.configured.policy_id}",
        )
        for learner in changed
    )
    return Step(state, emits)


def newest_snapshots(state: Learning) -> tuple[Emit, ...]:
    """Return the snapshot of each policy as it is, for an engine that gave out older ones only."""
    return _step(state, list(state.learners)).emits


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
    return _step(Learning(state.config, tuple(learners), state.ended), changed)


def _configured(state: Learning | None, record: Record, config: LoopConfigured) -> Step[Learning]:
    if state is None:
        learners = tuple(_new_learner(config, p, 0, record) for p in config.policies)
        return Step(Learning(config, learners))
    if config.config_hash == state.config.config_hash:
        return Step(state)
    known = {learner.configured.policy_id: learner for learner in state.learners}
    ended = dict(state.ended)
    learners_now, changed = [], []
    for configured in config.policies:
        learner = known.pop(configured.policy_id, None)
        if learner is None:
            epoch = ended.pop(configured.policy_id, -1) + 1
            learner = _new_learner(config, configured, epoch, record)
        elif _starts_anew(state.config, config, learner.configured, configured):
            learner = _new_learner(config, configured, learner.epoch + 1, record)
        else:
            learner = _go_on(learner, config, configured, record)
        learners_now.append(learner)
        changed.append(learner)
    ended |= {name: learner.epoch for name, learner in known.items()}
    return _step(Learning(config, tuple(learners_now), tuple(ended.items())), changed)


def _new_learner(
    config: LoopConfigured, configured: PolicyConfigured, epoch: int, record: Record
) -> Learner:
    return Learner(
        configured=configured,
        policy=prior(config, configured),
        epoch=epoch,
        version=0,
        config_hashes=(config.config_hash,),
        role=configured.role,
        role_since_log_time_ms=record.log_time_ms,
        floor_ppb=config.floor_ppb,
    )


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


def _starts_anew(
    before: LoopConfigured, now: LoopConfigured, was: PolicyConfigured, becomes: PolicyConfigured
) -> bool:
    """Whether what was learned means something else now: a new epoch starts at the prior."""
    return (
        before.features_hash != now.features_hash
        or _reward_rule(before.rules) != _reward_rule(now.rules)
        or was.algorithm != becomes.algorithm
        or was.parameters != becomes.parameters
        # The prior of the fixed policy is a function of the baseline.
        or (becomes.algorithm == "fixed" and before.baseline_id != now.baseline_id)
    )


def _reward_rule(rules: RewardRules) -> RewardRules:
    # Neither the time a repeat is remembered nor the log's own slack changes what a reward means.
    neutral_ms = 7 * 86_400_000 * 4
    return replace(rules, dedup_horizon_ms=neutral_ms, grace_ms=0)


def _directed(state: Learning, record: Record, directive: PolicyDirected) -> Step[Learning]:
    known = [learner.configured.policy_id for learner in state.learners]
    if directive.kind != "explore" or directive.floor_ppb is None:
        error = f"A directive {directive.kind!r} is not obeyed by this release; `explore` is"
    elif directive.policy_id not in known:
        error = f"The loop has no policy {directive.policy_id!r}; it has {known}"
    else:
        floor_ppb = directive.floor_ppb
        learners = tuple(
            replace(learner, floor_ppb=floor_ppb, version=learner.version + 1)
            if learner.configured.policy_id == directive.policy_id
            else learner
            for learner in state.learners
        )
        changed = [x for x in learners if x.configured.policy_id == directive.policy_id]
        return _step(replace(state, learners=learners), changed)
    return Step(state, (Emit(Aside(record, "bad_directive", error), DEAD_LETTERS),))
