"""The closed decisions of a log, in their order, with the configurations they were made under."""

from __future__ import annotations

from collections.abc import Iterator

from connectors.logs import Log
from policies.evaluation.order import InOrder
from schemas.codec import decode
from schemas.decisions import DecisionMade
from schemas.errors import RecordError, UsageError
from schemas.loops import LoopConfigured
from schemas.outcomes import OutcomeClosed

KnownConfigs = dict[str, LoopConfigured]
"""Every configuration of the log, by its hash; the newest of a loop came last."""


def configurations(log: Log) -> KnownConfigs:
    """Return every loop configuration that stands in a log, oldest first."""
    found: KnownConfigs = {}
    for row in log.scan("loops"):
        try:
            config = decode(row.value)
        except RecordError:
            continue
        if isinstance(config, LoopConfigured):
            found.pop(config.config_hash, None)
            found[config.config_hash] = config
    return found


def loop_named(configs: KnownConfigs, loop_id: str | None) -> LoopConfigured:
    """Return the newest configuration of a loop; of the only one, where none is named.

    Raises
    ------
    UsageError
        When there is none of that name, or several to choose from.
    """
    newest = {config.loop_id: config for config in configs.values()}
    if loop_id is None and len(newest) == 1:
        return next(iter(newest.values()))
    if loop_id in newest:
        return newest[loop_id]
    problem = f"the log has no loop {loop_id!r}" if loop_id else f"the log has {len(newest)} loops"
    raise UsageError(
        problem, f"Name one with --loop: {', '.join(sorted(newest)) or 'none is there'}"
    )


def outcomes_in_order(log: Log, loop_id: str, order: InOrder) -> Iterator[OutcomeClosed]:
    """Yield a loop's outcomes in the order of their decisions, up to the first that is open.

    Parameters
    ----------
    log : Log
        The log.
    loop_id : str
        The loop.
    order : InOrder
        Keeps what waits; says afterwards how many do.
    """
    # Asked first: whatever was due by now has been closed by the time its outcome is looked for.
    complete_ms = log.complete_through_ms()
    for row in log.scan("decisions", "outcomes"):
        try:
            value = decode(row.value)
        except RecordError:
            order.unreadable += row.stream == "outcomes" and row.key == loop_id
            continue
        if isinstance(value, DecisionMade):
            choice, rules = value.choice, value.rules
            # Rule 7 of the join: so old a decision is no decision, and never closes.
            is_late = row.log_time_ms > choice.decided_at_ms + rules.dedup_horizon_ms
            if choice.loop_id == loop_id and not is_late:
                order.decided(choice.decision_id, row.log_time_ms + rules.longest_life_ms)
        elif isinstance(value, OutcomeClosed) and value.choice.loop_id == loop_id:
            order.closed(value)
        else:
            continue
        yield from order.ready()
    order.give_up(complete_ms)
    yield from order.ready()
