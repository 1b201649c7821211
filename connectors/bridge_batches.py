"""What a bridge does whatever its target: copies in batches, refuses what another log filled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from connectors.logs import Row
from schemas.errors import UsageError


class Copy(Protocol):
    """One record as the target takes it."""

    @property
    def value(self) -> Any:
        """Its bytes."""
        ...


C = TypeVar("C", bound=Copy)


def in_batches(
    rows: Iterable[Row],
    copies: Callable[[Row], Iterable[C]],
    write: Callable[[list[C]], None],
    max_records: int,
    max_bytes: int,
) -> Row | None:
    """Write the copies of rows, many at once; return the last row, None where there was none.

    Parameters
    ----------
    rows : iterable of Row
        The rows of the source.
    copies : callable
        Returns what the target lacks of a row, often nothing.
    write : callable
        Writes some, perhaps none.
    max_records, max_bytes : int
        So many make a batch.
    """
    last = None
    batch: list[C] = []
    size = 0
    for row in rows:
        last = row
        for copy in copies(row):
            batch.append(copy)
            size += len(copy.value)
        if len(batch) >= max_records or size >= max_bytes:
            write(batch)
            batch, size = [], 0
    write(batch)
    return last


def other_source(place: str, position: str) -> UsageError:
    """Return the error of a target whose newest record the source, read to its end, lacks.

    Parameters
    ----------
    place : str
        The target's partition or stream.
    position : str
        Where the record stood: ``stream/partition/position``.
    """
    problem = f"{place} holds {position!r}, which the source lacks"
    cure = "It was filled from another log: use another prefix, or the log it came from"
    return UsageError(problem, cure)
