"""The greeting loop as data: streams, operators, keys and broadcasts. Engines interpret it."""

from __future__ import annotations

from pipelines.decide import Decide
from pipelines.greet import Greet
from pipelines.join import ORPHAN_WAIT_MS, Join
from pipelines.learn import Learn
from pipelines.operators import Asynchronous, Broadcast, Dataflow, Keyed
from schemas.decisions import RewardRules
from schemas.loops import LoopConfigured
from schemas.outcomes import PolicySnapshot

TICK_INTERVAL_MS = 250
"""A Tick is written where the newest record is older than this."""
TICK_SLACK_MS = 10_000
"""Ticks go on this long after the last timer can have fired."""
PICTURE_TTL_MS = 60_000
"""A picture older than this is deleted, its frame answered `expired`."""


def tick_tail_ms(rules: RewardRules) -> int:
    """Return how long Ticks go on after the newest record that is none, ms."""
    return rules.longest_life_ms + ORPHAN_WAIT_MS + TICK_SLACK_MS


def _loop_key(config: LoopConfigured) -> str:
    return config.loop_id


def _policy_key(snapshot: PolicySnapshot) -> str:
    return f"{snapshot.loop_id}/{snapshot.policy_id}"


def _last_in_log(_old: LoopConfigured, _new: LoopConfigured) -> bool:
    return True


def _higher_version(old: PolicySnapshot, new: PolicySnapshot) -> bool:
    """Compare (epoch, version): the newest policy is the largest, not the last in the log."""
    return (new.epoch, new.version) >= (old.epoch, old.version)


LOOPS = Broadcast("loops", _loop_key, _last_in_log)
POLICIES = Broadcast("policies", _policy_key, _higher_version)


def greeting_loop(
    concurrency: int = 2, analysis_time_limit_ms: int = 5_000, analysis_tries: int = 3
) -> Dataflow:
    """Return the greeting loop: analyze, decide, greet, join, learn.

    Parameters
    ----------
    concurrency : int
        Pictures analysed at once, at the most.
    analysis_time_limit_ms : int
        One call of the analyser may take this long, ms.
    analysis_tries : int
        Calls for one picture, at the most.
    """
    return Dataflow(
        name="greeting",
        operators=(
            Asynchronous(
                "analyze",
                "frames",
                "analyses",
                concurrency,
                analysis_time_limit_ms,
                analysis_tries,
            ),
            Keyed("decide", Decide(), ("analyses",), ("decisions",), (LOOPS, POLICIES)),
            Keyed("greet", Greet(), ("decisions",), ("greetings",)),
            Keyed(
                "join",
                Join(),
                ("decisions", "impressions", "analyses", "rewards", "visits"),
                ("outcomes", "alarms"),
            ),
            Keyed("learn", Learn(), ("outcomes",), ("policies",)),
        ),
        coalesced=frozenset({"policies"}),
    )
