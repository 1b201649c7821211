"""The alternative: the same join as most people write it. Python, SQLite, a row for each key.

Each event is decoded with fastavro, its decision's row is looked up, changed and written back; a
query finds the windows whose deadline is over; every 1,000 events are one transaction with their
outcomes and the place reached, so that a crash loses and repeats nothing. It knows what the input
of the benchmark needs of the join's rules, and no more: no orphans, no explicit rewards.
"""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fastavro

from connectors.logs import Row
from schemas.codec import current, released

_HEADER_SIZE = 10
_COMMIT_EVERY = 1_000

_TABLES = """
CREATE TABLE windows (
    decision_id TEXT PRIMARY KEY,
    decision BLOB NOT NULL,
    deadline_ms INTEGER NOT NULL,
    closed INTEGER NOT NULL,
    shown_at_ms INTEGER,
    ended_at_ms INTEGER,
    posts TEXT,
    reactions TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX windows_by_deadline ON windows (closed, deadline_ms);
CREATE TABLE outcomes (position INTEGER PRIMARY KEY, decision_id TEXT, data BLOB);
CREATE TABLE progress (position INTEGER);
"""


class RowPerKeyJoin:
    """A windowed join whose state is a table.

    Parameters
    ----------
    path : Path
        The SQLite file.
    synchronous : str
        ``FULL`` or ``NORMAL``.
    """

    def __init__(self, path: Path, synchronous: str = "FULL") -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute(f"PRAGMA synchronous = {synchronous}")
        self.db.executescript(_TABLES)
        self.late = 0
        self._outcome = current("OutcomeClosed")
        self._log_time_ms = 0

    def run(self, rows: Iterable[Row]) -> None:
        """Take records in the order of the log; commit every 1,000."""
        self.db.execute("BEGIN IMMEDIATE")
        position = 0
        for number, row in enumerate(rows, 1):
            position = row.position
            if row.log_time_ms > self._log_time_ms:
                self._close_overdue(row.log_time_ms)
                self._log_time_ms = row.log_time_ms
            if row.stream != "ticks":
                self._take(row, _read(row.value))
            if number % _COMMIT_EVERY == 0:
                self._commit(position)
                self.db.execute("BEGIN IMMEDIATE")
        self._commit(position)

    def outcomes(self) -> list[dict[str, Any]]:
        """Return every outcome, in the order written."""
        rows = self.db.execute("SELECT data FROM outcomes ORDER BY position")
        return [_read(data) for (data,) in rows]

    def _commit(self, position: int) -> None:
        self.db.execute("DELETE FROM progress")
        self.db.execute("INSERT INTO progress VALUES (?)", (position,))
        self.db.execute("COMMIT")

    def _take(self, row: Row, event: dict[str, Any]) -> None:
        if row.stream == "decisions":
            rules = event["rules"]
            deadline_ms = row.log_time_ms + rules["reward_window_ms"] + rules["grace_ms"]
            self.db.execute(
                "INSERT OR IGNORE INTO windows VALUES (?, ?, ?, 0, NULL, NULL, NULL, '[]')",
                (row.key, row.value, deadline_ms),
            )
            return
        window = self.db.execute(
            "SELECT decision, deadline_ms, closed, shown_at_ms, ended_at_ms, posts, reactions "
            "FROM windows WHERE decision_id = ?",
            (row.key,),
        ).fetchone()
        if window is None or window[2]:
            self.late += 1
            return
        decision_bytes, deadline_ms, _, shown_at_ms, ended_at_ms, posts, reactions = window
        if row.stream == "impressions":
            decision = _read(decision_bytes)
            shown_at_ms = event["shown_at_ms"]
            rules = decision["rules"]
            deadline_ms = row.log_time_ms + rules["reward_window_ms"] + rules["grace_ms"]
        elif row.stream == "analyses" and event["phase"] == "post":
            reactions = json.dumps([*json.loads(reactions), _reaction(event)])
        elif row.stream == "visits" and ended_at_ms is None:
            ended_at_ms, posts = event["ended_at_ms"], json.dumps(event["post_frame_ids"])
        self.db.execute(
            "UPDATE windows SET deadline_ms = ?, shown_at_ms = ?, ended_at_ms = ?, posts = ?, "
            "reactions = ? WHERE decision_id = ?",
            (deadline_ms, shown_at_ms, ended_at_ms, posts, reactions, row.key),
        )
        answered = {reaction[0] for reaction in json.loads(reactions)}
        if ended_at_ms is not None and answered.issuperset(json.loads(posts)):
            self._close(row.key, "visit_end", row.log_time_ms)

    def _close_overdue(self, before_ms: int) -> None:
        due = self.db.execute(
            "SELECT decision_id, deadline_ms FROM windows WHERE closed = 0 AND deadline_ms < ? "
            "ORDER BY deadline_ms, decision_id",
            (before_ms,),
        ).fetchall()
        for decision_id, deadline_ms in due:
            self._close(decision_id, "deadline", deadline_ms)

    def _close(self, decision_id: str, closed_by: str, at_ms: int) -> None:
        data, shown_at_ms, ended_at_ms, reactions = self.db.execute(
            "SELECT decision, shown_at_ms, ended_at_ms, reactions FROM windows "
            "WHERE decision_id = ?",
            (decision_id,),
        ).fetchone()
        outcome = _outcome(_read(data), shown_at_ms, ended_at_ms, json.loads(reactions))
        outcome |= {"closed_by": closed_by, "closed_at_ms": at_ms}
        encoded = io.BytesIO()
        encoded.write(self._outcome.header)
        fastavro.schemaless_writer(encoded, self._outcome.schema, outcome)
        self.db.execute(
            "INSERT INTO outcomes (decision_id, data) VALUES (?, ?)",
            (decision_id, encoded.getvalue()),
        )
        self.db.execute("UPDATE windows SET closed = 1 WHERE decision_id = ?", (decision_id,))


def _read(value: bytes) -> Any:
    writer = released()[value[:_HEADER_SIZE]]
    return fastavro.schemaless_reader(io.BytesIO(value[_HEADER_SIZE:]), writer.schema, None)


def _reaction(event: dict[str, Any]) -> tuple[str, int, float, float]:
    """Return frame, event time, happiness and confidence of the nearest face."""
    face = max(event["faces"], key=lambda f: f["box"]["width"] * f["box"]["height"])
    happy = {score["name"]: score["confidence"] for score in face["emotions"]}.get("happy", 0.0)
    return event["frame_id"], event["captured_at_ms"], happy, face["confidence"]


def _outcome(
    decision: dict[str, Any], shown_at_ms: int | None, ended_at_ms: int | None, reactions: list[Any]
) -> dict[str, Any]:
    choice, rules = decision["choice"], decision["rules"]
    usable = sorted(
        (at_ms, frame_id, happy, confidence)
        for frame_id, at_ms, happy, confidence in reactions
        if shown_at_ms is not None
        and at_ms >= shown_at_ms + rules["reaction_delay_ms"]
        and confidence >= rules["min_confidence"]
        and (ended_at_ms is None or at_ms <= ended_at_ms)
    )
    weight = sum(confidence for *_, confidence in usable)
    after = (
        sum(happy * confidence for _, _, happy, confidence in usable) / weight if usable else 0.0
    )
    if shown_at_ms is None:
        result = "not_activated"
    else:
        result = "rewarded" if usable else "defaulted"
    raw = after - choice["happiness_before"] if usable else rules["default_reward"]
    reward = min(max(raw, rules["reward_low"]), rules["reward_high"])
    precision = min(choice["confidence_before"], weight / len(usable)) if usable else 1.0
    return {
        "choice": choice,
        "result": result,
        "result_reason": "observed" if usable else "nothing_usable",
        "source": "reaction" if usable else "default",
        "reward_raw": raw,
        "reward": reward,
        "clipped": raw != reward,
        "precision": precision,
        "learnable": result != "not_activated",
        "learnable_reason": result,
        "shown_at_ms": shown_at_ms,
        "shown_action_id": choice["action_id"] if shown_at_ms is not None else None,
        "happiness_after": after if usable else None,
        "confidence_after": weight / len(usable) if usable else None,
        "member_ids": [frame_id for _, frame_id, _, _ in usable],
    }
