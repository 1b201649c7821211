"""What `learn` knows of a loop: its policies as far as they have learned, and their snapshots."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from pipelines.operators import Emit, Record, Step
from policies.base import Policy
from policies.registry import prior, restore
from policies.snapshots import Identity, take
from schemas.compiled import quick
from schemas.loops import LoopConfigured, PolicyConfigured, Role
from schemas.outcomes import PolicySnapshot


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
    base_epoch: int | None = None
    """Epoch of the base this epoch started from; None: the prior."""
    base_version: int | None = None
    """Version of that base."""

    @property
    def policy_id(self) -> str:
        """Its id within the loop."""
        return self.configured.policy_id

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
            self.base_epoch,
            self.base_version,
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
    directive_ids: tuple[str, ...] = ()
    """The newest directives that were obeyed: a repeat of one changes nothing."""

    def learner(self, policy_id: str) -> Learner | None:
        """Return what is known of a policy; None: the loop has none of that name."""
        return next((each for each in self.learners if each.policy_id == policy_id), None)


def prior_learner(
    config: LoopConfigured, configured: PolicyConfigured, epoch: int, record: Record
) -> Learner:
    """Return a policy that has learned nothing yet, in an epoch that starts with this record."""
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


def learner_from(
    config: LoopConfigured, snapshot: PolicySnapshot, hashes: tuple[str, ...]
) -> Learner:
    """Return what a snapshot says; the opposite of `snapshot_of`."""
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
        snapshot.base_epoch,
        snapshot.base_version,
    )


def snapshot_of(config: LoopConfigured, learner: Learner) -> PolicySnapshot:
    """Return what is known of a policy as it travels."""
    identity = Identity(
        learner.policy_id,
        learner.epoch,
        learner.version,
        learner.role,
        learner.role_since_log_time_ms,
        learner.floor_ppb,
        learner.learned_through_id,
        learner.learned_through_log_time_ms,
        learner.base_epoch,
        learner.base_version,
    )
    return take(learner.policy, identity, config)


def step_with(state: Learning, changed: Iterable[Learner]) -> Step[Learning]:
    """Return the step to a state, with a snapshot of each policy that changed."""
    emits = tuple(
        Emit(
            partial(snapshot_of, state.config, learner),
            "policies",
            f"{state.config.loop_id}/{learner.policy_id}",
        )
        for learner in changed
    )
    return Step(state, emits)


def newest_snapshots(state: Learning) -> tuple[Emit, ...]:
    """Return the snapshot of each policy as it is, for an engine that gave out older ones only."""
    return step_with(state, state.learners).emits
