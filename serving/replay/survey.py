"""A first look through a log before it is replayed: what will be needed, and what was altered."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from connectors.logs import Row
from schemas.codec import decode
from schemas.errors import RecordError
from schemas.loops import LoopConfigured, with_hash
from schemas.operations import SideRecord, Tick
from schemas.outcomes import OutcomeClosed, PolicyDirected, PolicySnapshot
from schemas.streams import DEAD_LETTERS, STREAMS
from serving.replay.decisions import versions_of
from serving.replay.policies import Named, name_of
from serving.replay.verdicts import History

_STREAMS = ("loops", "outcomes", "decisions", "policies", "erasures")


@dataclass(slots=True)
class Survey:
    """What stands in a log."""

    configs: dict[tuple[str, str], LoopConfigured] = field(default_factory=dict)
    """Every configuration there ever was, by loop and hash."""
    decision_ids: set[str] = field(default_factory=set)
    """Every decision."""
    needed: Counter[Named] = field(default_factory=Counter)
    """How often a version will be asked for: by each snapshot and each decision made with it."""
    newest: dict[tuple[str, str], Named] = field(default_factory=dict)
    """The newest snapshot of each (loop, policy)."""
    erased_through_ms: int = -1
    """Log time of the newest erasure, ms; -1: nobody was forgotten."""
    begins_ms: dict[str, int] = field(default_factory=dict)
    """Log time of the first decision and of the first answer, by stream, ms."""
    beheaded: set[str] = field(default_factory=set)
    """Loops whose learning log does not begin with a configuration: retention took its head."""
    altered: list[tuple[str, str]] = field(default_factory=list)
    """Records that cannot be what was appended: their stream, and why."""
    unreadable: Counter[str] = field(default_factory=Counter)
    """Records that nobody could ever read, by stream; a dead letter holds each."""

    @property
    def loop_ids(self) -> list[str]:
        """The loops, sorted."""
        return sorted({loop_id for loop_id, _ in self.configs})


def survey(history: History) -> Survey:
    """Look through a log.

    A configuration names the hash of its content; and whatever could not be read when it came
    became a dead letter. So one that was altered since is told from one that was always so.
    """
    found = Survey()
    unread: list[Row] = []
    learning: set[str] = set()
    first = next(history.scan("analyses"), None)
    if first is not None:
        found.begins_ms["analyses"] = first.log_time_ms
    for row in history.scan(*_STREAMS):
        found.begins_ms.setdefault(row.stream, row.log_time_ms)
        value = value_of(row)
        if row.stream == "outcomes" and row.key not in learning and not isinstance(value, Tick):
            learning.add(row.key)
            # One that cannot be read is named below: it is there.
            if isinstance(value, OutcomeClosed | PolicyDirected):
                found.beheaded.add(row.key)
        if value is None:
            unread.append(row)
        else:
            _take(found, row, value)
    letters = _dead_letters(history) if unread else set()
    for row in unread:
        if (row.stream, row.value) in letters:
            found.unreadable[row.stream] += 1
        else:
            place = f"{row.stream}[{row.position}] of {row.key}"
            text = f"{place} cannot be read, and no dead letter says that it never could"
            found.altered.append((row.stream, text))
    return found


def value_of(row: Row) -> Any:
    """Return what a row says; None: nothing that belongs in its stream."""
    try:
        value = decode(row.value)
    except RecordError:
        return None
    return value if isinstance(value, (*STREAMS[row.stream].records, Tick)) else None


def _take(found: Survey, row: Row, value: Any) -> None:
    match value:
        case LoopConfigured():
            if row.stream == "loops":
                found.configs[value.loop_id, value.config_hash] = value
            if with_hash(value).config_hash != value.config_hash:
                name = f"configuration {value.config_hash} of loop {value.loop_id}"
                found.altered.append((row.stream, f"{name} is not what its hash says"))
        case PolicySnapshot():
            name_ = name_of(value)
            place = name_.loop_id, name_.policy_id
            found.newest[place] = max(found.newest.get(place, name_), name_)
            found.needed[name_] += 1
        case PolicyDirected(kind="erase"):
            found.erased_through_ms = row.log_time_ms
        case _ if row.stream == "erasures":
            found.erased_through_ms = row.log_time_ms
        case _ if row.stream == "decisions" and not isinstance(value, Tick):
            if value.choice.decision_id not in found.decision_ids:
                found.decision_ids.add(value.choice.decision_id)
                found.needed.update(set(versions_of(value.choice)))


def _dead_letters(history: History) -> set[tuple[str, bytes]]:
    found = set()
    for row in history.scan(DEAD_LETTERS):
        value = value_of(row)
        if isinstance(value, SideRecord):
            found.add((value.stream, value.raw))
    return found
