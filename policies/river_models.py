"""River's classes by name: found only inside River, only in an allow-list of its modules.

River is imported when the first name is looked up: its import takes longer than PHO's own, and
whoever uses PHO's policies alone must not pay for it.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from policies.parameters import refuse_unknown
from schemas.errors import SettingsError
from schemas.loops import PolicyConfigured

PREFIX = "river:"
"""What the names of River's algorithms start with."""

MODULES = (
    "bandit",
    "dummy",
    "ensemble",
    "facto",
    "forest",
    "linear_model",
    "neighbors",
    "rules",
    "tree",
)
"""The modules of River that hold regressors and contextual bandits; nothing else is imported."""

_SEED_LIMIT = 2**32
"""River hands its seeds to numpy, which takes no more than 32 bits."""


def check_name(algorithm: str) -> tuple[str, str]:
    """Return module and class of an algorithm, without importing anything.

    Raises
    ------
    SettingsError
        When the name is not ``river:MODULE.CLASS`` with a module of `MODULES`.
    """
    module, _, name = algorithm.removeprefix(PREFIX).partition(".")
    if module not in MODULES or not name.isidentifier() or name.startswith("_"):
        problem = f"{algorithm!r} names no algorithm of River"
        raise SettingsError(problem, f"Use river:MODULE.CLASS, MODULE one of {', '.join(MODULES)}")
    return module, name


def find(algorithm: str) -> tuple[Any, bool]:
    """Return the class an algorithm names, and whether it is a bandit.

    Raises
    ------
    SettingsError
        When River is not installed, has no such class, or it is neither a regressor nor a
        contextual bandit.
    """
    module_name, name = check_name(algorithm)
    try:
        base = importlib.import_module("river.base")
        bandit = importlib.import_module("river.bandit.base")
        module = importlib.import_module(f"river.{module_name}")
    except ModuleNotFoundError as error:
        problem = f"{algorithm!r} needs River: {error}"
        raise SettingsError(problem, "Install it: pip install river") from error
    found = getattr(module, name, None)
    if inspect.isclass(found) and not inspect.isabstract(found):
        if issubclass(found, bandit.ContextualPolicy):
            return found, True
        if issubclass(found, base.Regressor):
            return found, False
    problem = f"river.{module_name} has no regressor or contextual bandit {name!r}"
    raise SettingsError(problem, "River's documentation lists them; policies without context fail")


def arguments(policy: PolicyConfigured, model: Any, seed: int) -> dict[str, Any]:
    """Return the arguments a model of River is made with.

    Parameters
    ----------
    policy : PolicyConfigured
        Its parameters are numbers; whole ones become int where River's default is no float.
    model : class
        The class, from `find`.
    seed : int
        Seed of the loop, for a model that takes one and is not given its own.

    Raises
    ------
    SettingsError
        When a parameter is unknown, or one without a default is missing.
    """
    known = _parameters(model)
    given: dict[str, Any] = {}
    for parameter in policy.parameters:
        refuse_unknown(policy, parameter.name, known)
        default = known[parameter.name].default
        whole = parameter.value.is_integer() and not isinstance(default, float)
        given[parameter.name] = int(parameter.value) if whole else parameter.value
        if isinstance(default, bool):
            given[parameter.name] = bool(parameter.value)
    if "seed" in known and "seed" not in given:
        given["seed"] = seed % _SEED_LIMIT
    missing = [
        name
        for name, parameter in known.items()
        if parameter.default is inspect.Parameter.empty and name not in given
    ]
    if missing:
        problem = f"{policy.algorithm} cannot be made without {', '.join(missing)}"
        raise SettingsError(problem, "Only models that numbers alone configure can be hosted")
    return given


def _parameters(model: Any) -> Mapping[str, inspect.Parameter]:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(model).parameters
    return {name: value for name, value in parameters.items() if value.kind not in variadic}
