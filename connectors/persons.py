"""Which records speak of a person: by ids in the clear, or by hashes where the ids are gone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

from connectors.logs import Row
from schemas.codec import decode
from schemas.decisions import DecisionMade
from schemas.erasure import id_hash
from schemas.errors import RecordError
from schemas.operations import AlarmRaised, Erasure, SideRecord
from schemas.outcomes import OutcomeClosed
from schemas.streams import STREAMS

_CACHED_MAX = 65_536
_SEARCHED_FROM = 6
"""Shorter ids are not looked for in bytes nobody can read: they would be found everywhere."""
_ALARM_LENGTH = 240
# The keys of the others name loops, kiosks and policies: whoever asks to forget the visit
# "greeting" must not lose what the loop of that name has learned.
_BY_DECISION = frozenset(n for n, stream in STREAMS.items() if stream.keyed_by == "decision_id")


@dataclass(slots=True)
class Told:
    """Whom a record speaks of."""

    ids: set[str] = field(default_factory=set)
    """Ids of decisions and visits."""
    decision_id: str = ""
    """The decision it belongs to; empty: it does not say."""
    visit_id: str = ""
    """The visit it belongs to; empty: it does not say."""
    subjects: set[str] = field(default_factory=set)
    """Keyed hashes of persons."""
    unreadable: list[bytes] = field(default_factory=list)
    """Bytes that are none of our records: whatever they hold."""


def told_by(row: Row) -> Told:
    """Return whom a row speaks of; Ticks, configurations and policies speak of nobody."""
    told = Told()
    if row.stream in _BY_DECISION:
        told.ids.add(row.key)
    _read(told, row.value)
    return told


def find_person(rows: Iterable[Row], text: str, kind: Erasure | None, key: bytes) -> Person | None:
    """Return whose records an id names: all their decisions, and the visit where it is one.

    Parameters
    ----------
    rows : iterable of Row
        A whole log.
    text : str
        The id.
    kind : str or None
        ``decision``, ``visit`` or ``subject``; None: a decision or a visit.
    key : bytes
        What ids of persons are hashed with.

    Returns
    -------
    Person or None
        None: no record speaks of them.
    """
    asked = Person(frozenset({text}))
    if kind == "subject":
        asked = Person(frozenset(), frozenset({id_hash(key, text)}))
    decisions: set[str] = set()
    found = False
    for row in rows:
        if not asked.speaks_of(row):
            continue
        told = told_by(row)
        if kind == "decision" and told.decision_id not in (text, ""):
            continue  # another decision of a visit with that id
        if kind == "visit" and told.visit_id not in (text, ""):
            continue
        found = True
        if told.decision_id:
            decisions.add(told.decision_id)
    return asked.with_ids(decisions) if found else None


def _read(told: Told, data: bytes) -> None:
    try:
        value = decode(data)
    except RecordError:
        told.unreadable.append(data)
        return
    if isinstance(value, SideRecord):
        if value.stream in _BY_DECISION:
            told.ids.add(value.key)
        told.unreadable.append(value.error.encode())
        _read(told, value.raw)
        return
    if isinstance(value, AlarmRaised):
        told.ids.add(value.alarm_id.rpartition(".")[0])
        return
    named: Any = value.choice if isinstance(value, DecisionMade | OutcomeClosed) else value
    told.decision_id = getattr(named, "decision_id", None) or told.decision_id
    told.visit_id = getattr(named, "visit_id", None) or told.visit_id
    told.ids |= {text for text in (told.decision_id, told.visit_id) if text}
    if subject := getattr(named, "subject_hash", None):
        told.subjects.add(subject)


class Forgotten(Protocol):
    """Somebody whose records are to go."""

    def speaks_of(self, row: Row) -> bool:
        """Whether a row speaks of them."""
        ...


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody by their ids.

    Parameters
    ----------
    ids : frozenset of str
        Decisions and visits.
    subjects : frozenset of str
        Keyed hashes of the person.
    """

    ids: frozenset[str]
    subjects: frozenset[str] = frozenset()

    def speaks_of(self, row: Row) -> bool:
        """Whether a row names one of the ids, or holds it in bytes that nobody can read."""
        if row.stream == "ticks" or not self._may_be_in(row):
            return False
        told = told_by(row)
        if not self.ids.isdisjoint(told.ids) or not self.subjects.isdisjoint(told.subjects):
            return True
        if row.stream == "alarms" and any(i[:_ALARM_LENGTH] in told.ids for i in self.ids):
            return True
        return any(map(self._is_in, told.unreadable))

    def _may_be_in(self, row: Row) -> bool:
        # Avro holds texts as they are: what has none of them need not be decoded, which costs
        # thirty times as much.
        return (
            row.key in self.ids or _any_of(self.ids | self.subjects).search(row.value) is not None
        )

    def _is_in(self, data: bytes) -> bool:
        pattern = _searched(self.ids)
        return pattern is not None and pattern.search(data) is not None

    def with_ids(self, ids: Iterable[str]) -> Person:
        """Return the person with more ids."""
        return Person(self.ids | set(ids), self.subjects)


@lru_cache(16)
def _any_of(texts: frozenset[str]) -> re.Pattern[bytes]:
    pieces = [re.escape(text[:_ALARM_LENGTH].encode()) for text in sorted(texts)]
    return re.compile(b"|".join(pieces) if pieces else rb"(?!)")


@lru_cache(16)
def _searched(ids: frozenset[str]) -> re.Pattern[bytes] | None:
    """Return what finds an id that is not only a piece of a longer one: 1 is no trace of 10."""
    long = [re.escape(text.encode()) for text in sorted(ids) if len(text) >= _SEARCHED_FROM]
    if not long:
        return None
    return re.compile(rb"(?<![A-Za-z0-9_-])(?:" + b"|".join(long) + rb")(?![A-Za-z0-9_-])")


class Erased:
    """Everybody who was forgotten, as the stream `erasures` knows them: by hashes.

    Parameters
    ----------
    key : bytes
        What they were hashed with.
    hashes : iterable of str
        The hashes.
    """

    def __init__(self, key: bytes, hashes: Iterable[str]) -> None:
        self.hashes = frozenset(hashes)
        self._hash = lru_cache(_CACHED_MAX)(lambda text: id_hash(key, text))

    def holds(self, text: str) -> bool:
        """Whether an id was forgotten."""
        return bool(self.hashes) and self._hash(text) in self.hashes

    def speaks_of(self, row: Row) -> bool:
        """Whether a row names somebody who was forgotten."""
        if not self.hashes or row.stream == "ticks":
            return False
        told = told_by(row)
        return not self.hashes.isdisjoint(told.subjects) or any(map(self.holds, told.ids))


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Several who were forgotten, or one who is known in several ways."""

    them: tuple[Forgotten, ...]
    """Each of them."""

    def speaks_of(self, row: Row) -> bool:
        """Whether a row speaks of one of them."""
        return any(each.speaks_of(row) for each in self.them)
