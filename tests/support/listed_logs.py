"""A log for a kiosk under test, and the greeting that such a kiosk is told."""

from __future__ import annotations

from typing import Any

from schemas.decisions import GreetingIssued
from schemas.errors import PhoError


class ListedLog:
    """A log that keeps its records in a list, and fails when told to."""

    def __init__(self) -> None:
        self.records: list[tuple[str, Any]] = []
        self.failure: PhoError | None = None

    def append(self, stream: str, value: Any) -> None:
        """Append a record."""
        if self.failure is not None:
            raise self.failure
        self.records.append((stream, value))

    def of(self, stream: str) -> list[Any]:
        """Return the records of a stream."""
        return [value for name, value in self.records if name == stream]


def greeting_for(
    visit_id: str | None, kiosk_id: str, at_ms: int, life_ms: int, /, **others: Any
) -> GreetingIssued:
    """Return the greeting of a visit, decided now; keyword arguments replace its fields.

    Parameters
    ----------
    visit_id : str or None
        The visit, which its decision is named after; None: of nobody.
    kiosk_id : str
        Where it is told.
    at_ms : int
        When it was decided, ms.
    life_ms : int
        How long it may be shown, ms.
    """
    name = visit_id or "nobody"
    told = {
        **{"decision_id": name, "visit_id": name, "loop_id": "greeting", "kiosk_id": kiosk_id},
        **{"action_id": "joke", "text": "Hello", "language": "en", "voice": "", "mood": "funny"},
        **{"decided_at_ms": at_ms, "expires_at_ms": at_ms + life_ms, **others},
    }
    return GreetingIssued(**told)
