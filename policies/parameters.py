"""The numbers an algorithm is set with: read, checked, and explained where they are wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from policies.base import Policy
from schemas.errors import SettingsError
from schemas.loops import LoopConfigured, PolicyConfigured
from schemas.outcomes import PolicySnapshot


@dataclass(frozen=True, slots=True)
class Known:
    """One parameter an algorithm knows."""

    default: float
    """Its value where none is configured."""
    low: float
    """Smallest value allowed."""
    high: float
    """Largest value allowed."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """How the registry makes the policies of one algorithm."""

    prior: Callable[[LoopConfigured, PolicyConfigured], Policy]
    """Makes the policy that has learned nothing."""
    restore: Callable[[PolicySnapshot, LoopConfigured, PolicyConfigured], Policy]
    """Makes a policy from a snapshot whose identity and checksum are already checked."""
    parameters: Mapping[str, Known] = field(default_factory=dict)
    """The numbers it can be set with, by name."""


def read(policy: PolicyConfigured, known: Mapping[str, Known]) -> dict[str, float]:
    """Return every parameter of a policy: as configured, or its default.

    Raises
    ------
    SettingsError
        When one is unknown or outside its range, naming those there are.
    """
    values = {name: parameter.default for name, parameter in known.items()}
    for parameter in policy.parameters:
        refuse_unknown(policy, parameter.name, known)
        limits = known[parameter.name]
        if not limits.low <= parameter.value <= limits.high:
            problem = f"{parameter.name} of policy {policy.policy_id!r} is {parameter.value!r}"
            raise SettingsError(problem, f"It must lie in {limits.low!r} to {limits.high!r}")
        values[parameter.name] = parameter.value
    return values


def refuse_unknown(policy: PolicyConfigured, name: str, known: Mapping[str, object]) -> None:
    """Refuse the name of a parameter that the algorithm does not know.

    Raises
    ------
    SettingsError
        Naming those it knows.
    """
    if name not in known:
        problem = (
            f"policy {policy.policy_id!r} has no parameter {name!r} ({policy.algorithm} is its "
            "algorithm)"
        )
        raise SettingsError(problem, f"It knows {', '.join(sorted(known)) or 'none'}")
