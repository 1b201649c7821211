"""Forgetting a person: their records go, and what was learned is learned again without them."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from connectors.embedded_erasure import Erasure, erase, finish, is_unfinished, read_through
from connectors.embedded_log import EmbeddedLog
from connectors.logs import Log, Row
from connectors.persons import Erased, Person, find_person, told_by
from connectors.pictures import PictureStore
from engines.changes import rewrite
from engines.embedded import take_lock
from engines.one_key import part_named
from engines.relearning import Relearned, erase_directives, obeyed, relearned
from engines.state_store import packed_state
from schemas.codec import decode, encode
from schemas.erasure import id_hash
from schemas.errors import LogUnavailable, RecordError
from schemas.operations import Erasure as Kind
from schemas.operations import ErasureRequested, SideRecord
from schemas.outcomes import OutcomeClosed, PolicyDirected, PolicySnapshot
from schemas.streams import SIDE_STREAMS, key_of

BY = "pho forget"
_TRIES = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """Who is to be forgotten."""

    text: str
    """The id."""
    kind: Kind | None
    """What it names; None: a decision or a visit. ``unknown``: whoever came back."""
    key: bytes
    """What ids are hashed with."""
    elsewhere: Person | None = None
    """What an archive knows of them that the log may not know any more."""

    @property
    def hash(self) -> str:
        """The hash that stands for the id; empty where everybody is meant who came back."""
        return id_hash(self.key, self.text) if self.text else ""


@dataclass(frozen=True, slots=True)
class NewEpoch:
    """A policy that was learned again."""

    loop_id: str
    """Its loop."""
    policy_id: str
    """The policy."""
    epoch: int
    """The epoch it is in from now on."""
    checksum: str
    """Checksum of its bytes."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was done."""

    id_hash: str
    """The hash that stands in `erasures`."""
    known: bool
    """Whether any record spoke of them."""
    already: bool
    """Whether they had been forgotten before."""
    decisions: int = 0
    """Decisions that are gone."""
    records: dict[str, int] = field(default_factory=dict)
    """Records that are gone, by stream; on Kafka: that are left out from now on."""
    pictures: int = 0
    """Pictures in flight that are gone."""
    policies: tuple[NewEpoch, ...] = ()
    """The policies that had learned from them."""
    open: int = 0
    """On Kafka: decisions whose window the job has not closed yet; it will, and learn from them."""


def erased_of(log: Log, key: bytes) -> Erased:
    """Return everybody whom the log says was forgotten."""
    return Erased(key, hashes_in(log))


def hashes_in(log: Log) -> set[str]:
    """Return the hashes of everybody whom the log says was forgotten."""
    found = set()
    for row in log.scan("erasures"):
        try:
            value = decode(row.value)
        except RecordError:
            continue
        if isinstance(value, ErasureRequested):
            found.add(value.id_hash)
    return found


def forget_embedded(
    log: EmbeddedLog, asked: Asked, pictures: PictureStore | None
) -> tuple[Forgotten, Person | None]:
    """Take a person out of a folder's log, at once and for good.

    Returns
    -------
    Forgotten
        What was done.
    Person or None
        Whose records they were; None: nobody's.

    Raises
    ------
    EngineBusy
        When the job runs there: it holds in memory what must go.
    LogFull, LogUnavailable
        What is left to be done, and how.
    """
    lock = take_lock(log)
    deleted = 0
    try:
        for _ in range(_TRIES):
            plan = _Plan(log, asked)
            done = plan.forgotten()
            if not plan.is_needed:
                if is_unfinished(log):
                    finish(log)
                return done, plan.person
            # First: what a crash leaves behind then is a frame without its picture, not a face.
            deleted += delete_pictures(pictures, plan.pictures)
            if erase(log, plan.erasure(), plan.forget_state):
                return replace(done, pictures=deleted), plan.person
    finally:
        lock.close()
    problem = f"somebody appends to {log.path} all the time"
    raise LogUnavailable(problem, "Stop the cameras that write to it, then forget once more")


def delete_pictures(pictures: PictureStore | None, ids: set[str]) -> int:
    """Delete pictures in flight, where there is a store of them; return how many were there."""
    if pictures is None:
        return 0
    mine = ids.intersection(pictures.ids())
    for picture_id in mine:
        pictures.delete(picture_id)
    pictures.flush()
    return len(mine)


class _Plan:
    """What forgetting somebody means for a folder's log as it is now."""

    def __init__(self, log: EmbeddedLog, asked: Asked) -> None:
        self.asked = asked
        self.through = log.end().position
        self.hashes = hashes_in(log)
        self.person = person_in(log, asked, Erased(asked.key, self.hashes))
        self.gone: set[int] = set()
        self.replaced: dict[int, bytes] = {}
        self.pictures: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.loops: list[Relearned] = []
        self.directives: list[PolicyDirected] = []
        self.snapshots: list[PolicySnapshot] = []
        self._now_ms = log.clock()
        self.requests: list[ErasureRequested] = []
        if self.person is not None:
            self.requests = requests(asked, self.person, self._now_ms, self.hashes)
            self._find_rows(log, self.person)
            self._learn_again(log)

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to be done."""
        return bool(self.gone or self.requests)

    def _find_rows(self, log: EmbeddedLog, person: Person) -> None:
        affected: dict[str, None] = {}
        for row in log.scan():
            if not person.speaks_of(row) or row.stream in ("policies", "erasures"):
                continue
            self.gone.add(row.position)
            self.counts[row.stream] += 1
            value = _value(row)
            if isinstance(value, OutcomeClosed):
                affected[value.choice.loop_id] = None
            if picture_id := getattr(value, "picture_id", None):
                self.pictures.add(picture_id)
        self.loops = [self._relearned(log, loop_id) for loop_id in affected]

    def _relearned(self, log: EmbeddedLog, loop_id: str) -> Relearned:
        return relearned(
            loop_id,
            lambda: log.scan("outcomes", key=loop_id),
            lambda row: row.position in self.gone,
            read_through(log),
        )

    def _learn_again(self, log: EmbeddedLog) -> None:
        for found in self.loops:
            name = f"erase.{self._now_ms}.{self.through}"
            directives = erase_directives(found, name, BY)
            self.directives += directives
            self.replaced |= found.replaced
            self.snapshots += self._snapshots(log, found, obeyed(found, directives))
            self._drop_learned(log, found.loop_id)

    def _snapshots(
        self, log: EmbeddedLog, found: Relearned, new: list[PolicySnapshot]
    ) -> list[PolicySnapshot]:
        """Put the new snapshots into the places of the old; return those that have no place.

        In their places, since the job reads the shared streams up to where it was before it
        decides: appended, they would come after the frames that wait.
        """
        news = {key_of(snapshot): snapshot for snapshot in new}
        stay = (
            {f"{found.loop_id}/{each.policy_id}" for each in found.after.learners}
            if (found.after)
            else set()
        )
        newest: dict[str, tuple[tuple[int, int], int]] = {}
        for row in log.scan("policies"):
            value = _value(row)
            if not isinstance(value, PolicySnapshot) or value.loop_id != found.loop_id:
                continue
            self.gone.add(row.position)
            newest[row.key] = max(
                newest.get(row.key, ((-1, -1), 0)), ((value.epoch, value.version), row.position)
            )
        for key, (_, position) in newest.items():
            if key in stay:
                self.gone.discard(position)
            if key in news:
                self.replaced[position] = encode(news.pop(key))
        return list(news.values())

    def _drop_learned(self, log: EmbeddedLog, loop_id: str) -> None:
        """Let go what was put aside and holds what was learned from them."""
        for row in log.scan(*SIDE_STREAMS):
            side = _value(row)
            if not isinstance(side, SideRecord):
                continue
            held = _decoded(side.raw)
            if isinstance(held, PolicyDirected | PolicySnapshot) and held.loop_id == loop_id:
                self.gone.add(row.position)

    def erasure(self) -> Erasure:
        """Return what to write."""
        assert self.person is not None  # noqa: S101 - else there is nothing to erase
        records: list[tuple[str, Any]] = [("erasures", each) for each in self.requests]
        records += [("outcomes", directive) for directive in self.directives]
        records += [("policies", snapshot) for snapshot in self.snapshots]
        appended = [(stream, key_of(v, stream), encode(v)) for stream, v in records]
        gone = frozenset(self.gone)
        replaced = {place: data for place, data in self.replaced.items() if place not in gone}
        return Erasure(self.through, gone, replaced, appended, self.person.ids)

    def forget_state(self, db: sqlite3.Connection) -> None:
        """Rewrite what the engine remembers: nothing of them, and learners that never met them."""
        assert self.person is not None  # noqa: S101 - else there is nothing to erase
        learn = part_named("learn")
        instead = {
            (learn.name, found.loop_id): packed_state(learn, found.at_read)
            for found in self.loops
            if found.at_read is not None
        }
        ids = self.person.ids
        # learn's keys are loops.
        rewrite(db, lambda name, key: name != learn.name and key in ids, instead)

    def forgotten(self) -> Forgotten:
        """Return what is done when this is carried out."""
        return Forgotten(
            id_hash=self.asked.hash,
            known=self.is_needed,
            already=self.asked.hash in self.hashes,
            decisions=self.counts["decisions"],
            records=dict(sorted(self.counts.items())),
            policies=tuple(map(new_epoch, self.directives)),
        )


def new_epoch(directive: PolicyDirected) -> NewEpoch:
    """Return the epoch that a directive starts."""
    return NewEpoch(
        directive.loop_id,
        directive.policy_id,
        directive.new_epoch or 0,
        directive.snapshot_checksum or "",
    )


def person_in(log: Log, asked: Asked, erased: Erased) -> Person | None:
    """Return whose records are to go; None: no record speaks of them."""
    if asked.kind != "unknown":
        found = find_person(log.scan(), asked.text, asked.kind, asked.key)
        if found is None or asked.elsewhere is None:
            return found or asked.elsewhere
        return Person(found.ids | asked.elsewhere.ids, found.subjects | asked.elsewhere.subjects)
    ids, subjects = set(), set()
    for row in log.scan():
        if erased.speaks_of(row):
            told = told_by(row)
            ids |= {text for text in told.ids if erased.holds(text)}
            subjects |= told.subjects & erased.hashes
    return Person(frozenset(ids), frozenset(subjects)) if ids or subjects else None


def requests(
    asked: Asked, person: Person, now_ms: int, known: Iterable[str]
) -> list[ErasureRequested]:
    """Return what is to be written into `erasures`: the id that was asked for, and its decisions.

    The decisions too, since of a reward or an impression nobody can tell whose visit it was.
    """
    hashes: dict[str, Kind] = {}
    if asked.text:
        kind = asked.kind or ("visit" if len(person.ids) > 1 else "decision")
        hashes[asked.hash] = kind
    for text in sorted(person.ids):
        hashes.setdefault(id_hash(asked.key, text), "decision")
    before = frozenset(known)
    return [
        ErasureRequested(each, kind, now_ms) for each, kind in hashes.items() if each not in before
    ]


def _value(row: Row) -> Any:
    return _decoded(row.value)


def _decoded(data: bytes) -> Any:
    try:
        return decode(data)
    except RecordError:
        return None
