"""What all the engines of `benchmarks/join.py` share: the input they read, the answer they write.

Each engine runs in a process of its own, with the Python that has its packages, as
``python -m benchmarks.parts.join_NAME CASE``; the case is a file that says the rest.
"""

from __future__ import annotations

import gc
import random
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from benchmarks.parts import visits
from benchmarks.parts.join_alone import input_steps
from benchmarks.parts.join_processes import cpu_s, peak_mb
from connectors.logs import Row
from pipelines.operators import Keyed
from pipelines.topology import greeting_loop
from schemas.codec import decode, encode
from schemas.operations import SideRecord, Tick
from schemas.streams import SIDE_STREAMS, key_of

PAUSE_MS = 60_000
"""Between the last Tick of the warm-up and the first visitor that counts."""
Given = tuple[str, str, bytes]
"""What the join gave out: stream, key, bytes."""


class Stretch(msgspec.Struct):
    """Some visits, from the first decision until every window has closed."""

    visits: int
    """How many; so many outcomes are due."""
    events: int
    """Records, Ticks aside."""
    rows: list[Row]
    """All of it, in the order of log time."""


class Input(msgspec.Struct):
    """What every engine reads: two stretches of one log."""

    warm_up: Stretch
    """Until its outcomes are there, everything is start-up."""
    measured: Stretch
    """The same with other visits, later."""


class Case(msgspec.Struct):
    """What an engine's process is told."""

    input: str
    """File of the input."""
    answer: str
    """File to write the answer to."""
    folder: str
    """A folder of its own, on a disk."""
    spawned_at_s: float
    """When the process was started, seconds since 1970."""
    servers: str = ""
    """The broker, where the engine needs one."""
    jars: str = ""
    """Folder where compiled jars are kept from run to run."""
    java: str = ""
    """Command of a Java, where the engine needs one."""
    recovers: bool = False
    """Whether bytewax keeps its state on disk."""


class Answer(msgspec.Struct):
    """What an engine's process measured, and what its join gave out."""

    events: int
    """Records it took on the clock."""
    wall_s: float
    """What they took, seconds."""
    cpu_s: float
    """The same, of processors, by this process and those it started; 0: not known."""
    start_s: float
    """From the process's start until the warm-up was joined, seconds, without laying the input
    into the engine's own log."""
    memory_mb: float
    """The most that all its processes held at any time, resident; 0: not known."""
    warm_up: list[bytes]
    """Outcomes of the warm-up, sorted."""
    measured: list[bytes]
    """Outcomes of what was measured, sorted."""
    sides: list[str]
    """Of each record that left the main way: stream, reason, where it came from, key; sorted."""


def lay_out(path: Path, warm_up: int, measured: int, seed: int) -> Input:
    """Make the input and write it into a file.

    Records of one log time stand in an order drawn by the seed: what orders them is the join's
    contract, not the file.
    """
    chance = random.Random(seed)  # noqa: S311 - an order, not a secret
    first = _stretch(warm_up, 0, visits.START_MS, chance)
    second = _stretch(measured, warm_up, first.rows[-1].log_time_ms + PAUSE_MS, chance)
    whole = Input(first, second)
    path.write_bytes(msgspec.msgpack.encode(whole))
    return whole


def _stretch(n_visits: int, first: int, start_ms: int, chance: random.Random) -> Stretch:
    rows: list[Row] = []
    n_events = 0
    for at_ms, events in input_steps(n_visits, first, start_ms):
        chance.shuffle(events)
        n_events += len(events)
        for stream, value in events or [("ticks", Tick(at_ms, "benchmark"))]:
            rows.append(Row(len(rows), stream, key_of(value), at_ms, encode(value)))
    return Stretch(n_visits, n_events, rows)


def join_part() -> Keyed:
    """Return the greeting loop's join in its place."""
    return next(part for part in greeting_loop().keyed if part.name == "join")


class Run:
    """One run of one engine, in its own process."""

    def __init__(self) -> None:
        path = Path(sys.argv[1])
        self.case = msgspec.json.decode(path.read_bytes(), type=Case)
        self._laid_s = 0.0
        with self.laying():
            data = Path(self.case.input).read_bytes()
            whole = msgspec.msgpack.decode(data, type=Input)
        self.warm_up, self.measured = whole.warm_up, whole.measured
        self.folder = Path(self.case.folder)
        # The cycle collector must not walk the input again and again: no engine would hold it.
        gc.freeze()

    @contextmanager
    def laying(self) -> Iterator[None]:
        """Take what is done inside, the producers' work, off the start-up."""
        began_s = time.monotonic()
        yield
        self._laid_s += time.monotonic() - began_s

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Measure what is done inside; the engine is warm."""
        self._start_s = time.time() - self.case.spawned_at_s - self._laid_s
        cpu_before_s, began_s = cpu_s(), time.perf_counter()
        yield
        self._wall_s, self._cpu_s = time.perf_counter() - began_s, cpu_s() - cpu_before_s

    def answer(
        self, warm_up: Iterable[Given], measured: Iterable[Given], events: int | None = None
    ) -> None:
        """Write down what was measured and what was given out.

        Parameters
        ----------
        warm_up, measured : iterable of Given
            What the join gave out in each stretch.
        events : int, optional
            Records taken on the clock; None: those of the measured stretch.
        """
        first, second = list(warm_up), list(measured)
        told = Answer(
            events=self.measured.events if events is None else events,
            wall_s=self._wall_s,
            cpu_s=self._cpu_s,
            start_s=self._start_s,
            memory_mb=peak_mb(),
            warm_up=_outcomes(first),
            measured=_outcomes(second),
            sides=sorted(_sides(first + second)),
        )
        Path(self.case.answer).write_bytes(msgspec.msgpack.encode(told))


def _outcomes(given: list[Given]) -> list[bytes]:
    return sorted(value for stream, _, value in given if stream == "outcomes")


def _sides(given: list[Given]) -> Iterator[str]:
    for stream, key, value in given:
        if stream in SIDE_STREAMS:
            side = decode(value)
            assert isinstance(side, SideRecord)  # noqa: S101 - the only record of these streams
            yield f"{stream} {side.reason} {side.stream} {key}"
