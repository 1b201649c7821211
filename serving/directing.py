"""Directives as a person gives them: checked against what is learned now, then appended.

What `learn` would refuse is refused here, before it stands in the log; and a directive's id follows
from what it says and the version it finds, so that a command that is repeated because nobody knows
whether the broker took it is the same directive.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from connectors.logs import Log
from engines.rebuilding import version_of
from pipelines.directives import obeyed
from pipelines.learn import starts_anew
from pipelines.learners import Learner, Learning, learner_from, prior_learner
from pipelines.operators import Record
from policies.base import checksum_of
from policies.registry import restore
from schemas.codec import decode
from schemas.errors import PolicyError, RecordError, UsageError
from schemas.loops import LoopConfigured
from schemas.outcomes import Directive, PolicyDirected, PolicySnapshot


def standing(log: Log, loop_id: str) -> Learning:
    """Return what is learned of a loop now, as its newest snapshots say.

    Not from the learning log, of which a year takes minutes: a snapshot is at most 100 ms of log
    time old. A policy without one has learned nothing yet.

    Raises
    ------
    UsageError
        The log does not know the loop.
    SnapshotRefused
        A snapshot is of other features: the job has not taken the newest configuration yet.
    """
    config = None
    for value in _values(log, "loops", None):
        if isinstance(value, LoopConfigured) and value.loop_id == loop_id:
            config = value
    if config is None:
        problem = f"{log.name} knows no loop {loop_id!r}"
        raise UsageError(problem, "See `pho loops`; the job puts it into the log when it starts")
    newest: dict[str, PolicySnapshot] = {}
    for value in _values(log, "policies", None):
        if isinstance(value, PolicySnapshot) and value.loop_id == loop_id:
            known = newest.get(value.policy_id)
            if known is None or (known.epoch, known.version) <= (value.epoch, value.version):
                newest[value.policy_id] = value
    nothing = Record("outcomes", loop_id, 0, config)
    learners = []
    for policy in config.policies:
        snapshot = newest.get(policy.policy_id)
        if snapshot is None:
            learners.append(prior_learner(config, policy, 0, nothing))
        else:
            learners.append(learner_from(config, snapshot, (config.config_hash,)))
    return Learning(config, tuple(learners))


def chosen(state: Learning, policy_id: str) -> Learner:
    """Return what is learned of a policy.

    Raises
    ------
    UsageError
        The loop has none of that name, with those it has.
    """
    learner = state.learner(policy_id)
    if learner is None:
        known = ", ".join(each.policy_id for each in state.learners)
        problem = f"loop {state.config.loop_id!r} has no policy {policy_id!r}"
        raise UsageError(problem, f"It has {known}; others are named in [[loops.…]] of pho.toml")
    return learner


def directive(
    state: Learning, kind: Directive, policy_id: str, by: str, reason: str
) -> PolicyDirected:
    """Return a directive; whatever else it says is replaced into it before `give`."""
    chosen(state, policy_id)
    return PolicyDirected("to-be-named", state.config.loop_id, policy_id, kind, by, reason)


def give(log: Log, state: Learning, told: PolicyDirected) -> PolicyDirected:
    """Append a directive that would be obeyed, under the id that follows from it.

    Raises
    ------
    PhoError
        It would be refused; nothing was appended.
    """
    versions = [(each.policy_id, each.epoch, each.version) for each in state.learners]
    text = repr((told.loop_id, told.policy_id, told.kind, told.floor_ppb, told.snapshot_checksum))
    digest = hashlib.blake2b(f"{text}{versions}".encode(), digest_size=8).hexdigest()
    named = replace(told, directive_id=f"{told.kind}-{digest}")
    obeyed(state, Record("outcomes", told.loop_id, log.clock(), named), named)
    log.append("outcomes", named)
    return named


def rollback(log: Log, state: Learning, told: PolicyDirected, to: str) -> PolicyDirected:
    """Return a rollback with the arrays of an earlier version, built again from the log.

    Parameters
    ----------
    log : Log
        The log; the loop's part of `outcomes` is read from its beginning.
    state : Learning
        What is learned now.
    told : PolicyDirected
        The directive without its arrays.
    to : str
        ``VERSION`` of the present epoch, or ``EPOCH.VERSION``.

    Raises
    ------
    UsageError
        `to` is no version.
    PolicyError
        The log does not hold it, or what it learned means something else by now.
    """
    learner = chosen(state, told.policy_id)
    then, snapshot = version_named(log, told.loop_id, learner, to)
    if starts_anew(then.config, state.config, told.policy_id):
        problem = f"epoch {snapshot.epoch} of {told.policy_id!r} had other features or reward rules"
        raise PolicyError(problem, "What it learned means something else now; take a later version")
    policy = restore(snapshot, then.config).with_actions(state.config.action_ids)
    return replace(
        told,
        new_epoch=learner.epoch + 1,
        base_epoch=snapshot.epoch,
        base_version=snapshot.version,
        learn_from_log_time_ms=snapshot.learned_through_log_time_ms,
        arrays=policy.snapshot_arrays(),
        snapshot_checksum=checksum_of(policy),
    )


def version_named(
    log: Log, loop_id: str, learner: Learner, text: str
) -> tuple[Learning, PolicySnapshot]:
    """Return a version of a policy, and what was learned by then, built again from the log.

    Parameters
    ----------
    log : Log
        The log; the loop's part of `outcomes` is read from its beginning.
    loop_id : str
        The loop.
    learner : Learner
        The policy as it is.
    text : str
        ``VERSION`` of the present epoch, or ``EPOCH.VERSION``.

    Raises
    ------
    UsageError
        `text` is no version.
    PolicyError
        The log does not hold it.
    """
    epoch_text, _, version_text = text.rpartition(".")
    if not version_text.isdecimal() or not (epoch_text or "0").isdecimal():
        problem = f"{text!r} is no version"
        raise UsageError(problem, "Give VERSION, or EPOCH.VERSION; see `pho policy ls`")
    epoch = int(epoch_text) if epoch_text else learner.epoch
    rows = log.scan("outcomes", key=loop_id)
    return version_of(rows, learner.policy_id, epoch, int(version_text))


def _values(log: Log, stream: str, key: str | None) -> list[object]:
    """Return what a stream holds; bytes that are no record are the engine's to report."""
    found: list[object] = []
    for row in log.scan(stream, key=key):
        try:
            found.append(decode(row.value))
        except RecordError:
            continue
    return found
