"""Who decides now, and who stands in shadow: the policies of a loop, ready to be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from policies.base import Policy, checksum_of
from policies.registry import prior, restore
from schemas.errors import SnapshotRefused
from schemas.loops import LoopConfigured, PolicyConfigured
from schemas.outcomes import PolicySnapshot


@dataclass(frozen=True, slots=True)
class Serving:
    """A policy as it stands ready to decide."""

    policy: Policy
    """The policy."""
    epoch: int
    """Its epoch."""
    version: int
    """Its version."""
    checksum: str
    """Checksum of its bytes."""
    floor_ppb: int
    """The exploration floor it is served with, in 1e-9."""
    policy_id: str
    """Its id within the loop."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Who decides now, and who would have: the policies of a loop as they stand."""

    serving: Serving | None
    """The policy that decides; None: it cannot, and the baseline is served."""
    shadows: tuple[Serving, ...] = ()
    """The policies in shadow, in the order they are configured."""


def make_all_ready(config: LoopConfigured, policies: Mapping[str, PolicySnapshot]) -> Ready:
    """Return who decides now, and who stands in shadow.

    Parameters
    ----------
    config : LoopConfigured
        The loop.
    policies : mapping of str to PolicySnapshot
        The newest snapshots by ``loop_id/policy_id``; those of policies that the loop does not
        have (any more) are passed over.

    Returns
    -------
    Ready
        The policy whose newest snapshot says that it serves decides; of several (a promotion
        reaches the snapshots one after the other) the one that was given the role last. Before
        any says so, the configured one.
    """
    found = [
        (policy, policies.get(f"{config.loop_id}/{policy.policy_id}")) for policy in config.policies
    ]
    named = [pair for pair in found if pair[1] is not None and pair[1].role == "serving"]
    since_ms = -1
    chosen = config.serving
    for policy, snapshot in named:
        if snapshot is not None and snapshot.role_since_log_time_ms > since_ms:
            chosen, since_ms = policy, snapshot.role_since_log_time_ms
    shadows = []
    serving = None
    for policy, snapshot in found:
        if policy is chosen:
            serving = make_ready(config, snapshot, policy)
        elif (snapshot.role if snapshot is not None else policy.role) == "shadow":
            shadow = make_ready(config, snapshot, policy)
            if shadow is not None:
                shadows.append(shadow)
    return Ready(serving, tuple(shadows))


def make_ready(
    config: LoopConfigured,
    snapshot: PolicySnapshot | None,
    configured: PolicyConfigured | None = None,
) -> Serving | None:
    """Return a policy as it decides now.

    Parameters
    ----------
    config : LoopConfigured
        The loop.
    snapshot : PolicySnapshot or None
        The newest of that policy; None: nothing learned yet, the prior decides.
    configured : PolicyConfigured, optional
        Which of the loop's policies; by default the one that is configured to serve.

    Returns
    -------
    Serving or None
        None when the snapshot cannot be served under this configuration (its features changed a
        moment ago, or it was refused): the baseline is served until a newer one comes.
    """
    configured = configured or config.serving
    policy_id = configured.policy_id
    if snapshot is None:
        policy = prior(config, configured)
        return Serving(policy, 0, 0, checksum_of(policy), config.floor_ppb, policy_id)
    try:
        policy = restore(snapshot, config)
        if policy.actions != config.action_ids:
            policy = policy.with_actions(config.action_ids)
    except SnapshotRefused:
        return None
    same = snapshot.config_hash == config.config_hash
    floor_ppb = snapshot.floor_ppb if same else config.floor_ppb
    return Serving(
        policy, snapshot.epoch, snapshot.version, snapshot.checksum, floor_ppb, policy_id
    )
