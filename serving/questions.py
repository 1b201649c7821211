"""What may be asked of an evaluation: who is judged, and on which of the records."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from policies.evaluation.records import Logged
from policies.evaluation.targets import (
    FixedAction,
    Kept,
    LoggedPolicy,
    Progressive,
    Target,
    plain_targets,
)
from policies.registry import ALGORITHMS, algorithm
from policies.river_guest import PREFIX
from schemas.codec import decode
from schemas.errors import UsageError
from schemas.features import DAYPARTS
from schemas.loops import LoopConfigured, PolicyConfigured
from schemas.outcomes import PolicySnapshot

By = Literal["kiosk_id", "action_id", "hour", "variant"]
BYS: tuple[By, ...] = ("kiosk_id", "action_id", "hour", "variant")

WHERES = ("daypart", "host", "hour", "kiosk_id", "slot_id", "variant")
"""What records may be chosen by: all of it known before the action was."""

_MS_IN_AN_HOUR = 3_600_000


def target_named(name: str, config: LoopConfigured) -> Target:
    """Return the target that a name stands for: a policy, an action, an algorithm, or a file.

    Raises
    ------
    UsageError
        When it stands for nothing, with what there is.
    SnapshotRefused
        When a file is no snapshot of this loop.
    """
    plain = plain_targets()
    if name in plain:
        return plain[name]
    if name in [policy.policy_id for policy in config.policies]:
        return LoggedPolicy(name)
    if name in config.action_ids:
        return FixedAction(name)
    if name in ALGORITHMS or name.startswith(PREFIX):
        algorithm(name)
        return Progressive(config, PolicyConfigured(name, name, "shadow"))
    path = Path(name)
    if path.is_file():
        snapshot = decode(path.read_bytes())
        if isinstance(snapshot, PolicySnapshot):
            return Kept(snapshot, config)
        problem = f"{name} holds a {type(snapshot).__name__}, not a snapshot"
        raise UsageError(problem, "Give the bytes of a record of the stream policies")
    policies = ", ".join(policy.policy_id for policy in config.policies)
    problem = f"{name!r} is no policy, action or algorithm, and no file"
    cure = (
        f"Policies: {policies}; actions: {', '.join(config.action_ids)}; algorithms that learn as "
        f"they go: {', '.join(sorted(ALGORITHMS))}; or the file of a snapshot"
    )
    raise UsageError(problem, cure)


def slice_name(by: str, record: Logged, config: LoopConfigured) -> str:
    """Return the slice of a record: ``-`` where it says nothing of it."""
    choice = record.outcome.choice
    if by == "hour":
        return f"{choice.decided_at_ms // _MS_IN_AN_HOUR % 24:02d}"
    if by == "daypart":
        for part in DAYPARTS:
            name = f"daypart.{part}"
            if name in config.feature_names and choice.features_hash == config.features_hash:
                if choice.features.dense[config.feature_names.index(name)]:
                    return part
        return "-"
    return str(getattr(choice, by) or "-")


def conditions(where: str, config: LoopConfigured) -> dict[str, str]:
    """Read ``kiosk_id=door,daypart=morning``.

    Raises
    ------
    UsageError
        When a part is no NAME=VALUE, or its name is none that was known before the action.
    """
    found = {}
    for part in filter(None, where.split(",")):
        name, is_given, value = (text.strip() for text in part.partition("="))
        if not is_given or name not in WHERES:
            problem = f"--where says {part!r}"
            cure = (
                f"Write NAME=VALUE with {', '.join(WHERES)}; what came after the choice, such as "
                "the action or the reward, would bend the estimate"
            )
            raise UsageError(problem, cure)
        found[name] = value
    if "daypart" in found and not any(n.startswith("daypart.") for n in config.feature_names):
        problem = f"loop {config.loop_id!r} has no feature of the part of the day"
        raise UsageError(problem, "Choose by hour, or give the loop the feature daypart.morning")
    return found
