"""One way to drive every engine, so that one suite can hold them all to the same answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from careful import careful
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog, Steps
from engines.analysis import FrameAnswerer
from engines.embedded import EmbeddedEngine
from engines.memory import MemoryEngine
from join_scripts import Entry
from pipelines.operators import Dataflow
from schemas.codec import decode, encode
from schemas.errors import PictureMissing
from schemas.operations import SideRecord
from schemas.outcomes import PolicySnapshot

Told = tuple[str, int, bytes]
"""Key, log time and bytes of a record."""


class NoPictures:
    """The store of kiosks that analyse by themselves: it holds nothing, for nothing is taken."""

    def put(self, picture: bytes, picture_id: str | None = None, tags: Any = None) -> str:
        """Refuse: no test here takes pictures."""
        raise NotImplementedError

    def get(self, picture_id: str) -> bytes:
        """Find nothing."""
        problem = f"there is no picture {picture_id!r}"
        raise PictureMissing(problem)

    def delete(self, picture_id: str) -> None:
        """Forget nothing."""


class NoAnalyser:
    """The analyser of kiosks that analyse by themselves."""

    name = "none"
    version = "1"

    def analyse(self, picture: bytes) -> Any:
        """Refuse: nobody asks."""
        raise NotImplementedError


def answerer() -> FrameAnswerer:
    """Return what answers frames that a kiosk analysed by itself."""
    return FrameAnswerer(NoAnalyser(), NoPictures(), lambda: 0, None)


class Run(Protocol):
    """An engine at work on a log, whose clock the test sets."""

    def set_time(self, now_ms: int) -> None:
        """Move the log's clock, and let the engine come to rest."""

    def append(self, stream: str, value: Any) -> None:
        """Append a record at the clock's time."""

    def settle(self) -> None:
        """Let the engine come to rest."""

    def restart(self) -> None:
        """End the engine without warning and start another on the same log."""

    def out(self, stream: str) -> list[Told]:
        """Return what stands in a stream, side records with places a test can compare."""

    @property
    def remembered(self) -> dict[str, int]:
        """How many keys each operator remembers."""

    def close(self) -> None:
        """Let go of everything."""


class MemoryRun:
    """The reference."""

    def __init__(self, flow: Dataflow, _folder: Path) -> None:
        self.flow = flow
        self.engine = MemoryEngine(careful(flow), answerer())
        self._fed: dict[int, int] = {}

    def set_time(self, now_ms: int) -> None:
        self.engine.advance(now_ms)

    def append(self, stream: str, value: Any) -> None:
        self.engine.append(stream, value)
        self._fed[len(self.engine.log)] = len(self._fed)

    def settle(self) -> None:
        self.engine.run()

    def restart(self) -> None:
        log, now_ms = self.engine.log, self.engine.now_ms
        self.engine = MemoryEngine(self.flow, answerer())
        self.engine.log, self.engine.now_ms = log, now_ms
        self.engine._read = len(log)

    def out(self, stream: str) -> list[Told]:
        found = [
            (r.key, r.log_time_ms, encode(r.value)) for r in self.engine.log if r.stream == stream
        ]
        return comparable(stream, found, self._fed)

    @property
    def remembered(self) -> dict[str, int]:
        return {name: len(states) for name, states in self.engine.states.items()}

    def close(self) -> None:
        pass


class EmbeddedRun:
    """One machine: the engine on a file, which a restart opens anew."""

    def __init__(
        self, flow: Dataflow, folder: Path, steps: Steps | None = None, now_ms: int = 0
    ) -> None:
        self.flow = flow
        self.folder = folder
        self.steps = steps
        self.clock = SetClock(now_ms)
        self._fed: dict[int, int] = {}
        self._open()

    def _open(self) -> None:
        steps = {} if self.steps is None else {"steps": self.steps}
        self.log = EmbeddedLog(self.folder, self.clock, "OFF", **steps)
        self.engine = EmbeddedEngine(self.log, self.flow, answerer(), limited=False)

    def set_time(self, now_ms: int) -> None:
        self.clock.set(now_ms)
        self.settle()

    def append(self, stream: str, value: Any) -> None:
        self._fed[self.log.append(stream, value)] = len(self._fed)

    def settle(self) -> None:
        self.engine.run_to_rest()

    def cycle(self) -> bool:
        """Run one cycle, after which a test may end the engine."""
        return self.engine.cycle(wait_s=1.0)

    def restart(self) -> None:
        self.close()
        self._open()

    def out(self, stream: str) -> list[Told]:
        found = [(r.key, r.log_time_ms, r.value) for r in self.log.scan(stream)]
        return comparable(stream, found, self._fed)

    @property
    def remembered(self) -> dict[str, int]:
        return self.engine.open_keys

    def close(self) -> None:
        self.engine.close()
        self.log.close()


def comparable(stream: str, found: Iterable[Told], fed: dict[int, int]) -> list[Told]:
    """Return what two engines must agree on.

    Of coalesced snapshots the last of each key; of side records their place among what was fed,
    since engines number the rest of their log as they go.
    """
    told = []
    for key, log_time_ms, data in found:
        value = decode(data)
        if isinstance(value, SideRecord):
            place = fed.get(value.offset, -1)
            data = encode(replace(value, offset=place))
        told.append((key, log_time_ms, data))
        if isinstance(value, PolicySnapshot):
            told = [each for each in told[:-1] if each[0] != key] + told[-1:]
    return told


OUTPUTS = (
    "analyses",
    "decisions",
    "greetings",
    "outcomes",
    "policies",
    "alarms",
    "late",
    "unmatched",
    "dead-letters",
)


def everything(run: Run) -> dict[str, list[Told]]:
    """Return all that an engine gave out."""
    return {stream: run.out(stream) for stream in OUTPUTS}


def without_times(run: Run) -> dict[str, list[tuple[str, bytes]]]:
    """Return all that an engine gave out, but not when: in one go it comes at the end."""
    return {stream: [(key, data) for key, _, data in run.out(stream)] for stream in OUTPUTS}


def feed(run: Run, entries: list[Entry], batches: Iterable[int]) -> None:
    """Append a log; let the engine work after each batch of so many records."""
    sizes = iter(batches)
    left = next(sizes, len(entries))
    for entry in entries:
        if isinstance(run, EmbeddedRun):
            run.clock.set(entry.log_time_ms)
        else:
            run.set_time(entry.log_time_ms)
        run.append(entry.stream, entry.value)
        left -= 1
        if left == 0:
            run.settle()
            left = next(sizes, len(entries))


def finish(run: Run, entries: list[Entry]) -> None:
    """Let time pass the last record, so that all of a log is complete."""
    run.set_time(entries[-1].log_time_ms + 1)
    run.settle()
