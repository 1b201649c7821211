"""One operator on the memory engine, fed record by record at log times of the test's choice."""

from __future__ import annotations

from typing import Any

from careful import careful
from engines.memory import MemoryEngine
from pipelines.topology import greeting_loop
from schemas.operations import SideRecord, Tick
from schemas.outcomes import OutcomeClosed
from worlds import START_MS


class Alone:
    """Runs some operators of the greeting loop; times are ms after `START_MS`.

    Watched, each step is run twice and compared (`careful`), which a state of a thousand parts
    makes slow.
    """

    def __init__(self, *names: str, watched: bool = True) -> None:
        flow = greeting_loop().only(*names)
        self.engine = MemoryEngine(careful(flow) if watched else flow)

    def at(self, after_ms: int, stream: str, value: Any) -> None:
        """Append a record at a log time."""
        self.engine.append(stream, value, START_MS + after_ms)
        self.engine.run()

    def until(self, after_ms: int) -> None:
        """Let log time pass: every record and timer up to and with a time has had its turn."""
        self.at(after_ms + 1, "ticks", Tick(START_MS + after_ms + 1, "test"))
        self.engine.advance(START_MS + after_ms + 2)

    def out(self, stream: str) -> list[Any]:
        """Return what stands in a stream."""
        return [record.value for record in self.engine.log if record.stream == stream]

    @property
    def outcome(self) -> OutcomeClosed:
        """The only outcome there is."""
        (outcome,) = self.out("outcomes")
        assert isinstance(outcome, OutcomeClosed)
        return outcome

    def aside(self, stream: str) -> list[tuple[str, str]]:
        """Return (stream it came from, reason) of what left the main way."""
        sides: list[SideRecord] = self.out(stream)
        return [(side.stream, side.reason) for side in sides]

    @property
    def remembered(self) -> dict[str, int]:
        """How many keys each operator remembers."""
        return {name: len(states) for name, states in self.engine.states.items()}
