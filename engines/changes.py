"""The changelog of the embedded engine: one appended row per batch, read again after a crash."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping

import msgspec

from engines.state_store import StateStore

_SLACK_BYTES = 8_000_000
_ROWS_AT_ONCE = 16
_KEYS_AT_ONCE = 10_000

Changes = dict[str, list[tuple[str, bytes | None]]]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, list[tuple[str, bytes | None]]]).decode


class Changelog:
    """Appended rows of changed states; the oldest are rewritten when most of them is stale.

    Rows go in the order they came, so a key's removal is never dropped before what it removes.

    Parameters
    ----------
    db : sqlite3.Connection
        The file; `append` is called inside a transaction.
    stores : mapping of str to StateStore
        The states, by the operator's name.
    """

    def __init__(self, db: sqlite3.Connection, stores: Mapping[str, StateStore]) -> None:
        self._db = db
        self._stores = stores
        self._bytes = 0
        self._strangers = False

    def restore(self) -> None:
        """Read every row, oldest first; later changes replace earlier ones."""
        for (data,) in self._db.execute("SELECT data FROM changes ORDER BY segment"):
            self._bytes += len(data)
            for name, changes in _decode(data).items():
                store = self._stores.get(name)
                if store is None:
                    self._strangers = True
                    continue
                for key, packed in changes:
                    store.restore(key, packed)
        for store in self._stores.values():
            store.set_timers()

    def append(self, changes: Changes) -> None:
        """Append what changed; and rewrite old rows while more than half of all bytes is stale."""
        changes = {name: list(rows) for name, rows in changes.items()}
        # What an operator remembers that does not run now, only its rows know: they stay.
        if not self._strangers and self._bytes > 2 * self._live_bytes() + _SLACK_BYTES:
            self._take_oldest(changes)
        data = _encode(changes)
        self._db.execute("INSERT INTO changes (data) VALUES (?)", (data,))
        self._bytes += len(data)

    def _take_oldest(self, changes: Changes) -> None:
        rows = self._db.execute(
            "SELECT segment, data FROM changes ORDER BY segment LIMIT ?", (_ROWS_AT_ONCE,)
        ).fetchall()
        for _, data in rows:
            self._bytes -= len(data)
            for name, old in _decode(data).items():
                fresh = {key for key, _ in changes.get(name, ())}
                for key in {key for key, _ in old} - fresh:
                    packed = self._stores[name].packed(key)
                    if packed is not None:
                        changes.setdefault(name, []).append((key, packed))
        if rows:
            self._db.execute("DELETE FROM changes WHERE segment <= ?", (rows[-1][0],))

    def _live_bytes(self) -> int:
        return sum(store.live_bytes for store in self._stores.values())


def rewrite(
    db: sqlite3.Connection,
    gone: Callable[[str, str], bool],
    instead: Mapping[tuple[str, str], bytes],
) -> None:
    """Rewrite the whole changelog: the newest state of each key, without some keys.

    What an operator remembers that does not run now is kept as it is.

    Parameters
    ----------
    db : sqlite3.Connection
        The file, inside a transaction; no engine runs on it.
    gone : callable
        Whether an operator, by name, is to forget a key.
    instead : mapping of (operator, key) to bytes
        Packed states that replace the newest, where the operator remembers the key.
    """
    newest: dict[tuple[str, str], bytes] = {}
    for (data,) in db.execute("SELECT data FROM changes ORDER BY segment").fetchall():
        for name, changes in _decode(data).items():
            for key, packed in changes:
                newest.pop((name, key), None)
                if packed is not None and not gone(name, key):
                    newest[name, key] = packed
    newest.update({place: packed for place, packed in instead.items() if place in newest})
    db.execute("DELETE FROM changes")
    places = list(newest)
    for start in range(0, len(places), _KEYS_AT_ONCE):
        states: Changes = {}
        for name, key in places[start : start + _KEYS_AT_ONCE]:
            packed = newest[name, key]
            states.setdefault(name, []).append((key, packed))
        db.execute("INSERT INTO changes (data) VALUES (?)", (_encode(states),))
