"""Between the log and the operators: rows become records, emits become rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from connectors.embedded_log import EmbeddedLog
from connectors.logs import Row
from engines.memory import side_record
from engines.one_key import misplaced
from pipelines.operators import Aside, Emit, Record, Step
from schemas.codec import decode, encode
from schemas.errors import PhoError
from schemas.operations import SideRecord
from schemas.streams import DEAD_LETTERS, key_of


class Exchange:
    """What operators gave out since the last commit, and what comes back to them from the log.

    Parameters
    ----------
    log : EmbeddedLog
        The log.
    wanted : frozenset of str
        The streams somebody reads: values written there are kept until they are read back, which
        saves decoding them.
    """

    def __init__(self, log: EmbeddedLog, wanted: frozenset[str]) -> None:
        self._log = log
        self._wanted = wanted
        self._outputs: list[tuple[str, str, Any]] = []
        self._coalesced: dict[tuple[str, str], Emit] = {}
        self._own: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return bool(self._outputs or self._coalesced)

    # From the log

    def record(self, row: Row, *, report: bool = True) -> Record | None:
        """Read a row; None: it cannot be taken, and a dead letter says so.

        Parameters
        ----------
        row : Row
            The row.
        report : bool
            False: whoever reads it in its turn makes the dead letter.
        """
        value = self._own.pop(row.position, None)
        if value is None:
            try:
                value = decode(row.value)
            except PhoError as error:
                refused: tuple[str, str] | None = type(error).__name__, str(error)
            else:
                refused = misplaced(value, row.stream, row.key)
            if refused is not None:
                if report:
                    self._dead_letter(row, *refused)
                return None
        return Record(row.stream, row.key, row.log_time_ms, value, row.position)

    def value_at(self, position: int) -> Any:
        """Read what stands at a place of the log."""
        return decode(self._log.at(position).value)

    # To the log

    def put(self, stream: str, value: Any) -> None:
        """Give out a record."""
        self._outputs.append((stream, key_of(value, stream), value))

    def emit(self, steps: Iterable[Step[Any]]) -> None:
        """Give out what steps emitted, in their order."""
        for step in steps:
            for emit in step.emits:
                if callable(emit.value):
                    place = (emit.stream, emit.key or "")
                    # Taken out first: the newest of a key also stands last.
                    self._coalesced.pop(place, None)
                    self._coalesced[place] = emit
                elif isinstance(emit.value, Aside):
                    raw = self._log.at(emit.value.record.offset).value
                    side = side_record(emit.value, raw)
                    self._outputs.append((emit.stream, side.key, side))
                else:
                    key = emit.key or key_of(emit.value, emit.stream)
                    self._outputs.append((emit.stream, key, emit.value))

    def poison(self, record: Record, error: str) -> None:
        """Put aside a record that an operator cannot take."""
        self._dead_letter(self._log.at(record.offset), "poison", error)

    def encoded(self) -> list[tuple[str, str, bytes]]:
        """Return everything given out, ready to be written."""
        for (stream, key), emit in self._coalesced.items():
            self._outputs.append((stream, key, emit.value()))
        self._coalesced.clear()
        return [(stream, key, encode(value)) for stream, key, value in self._outputs]

    def written(self, positions: Sequence[int]) -> None:
        """Take note that it was committed, at these places."""
        for position, (stream, _, value) in zip(positions, self._outputs, strict=True):
            if stream in self._wanted:
                self._own[position] = value
        self._outputs.clear()

    def forget(self) -> None:
        """Drop what was given out: a former run has written it already."""
        self._outputs.clear()

    def _dead_letter(self, row: Row, reason: str, error: str) -> None:
        side = SideRecord(
            reason, error, row.stream, 0, row.position, row.log_time_ms, row.key, row.value
        )
        self._outputs.append((DEAD_LETTERS, side.key, side))
