"""Directives: what comes from outside and `learn` must obey, as records of its own log.

A promotion, a rollback, an erasure or an alarm that widens exploration changes what is served, so
it stands in the log that every version can be built again from, with who gave it and why. What
cannot be obeyed is a dead letter that says what to do; the state stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pipelines.learners import Learner, Learning, prior_learner, step_with
from pipelines.operators import Aside, Emit, Record, Step
from policies.registry import prior, restore
from schemas.errors import PhoError, PolicyError
from schemas.loops import LoopConfigured, Role
from schemas.outcomes import PolicyDirected, PolicySnapshot
from schemas.streams import DEAD_LETTERS

REMEMBERED = 64
"""Directives whose repeat changes nothing. A log holds a record at least once, and a repeat
follows its first closely: what a producer sends again, it sends within its delivery timeout."""

_Changed = tuple[Learner, ...]
_Obey = Callable[[Learning, Learner, PolicyDirected, Record], _Changed]


def obey(state: Learning, record: Record, directive: PolicyDirected) -> Step[Learning]:
    """Obey a directive, or put it aside with the cure."""
    if directive.directive_id in state.directive_ids:
        return Step(state)
    try:
        changed = obeyed(state, record, directive)
    except PhoError as error:
        return Step(state, (Emit(Aside(record, "bad_directive", str(error)), DEAD_LETTERS),))
    now = {learner.policy_id: learner for learner in changed}
    learners = tuple(now.get(learner.policy_id, learner) for learner in state.learners)
    remembered = (*state.directive_ids, directive.directive_id)[-REMEMBERED:]
    after = replace(state, learners=learners, directive_ids=remembered)
    return step_with(after, changed)


def obeyed(state: Learning, record: Record, directive: PolicyDirected) -> tuple[Learner, ...]:
    """Return the policies that a directive changes, as they are after it.

    Raises
    ------
    PhoError
        It cannot be obeyed; with the cure.
    """
    learner = state.learner(directive.policy_id)
    if learner is None:
        known = ", ".join(each.policy_id for each in state.learners)
        problem = f"loop {state.config.loop_id!r} has no policy {directive.policy_id!r}"
        raise PolicyError(problem, f"It has {known}; name it in [[loops.…]] and start again first")
    act = _KINDS.get(directive.kind)
    if act is None:
        problem = f"a directive {directive.kind!r} is not known to this release"
        raise PolicyError(problem, f"It obeys {', '.join(_KINDS)}")
    return act(state, learner, directive, record)


def with_role(learner: Learner, role: Role, record: Record) -> Learner:
    """Return a policy with a role it has from this record on; one more record that changed it."""
    since_ms = record.log_time_ms
    version = learner.version + 1
    return replace(learner, role=role, role_since_log_time_ms=since_ms, version=version)


def restored(config: LoopConfigured, learner: Learner, directive: PolicyDirected) -> Learner:
    """Return the policy that a directive's arrays make, under the configuration in force.

    Parameters
    ----------
    config : LoopConfigured
        The loop; the arrays are for its actions in their order.
    learner : Learner
        The policy as it is.
    directive : PolicyDirected
        `arrays`, and `snapshot_checksum` over algorithm, actions, features and arrays.

    Raises
    ------
    PolicyError
        The checksum is missing or differs, or the arrays do not fit.
    """
    if directive.snapshot_checksum is None:
        problem = f"directive {directive.directive_id!r} brings arrays without their checksum"
        raise PolicyError(problem, "Give it with `pho policy`, which names the checksum")
    snapshot = PolicySnapshot(
        loop_id=config.loop_id,
        policy_id=learner.policy_id,
        epoch=learner.epoch + 1,
        version=0,
        config_hash=config.config_hash,
        features_hash=config.features_hash,
        algorithm=learner.policy.algorithm,
        actions=config.action_ids,
        features=config.feature_names,
        arrays=directive.arrays,
        role=learner.role,
        role_since_log_time_ms=learner.role_since_log_time_ms,
        floor_ppb=learner.floor_ppb,
        checksum=directive.snapshot_checksum,
    )
    return replace(learner, policy=restore(snapshot, config))


def _add(state: Learning, learner: Learner, directive: PolicyDirected, record: Record) -> _Changed:
    if learner.role != "retired":
        problem = f"policy {learner.policy_id!r} is not retired, it is {learner.role}"
        raise PolicyError(problem, "Only a retired policy can be added again")
    return (with_role(learner, "shadow", record),)


def _promote(
    state: Learning, learner: Learner, directive: PolicyDirected, record: Record
) -> _Changed:
    if learner.role == "serving":
        problem = f"policy {learner.policy_id!r} serves already"
        raise PolicyError(problem, "Nothing is to be done")
    if learner.role == "retired":
        problem = f"policy {learner.policy_id!r} is retired, and has learned nothing since"
        raise PolicyError(problem, "Add it again first, and let it learn beside: pho policy add")
    before = (each for each in state.learners if each.role == "serving")
    demoted = tuple(with_role(each, "shadow", record) for each in before)
    return (*demoted, with_role(learner, "serving", record))


def _retire(
    state: Learning, learner: Learner, directive: PolicyDirected, record: Record
) -> _Changed:
    if learner.role != "shadow":
        problem = f"policy {learner.policy_id!r} is {learner.role}, not in shadow"
        raise PolicyError(problem, "Promote another first; only a shadow can be retired")
    return (with_role(learner, "retired", record),)


def _explore(
    state: Learning, learner: Learner, directive: PolicyDirected, record: Record
) -> _Changed:
    if directive.floor_ppb is None:
        problem = f"directive {directive.directive_id!r} names no floor to explore with"
        raise PolicyError(problem, "Give floor_ppb: pho policy explore ID --floor 0.2")
    # An algorithm that cannot do without a floor refuses it here as it does in a configuration.
    prior(replace(state.config, floor_ppb=directive.floor_ppb), learner.configured)
    return (replace(learner, floor_ppb=directive.floor_ppb, version=learner.version + 1),)


def _roll_back(
    state: Learning, learner: Learner, directive: PolicyDirected, record: Record
) -> _Changed:
    if directive.base_epoch is None or directive.base_version is None:
        problem = f"directive {directive.directive_id!r} does not name the version to go back to"
        raise PolicyError(
            problem, "Give base_epoch and base_version: pho policy rollback ID --to N"
        )
    return (_new_epoch(restored(state.config, learner, directive), directive, record),)


def _erase(
    state: Learning, learner: Learner, directive: PolicyDirected, record: Record
) -> _Changed:
    return (_new_epoch(restored(state.config, learner, directive), directive, record),)


def _prior(
    state: Learning, learner: Learner, directive: PolicyDirected, record: Record
) -> _Changed:
    if directive.arrays:
        learner = restored(state.config, learner, directive)
    else:
        fresh = prior_learner(state.config, learner.configured, learner.epoch, record)
        learner = replace(learner, policy=fresh.policy)
    return (_new_epoch(learner, directive, record),)


def _new_epoch(learner: Learner, directive: PolicyDirected, record: Record) -> Learner:
    wanted = learner.epoch + 1
    if directive.new_epoch != wanted:
        problem = f"directive {directive.directive_id!r} starts epoch {directive.new_epoch}"
        cure = f"Policy {learner.policy_id!r} is in epoch {learner.epoch}: it must start {wanted}"
        raise PolicyError(problem, cure)
    through_ms = directive.learn_from_log_time_ms
    if through_ms is not None and through_ms > record.log_time_ms:
        problem = f"directive {directive.directive_id!r} has learned what is not in the log yet"
        cure = f"learn_from_log_time_ms must be at most its own log time, {record.log_time_ms}"
        raise PolicyError(problem, cure)
    floor_ppb = learner.floor_ppb if directive.floor_ppb is None else directive.floor_ppb
    return replace(
        learner,
        epoch=wanted,
        version=0,
        floor_ppb=floor_ppb,
        learned_through_id=None,
        learned_through_log_time_ms=through_ms,
        base_epoch=directive.base_epoch,
        base_version=directive.base_version,
    )


_KINDS: dict[str, _Obey] = {
    "add": _add,
    "promote": _promote,
    "rollback": _roll_back,
    "retire": _retire,
    "prior": _prior,
    "explore": _explore,
    "erase": _erase,
}
