"""pho policy: which policies a loop has, how they differ, and which of them decides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from connectors.logs import Log
from pipelines.learners import Learner, Learning, snapshot_of
from policies.base import checksum_of
from schemas.checks import PPB
from schemas.codec import encode
from schemas.errors import PolicyError, UsageError
from schemas.outcomes import Evidence, PolicyDirected
from serving.comparing import compare, show_difference
from serving.console import AsJson, Config, Data, LogAddress, as_flag, out, print_json
from serving.directing import chosen, directive, give, rollback, standing, version_named
from serving.kinesis_opening import IN_ITS_FOLDER, refuse_kinesis
from serving.opening import open_log
from serving.settings import load

policy_app = typer.Typer(
    help="Look at a loop's policies, and say which decides.\n\nExample: pho policy ls --data shop",
    no_args_is_help=True,
)

PolicyId = Annotated[str, typer.Argument(help="Id of the policy.")]
LoopId = Annotated[
    str | None, typer.Option("--loop", help="The loop.", show_default="that of [kiosk]")
]
By = Annotated[str, typer.Option("--by", help="Who says so; it stands in the log.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it stands in the log.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.add_typer(policy_app, name="policy")


@policy_app.command()
def ls(
    loop: LoopId = None,
    data: Data = None,
    log: LogAddress = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List a loop's policies with role, epoch, version and checksum.

    Example: pho policy ls --data shop
    """
    _, state = _opened(loop, data, log, config)
    told = [_told(learner) for learner in state.learners]
    if as_json:
        print_json(told)
        return
    table = Table()
    for name in ("policy", "role", "algorithm", "version", "floor", "from", "checksum"):
        table.add_column(name)
    for each in told:
        numbers = (f"{each['epoch']}.{each['version']}", f"{each['floor']:.0%}")
        base = each["base"] or "prior"
        table.add_row(
            escape(each["policy"]),
            each["role"],
            each["algorithm"],
            *numbers,
            base,
            each["checksum"],
        )
    out.print(table)


@policy_app.command()
def diff(
    first: PolicyId,
    second: Annotated[
        str | None, typer.Argument(help="The other; by default the one that serves.")
    ] = None,
    last: Annotated[int, typer.Option(min=1, help="Compare on so many newest decisions.")] = 500,
    loop: LoopId = None,
    data: Data = None,
    log: LogAddress = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Say how two policies differ: probabilities in real contexts, and mean weights.

    Example: pho policy diff quick main --data shop
    """
    opened, state = _opened(loop, data, log, config)
    serving = next(each.policy_id for each in state.learners if each.role == "serving")
    pair = (chosen(state, first), chosen(state, second or serving))
    told = compare(opened, state.config, pair[0].policy, pair[1].policy, last)
    document = {"policies": [each.policy_id for each in pair], **told}
    if as_json:
        print_json(document)
        return
    show_difference(document)


@policy_app.command()
def save(
    policy_id: PolicyId,
    to: Annotated[Path, typer.Option("--out", help="The file to write.", dir_okay=False)],
    at: Annotated[
        str | None, typer.Option("--at", help="VERSION, or EPOCH.VERSION.", show_default="newest")
    ] = None,
    loop: LoopId = None,
    data: Data = None,
    log: LogAddress = None,
    config: Config = None,
) -> None:
    """Write a version of a policy to a file, as `pho evaluate --policy FILE` reads it.

    Example: pho policy save main --at 1200 --out main-1200.avro --data shop
    """
    opened, state = _opened(loop, data, log, config)
    snapshot = snapshot_of(state.config, chosen(state, policy_id))
    if at is not None:
        _, snapshot = version_named(opened, state.config.loop_id, chosen(state, policy_id), at)
    try:
        to.write_bytes(encode(snapshot))
    except OSError as error:
        problem = f"{to} cannot be written: {error.strerror}"
        raise UsageError(problem, "Name a file in a folder that is there: --out") from error
    version = f"{snapshot.epoch}.{snapshot.version}"
    out.print(f"{escape(policy_id)} at {version}, {snapshot.checksum}: {escape(str(to))}")


@policy_app.command()
def promote(
    policy_id: PolicyId,
    force: Annotated[bool, typer.Option("--force", help="Without evidence.")] = False,
    reason: Reason = "",
    by: By = "pho policy",
    loop: LoopId = None,
    data: Data = None,
    log: LogAddress = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Let a policy in shadow serve from now on; the one that served goes on in shadow.

    Leaves with 1 without evidence that it is better: the lower bound of its lead on the same
    decisions must be above zero.

    Example: pho policy promote quick --data shop
    """
    opened, state = _opened(loop, data, log, config)
    told = directive(state, "promote", policy_id, by, reason)
    _refuse_wrong_role(chosen(state, policy_id), "shadow")
    better, text, evidence = _evidence(opened, state, policy_id)
    if not better and not force:
        problem = f"policy {policy_id!r} is not promoted: {text}"
        cure = "Wait for more decisions, or promote it all the same with --force"
        raise PolicyError(problem, cure)
    told = replace(told, reason=reason or text, evidence=evidence)
    _done(give(opened, state, told), as_json=as_json)


@policy_app.command("rollback")
def roll_back(
    policy_id: PolicyId,
    to: Annotated[str, typer.Option("--to", help="VERSION, or EPOCH.VERSION.")],
    reason: Reason = "",
    by: By = "pho policy",
    loop: LoopId = None,
    data: Data = None,
    log: LogAddress = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Go back to what a policy knew at an earlier version; a new epoch starts there.

    The version is built again from the learning log, with its checksum.

    Example: pho policy rollback main --to 1200 --data shop
    """
    opened, state = _opened(loop, data, log, config)
    told = directive(state, "rollback", policy_id, by, reason)
    _done(give(opened, state, rollback(opened, state, told, to)), as_json=as_json)


@policy_app.command()
def retire(
    policy_id: PolicyId,
    reason: Reason = "",
    by: By = "pho policy",
    loop: LoopId = None,
    data: Data = None,
    log: LogAddress = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Let a policy in shadow learn nothing more; `pho policy add` takes that back.

    Example: pho policy retire quick --data shop
    """
    opened, state = _opened(loop, data, log, config)
    _done(give(opened, state, directive(state, "retire", policy_id, by, reason)), as_json=as_json)


@policy_app.command()
def add(
    policy_id: PolicyId,
    reason: Reason = "",
    by: By = "pho policy",
    loop: LoopId = None,
    data: Data = None,
    log: LogAddress = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Let a retired policy learn in shadow again.

    Example: pho policy add quick --data shop
    """
    opened, state = _opened(loop, data, log, config)
    _done(give(opened, state, directive(state, "add", policy_id, by, reason)), as_json=as_json)


@policy_app.command()
def explore(
    policy_id: PolicyId,
    floor: Annotated[float, typer.Option("--floor", help="Share spread evenly, 0 to 1.")],
    reason: Reason = "",
    by: By = "pho policy",
    loop: LoopId = None,
    data: Data = None,
    log: LogAddress = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Set how much a policy explores, until the next such directive or configuration.

    Example: pho policy explore main --floor 0.2 --data shop
    """
    if not 0.0 <= floor <= 1.0:
        problem = f"--floor {floor} is no share"
        raise UsageError(problem, "Give 0 to 1: 0.2 spreads a fifth evenly over all actions")
    opened, state = _opened(loop, data, log, config)
    told = directive(state, "explore", policy_id, by, reason)
    told = replace(told, floor_ppb=round(floor * PPB))
    _done(give(opened, state, told), as_json=as_json)


def _opened(loop: str | None, data: Any, log: str | None, config: Any) -> tuple[Log, Learning]:
    settings = load(config, {"data": as_flag(data), "log.address": log})
    refuse_kinesis(settings, "policy", IN_ITS_FOLDER)
    opened = open_log(settings)
    return opened, standing(opened, loop or settings.kiosk.loop)


def _told(learner: Learner) -> dict[str, Any]:
    base = None
    if learner.base_epoch is not None:
        base = f"{learner.base_epoch}.{learner.base_version}"
    return {
        "policy": learner.policy_id,
        "role": learner.role,
        "role_since_log_time_ms": learner.role_since_log_time_ms,
        "algorithm": learner.policy.algorithm,
        "epoch": learner.epoch,
        "version": learner.version,
        "base": base,
        "floor": learner.floor_ppb / PPB,
        "learned_through": learner.learned_through_id,
        "learned_through_log_time_ms": learner.learned_through_log_time_ms,
        "checksum": checksum_of(learner.policy),
    }


def _refuse_wrong_role(learner: Learner, wanted: str) -> None:
    """Say so before evidence is asked for, which takes long."""
    if learner.role != wanted:
        problem = f"policy {learner.policy_id!r} is {learner.role}"
        raise PolicyError(problem, f"Only one in {wanted} can be promoted; see `pho policy ls`")


def _evidence(log: Log, state: Learning, policy_id: str) -> tuple[bool, str, tuple[Evidence, ...]]:
    """Return whether a challenger is better, in words, and in numbers for the record."""
    from serving.challengers import verdicts

    for verdict in verdicts(log, state.config.loop_id):
        if verdict.policy_id == policy_id:
            numbers = ("difference", "low", "high", "n")
            evidence = tuple(Evidence(name, float(getattr(verdict, name))) for name in numbers)
            return verdict.better, verdict.text, evidence
    return False, "no decision has said yet what it would have done", ()


def _done(told: PolicyDirected, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "directive_id": told.directive_id,
                "loop": told.loop_id,
                "policy": told.policy_id,
                "kind": told.kind,
                "new_epoch": told.new_epoch,
                "base": None if told.base_epoch is None else [told.base_epoch, told.base_version],
                "floor": None if told.floor_ppb is None else told.floor_ppb / PPB,
                "checksum": told.snapshot_checksum,
                "evidence": {each.name: each.value for each in told.evidence},
            }
        )
        return
    text = f"{told.kind} {told.policy_id}: in the log as {told.directive_id}"
    out.print(f"{escape(text)}; the job obeys it as soon as it runs", highlight=False)
