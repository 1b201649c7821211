"""Snapshots: a policy with its identity, as a record and as bytes."""

from __future__ import annotations

from dataclasses import dataclass

from policies.base import Policy, checksum
from policies.registry import restore
from schemas.codec import decode, encode
from schemas.errors import RecordError, SnapshotRefused
from schemas.loops import LoopConfigured, Role
from schemas.outcomes import PolicySnapshot


@dataclass(frozen=True, slots=True)
class Identity:
    """Which policy, which version, how far it has learned: all that its arrays do not say."""

    policy_id: str
    """The policy."""
    epoch: int
    """Counts the times it was started anew."""
    version: int
    """Records of the learning log that changed it in this epoch."""
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


def take(policy: Policy, identity: Identity, config: LoopConfigured) -> PolicySnapshot:
    """Take a snapshot of a policy as it is under a configuration."""
    arrays = policy.snapshot_arrays()
    return PolicySnapshot(
        loop_id=config.loop_id,
        policy_id=identity.policy_id,
        epoch=identity.epoch,
        version=identity.version,
        config_hash=config.config_hash,
        features_hash=config.features_hash,
        algorithm=policy.algorithm,
        actions=policy.actions,
        features=policy.features,
        arrays=arrays,
        role=identity.role,
        role_since_log_time_ms=identity.role_since_log_time_ms,
        floor_ppb=identity.floor_ppb,
        checksum=checksum(policy.algorithm, policy.actions, policy.features, arrays),
        learned_through_id=identity.learned_through_id,
        learned_through_log_time_ms=identity.learned_through_log_time_ms,
        base_epoch=identity.base_epoch,
        base_version=identity.base_version,
    )


def to_bytes(snapshot: PolicySnapshot) -> bytes:
    """Return a snapshot as it travels."""
    return encode(snapshot)


def from_bytes(data: bytes, config: LoopConfigured) -> tuple[PolicySnapshot, Policy]:
    """Read a snapshot that travelled, and make its policy.

    Raises
    ------
    SnapshotRefused
        When the bytes are torn or another record, or `restore` refuses what they say.
    """
    try:
        record = decode(data)
    except RecordError as error:
        raise SnapshotRefused(error.problem, error.cure) from error
    if not isinstance(record, PolicySnapshot):
        problem = f"a {type(record).__name__} came where a snapshot should"
        raise SnapshotRefused(problem)
    return record, restore(record, config)
