"""Takes records out of the embedded log so that no byte of them stays in its files.

Deleting is not enough: SQLite leaves what it deleted in free pages, in the gaps of pages it split,
and in the write-ahead log. So the rows go in one transaction, then the file is written anew.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from connectors.embedded_log import EmbeddedLog
from schemas.errors import LogFull, LogUnavailable

UNFINISHED = "erasure.unfinished"
"""The fact that says: rows are deleted, the file is not written anew yet."""
_PLACES = "engine.places"
_NAMED_AFTER_VISITS = ("demo.greeted_ms.",)


@dataclass(frozen=True, slots=True)
class Erasure:
    """What is to be taken out, and what stands there instead."""

    through: int
    """Position through which the log was looked at."""
    gone: frozenset[int]
    """Positions of the rows that go."""
    replaced: Mapping[int, bytes]
    """Bytes that a row has from now on, by position."""
    appended: Sequence[tuple[str, str, bytes]]
    """Stream, key and bytes of what is appended."""
    ids: frozenset[str]
    """Ids that no remembered value may be named after any more."""


def erase(
    log: EmbeddedLog, erasure: Erasure, forget_state: Callable[[sqlite3.Connection], None]
) -> bool:
    """Take rows out of the log, durably.

    1. What is appended comes first: were the newest rows deleted before, their positions would be
       given again, and the engine would take the new rows for ones it has read.
    2. Rows go, others get new bytes.
    3. What the engine remembers: its state, calls in flight, values named after an id.
    4. The file is written anew (`finish`); until then a fact says that this is still to be done.

    Parameters
    ----------
    log : EmbeddedLog
        The log; no engine runs on it.
    erasure : Erasure
        What to do.
    forget_state : callable
        Rewrites the engine's changelog, inside the transaction.

    Returns
    -------
    bool
        False: somebody appended since it was looked at; nothing was done, look again.

    Raises
    ------
    LogFull, LogUnavailable
        Either nothing was done, or `finish` is still to be done.
    """
    log.db.execute("PRAGMA secure_delete = ON")
    with log.transaction():
        if log.end().position != erasure.through:
            return False
        log.write(erasure.appended)
        gone = [(position,) for position in sorted(erasure.gone)]
        log.db.executemany("DELETE FROM log WHERE position = ?", gone)
        news = [(data, position) for position, data in erasure.replaced.items()]
        log.db.executemany("UPDATE log SET value = ? WHERE position = ?", news)
        forget_state(log.db)
        _forget_facts(log, erasure)
        log.set_fact(UNFINISHED, 1)
    log.steps("erase.rows")
    finish(log)
    return True


def _forget_facts(log: EmbeddedLog, erasure: Erasure) -> None:
    named = [(prefix + text,) for prefix in _NAMED_AFTER_VISITS for text in sorted(erasure.ids)]
    log.db.executemany("DELETE FROM facts WHERE name = ?", named)
    places = json.loads(log.fact(_PLACES, "{}"))
    in_flight = places.get("in_flight", {})
    places["in_flight"] = {
        name: [position for position in positions if position not in erasure.gone]
        for name, positions in in_flight.items()
    }
    if in_flight != places["in_flight"]:
        log.set_fact(_PLACES, json.dumps(places))


def is_unfinished(log: EmbeddedLog) -> bool:
    """Whether an erasure was interrupted before the file was written anew."""
    return bool(log.fact(UNFINISHED))


def finish(log: EmbeddedLog) -> None:
    """Write the file anew, without the free pages and gaps that still hold what was deleted.

    Raises
    ------
    LogFull
        A file of the same size must fit beside it meanwhile.
    LogUnavailable
        Somebody reads all the time.
    """
    try:
        log.db.execute("VACUUM")
        log.steps("erase.vacuum")
        log.db.execute("DELETE FROM facts WHERE name = ?", (UNFINISHED,))
        busy = log.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        text = str(error)
        again = "then `pho forget` the id once more: the records are gone, their bytes not yet"
        if "full" in text or "disk I/O" in text:
            problem = f"no room to write {log.path} anew ({text})"
            raise LogFull(problem, f"Free as much as it takes now, {again}") from error
        problem = f"{log.path} cannot be written anew: {text}"
        raise LogUnavailable(problem, f"Stop what uses it, {again}") from error
    if busy:
        log.set_fact(UNFINISHED, 1)
        problem = f"another process reads {log.path} all the time"
        cure = "Stop it, then `pho forget` the id once more: its bytes are still in the -wal file"
        raise LogUnavailable(problem, cure)


def read_through(log: EmbeddedLog) -> int:
    """Return the position through which the engine has read the log."""
    return int(json.loads(log.fact(_PLACES, "{}")).get("read", 0))
