"""Events a second: the whole loop, the join alone, and beside them the minimal stateful job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from benchmarks.parts.flink_layout import (
    EVENTS_OF_A_VISIT,
    PARTITIONS,
    Layout,
    decisions,
    whole_visits,
)
from benchmarks.parts.flink_minimal import COUNTS
from benchmarks.parts.flink_runs import Measured, Stage, measure, settings_of, submit
from flink_stand import Stand
from schemas.codec import decode

_PARALLELISM = 2
_EVENTS_OF_A_JOIN = EVENTS_OF_A_VISIT + 1
"""The join also reads the decision."""


def whole_loop(stand: Stand, prefix: str, n_visits: int) -> Measured:
    """Run both jobs over whole visits, from their frames on.

    Parameters
    ----------
    stand : Stand
        The cluster.
    prefix : str
        Of topics nobody used yet.
    n_visits : int
        How many.
    """
    return _loop(stand, prefix, n_visits, from_frames=True, profile=False)


def loop_alone(stand: Stand, prefix: str, n_visits: int, *, profile: bool = False) -> Measured:
    """Run the job `loop` over whole visits whose frames are answered already.

    Parameters
    ----------
    stand, prefix, n_visits
        As in `whole_loop`.
    profile : bool
        Whether the operators carry clocks.
    """
    return _loop(stand, prefix, n_visits, from_frames=False, profile=profile)


def _loop(
    stand: Stand, prefix: str, n_visits: int, *, from_frames: bool, profile: bool
) -> Measured:
    layout = Layout(stand.broker.bootstrap, prefix)
    first = "frames" if from_frames else "analyses"
    layout.write(whole_visits(n_visits, first))
    layout.events = n_visits * EVENTS_OF_A_VISIT
    layout.tick((first, "impressions", "visits", "rewards"), layout.last_ms + 100)
    stages: list[Stage] = [
        ({"decisions": n_visits}, ("decisions",)),
        ({"outcomes": n_visits + 1}, ("outcomes",)),
    ]
    if from_frames:
        stages.insert(0, ({"analyses": 2 * n_visits}, ("analyses",)))

    def start() -> list[str]:
        settings = settings_of(stand, layout, parallelism=_PARALLELISM)
        # The loop first: what is measured begins with the first answer.
        ids = [submit(stand, "loop", settings, profile=profile)]
        if from_frames:
            # One instance: two would write into one partition in turns, and stamped log times
            # must not go back there (a broker's own never do).
            alone = msgspec.structs.replace(settings, parallelism=1)
            ids.append(submit(stand, "analyze", alone))
        return ids

    with _learned(layout) as learned:
        return measure(stand, layout, stages, start, learned, n_visits)


def join_alone(stand: Stand, prefix: str, n_visits: int) -> Measured:
    """Run the join alone."""
    layout = _join_layout(stand, prefix, n_visits)

    def start() -> list[str]:
        return [submit(stand, "loop", settings_of(stand, layout, "join", parallelism=_PARALLELISM))]

    return measure(stand, layout, [], start, _count(layout, "outcomes", 1), n_visits)


def minimal(stand: Stand, prefix: str, n_visits: int) -> Measured:
    """Count the records the join reads, by key."""
    layout = _join_layout(stand, prefix, n_visits)

    def start() -> list[str]:
        return [submit(stand, "minimal", settings_of(stand, layout, parallelism=_PARALLELISM))]

    return measure(stand, layout, [], start, _count(layout, COUNTS, 0), layout.events)


def _join_layout(stand: Stand, prefix: str, n_visits: int) -> Layout:
    layout = Layout(stand.broker.bootstrap, prefix)
    layout.write(decisions(n_visits))
    layout.write(whole_visits(n_visits, "analyses"))
    layout.events = n_visits * _EVENTS_OF_A_JOIN
    streams = ("decisions", "impressions", "analyses", "rewards", "visits")
    layout.tick(streams, layout.last_ms + 100)
    return layout


def _count(layout: Layout, stream: str, before: int) -> Callable[[], int]:
    return lambda: layout.counts(stream)[stream] - before


@contextmanager
def _learned(layout: Layout) -> Iterator[Callable[[], int]]:
    """Return what tells the newest version of the policy."""
    topic = layout.address.topic("policies")
    reader = layout.client.reader({(topic, 0): 0})
    newest = 0

    def version() -> int:
        nonlocal newest
        for record in reader.poll(0.0):
            newest = max(newest, decode(record.value or b"").version)
        return newest

    try:
        yield version
    finally:
        reader.close()


assert PARTITIONS >= _PARALLELISM  # noqa: S101 - else an instance has no partition, and no watermark
