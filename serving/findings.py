"""What `pho doctor` finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from serving.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    what: str
    """What."""
    state: Literal["ok", "missing", "broken"]
    """How it is."""
    text: str
    """What was found."""
    cure: str = ""
    """What to do about it."""


def ledger_finding(book: Ledger) -> Finding:
    """Say whether a log's decisions add up."""
    if book.balanced:
        return Finding("ledger", "ok", f"{book.decisions} decisions, balanced")
    return Finding("ledger", "broken", book.problems[0], "pho ledger shows them all")
