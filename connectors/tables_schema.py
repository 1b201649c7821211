"""The tables for analysts: every column with its type, its unit and its meaning, in one place.

A row is a tuple in the order of a table's columns, the same for every database: texts, integers,
floats, booleans, None; a time is an integer, ms since 1970 UTC, and a day a text such as
``2026-11-21`` (UTC). Each database writes them as its own types (`TYPES`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SCHEMA_VERSION = 1
"""Raised when a column changes its name, its type or its meaning; columns may be added at the end
of a table with it."""

Kind = Literal["text", "integer", "number", "flag", "time", "day"]
Value = str | int | float | bool | None
Row = tuple[Value, ...]

TYPES: dict[Kind, tuple[str, str, str]] = {
    "text": ("TEXT", "string", "text"),
    "integer": ("INTEGER", "int64", "bigint"),
    "number": ("REAL", "double", "double precision"),
    "flag": ("BOOLEAN", "bool", "boolean"),
    "time": ("TIMESTAMP", "timestamp[ms, tz=UTC]", "timestamptz"),
    "day": ("DATE", "date32", "date"),
}
"""The type of each kind in SQLite, Parquet and Postgres. SQLite keeps a time as text,
``2026-11-21 17:03:11.250``, which sorts and which its date functions read."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    """Its name, the same everywhere."""
    kind: Kind
    """Its type, by `TYPES`."""
    meaning: str
    """What it says, and in which unit."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table."""

    name: str
    """Its name."""
    key: tuple[str, ...]
    """The columns that name a row."""
    columns: tuple[Column, ...]
    """Its columns, in the order of its rows."""
    meaning: str
    """What a row is."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.name for column in self.columns)

    def place(self, name: str) -> int:
        """Return the place of a column in a row.

        Raises
        ------
        ValueError
            When there is none of that name.
        """
        return self.names.index(name)

    def key_of(self, row: Row) -> Row:
        """Return what names a row."""
        return tuple(row[self.place(name)] for name in self.key)


def _columns(*told: tuple[str, Kind, str]) -> tuple[Column, ...]:
    return tuple(Column(*each) for each in told)


_SHARED = _columns(
    ("loop_id", "text", "The loop that decided."),
    ("kiosk_id", "text", "The kiosk; empty where an application asked over HTTP."),
)
_WHO = _columns(
    ("action_id", "text", "The greeting that was chosen."),
    ("control", "flag", "True: the control share, which gets the baseline whatever was learned."),
    ("propensity", "number", "Probability with which it was chosen, above 0 to 1."),
    ("mode", "text", "Who was in charge: online, apprentice, logging, fallback."),
    ("policy_id", "text", "The policy that chose."),
    ("epoch", "integer", "Its epoch."),
    ("version", "integer", "Its version in that epoch."),
    ("variant", "text", "The arm of an A/B split that was drawn; empty: no split."),
)

VISITS = Table(
    "visits",
    ("visit_id",),
    (
        *_columns(
            ("visit_id", "text", "The visit."),
            ("decision_id", "text", "Its decision: the same id, in the greeting loop."),
        ),
        *_SHARED,
        *_columns(
            ("day", "day", "UTC day of `started_at`; of `ended_at` where no picture was answered."),
            ("started_at", "time", "When its first picture was taken."),
            ("last_seen_at", "time", "When its last picture was taken."),
            ("ended_at", "time", "When the visitor left; empty: not known yet."),
            ("end_reason", "text", "left, timeout, camera_lost or stopped."),
            ("duration_ms", "integer", "From `started_at` to `ended_at`, ms."),
            ("pictures", "integer", "Pictures taken of it."),
            (
                "answer",
                "text",
                "What became of its first picture: ok, no_face, failed, expired, "
                "or refused (no notice was shown).",
            ),
            ("analyser", "text", "Who answered it: local, rekognition, the kiosk's own, none."),
            ("notice", "text", "Where the notice stood: page, posted, none."),
            ("language", "text", "Language the visitor or the kiosk wished for, a BCP 47 tag."),
            ("utc_offset_minutes", "integer", "Local time minus UTC at the kiosk, minutes."),
            ("local_day", "day", "Day of `started_at` by the kiosk's own time."),
            ("local_hour", "integer", "Hour of `started_at` by the kiosk's own time, 0 to 23."),
        ),
    ),
    "A visitor before a kiosk, from the first picture to the end. It is written when the first "
    "picture is answered, and again as the visit goes on.",
)

DECISIONS = Table(
    "decisions",
    ("decision_id",),
    (
        *_columns(
            ("decision_id", "text", "The decision."),
            ("visit_id", "text", "The visit; empty where an application asked over HTTP."),
        ),
        *_SHARED,
        *_columns(
            ("day", "day", "UTC day of `decided_at`."),
            ("decided_at", "time", "When it was decided."),
        ),
        *_WHO,
        *_columns(
            ("baseline_id", "text", "The greeting that the control share gets."),
            ("support", "text", "full: every greeting had a chance; degenerate: only one."),
            ("eligible", "integer", "Greetings it could choose from."),
            ("control_share", "number", "The control share in force, 0 to 1."),
            ("floor_share", "number", "The exploration floor in force, 0 to 1."),
            ("host", "text", "Where it was computed: stream, gateway, client."),
            ("config_hash", "text", "The configuration in force."),
            ("happiness_before", "number", "Happiness before the greeting, 0 to 1."),
            ("confidence_before", "number", "The detector's confidence in that face, 0 to 1."),
            ("greeting_text", "text", "The words."),
            ("greeting_language", "text", "Their language, a BCP 47 tag."),
            ("mood", "text", "Mood of the avatar."),
        ),
    ),
    "A greeting that was chosen. It never changes.",
)

OUTCOMES = Table(
    "outcomes",
    ("decision_id",),
    (
        *_columns(
            ("decision_id", "text", "The decision."),
            ("visit_id", "text", "The visit; empty where an application asked over HTTP."),
        ),
        *_SHARED,
        *_columns(
            ("day", "day", "UTC day of `decided_at`, as in `decisions`."),
            ("decided_at", "time", "When it was decided."),
            ("shown_at", "time", "When the greeting was shown; empty: never, as far as is known."),
            ("shown_after_ms", "integer", "From `decided_at` to `shown_at`, ms."),
            ("closed_at", "time", "When it was closed, log time."),
        ),
        *_WHO,
        *_columns(
            ("shown_action_id", "text", "The greeting that was shown."),
            ("result", "text", "rewarded, defaulted, dropped or not_activated."),
            ("result_reason", "text", "Why: observed, nothing_usable, fallback, shown_other, …"),
            ("source", "text", "Where the reward comes from: reaction, explicit, default."),
            ("reward", "number", "The reward, in the loop's range: -1 to 1 for greetings."),
            ("reward_raw", "number", "The reward before it was brought into that range."),
            ("clipped", "flag", "True: `reward` is not `reward_raw`."),
            ("certainty", "number", "How sure the observation is, 0 to 1."),
            ("happiness_before", "number", "Happiness before the greeting, 0 to 1."),
            ("confidence_before", "number", "The detector's confidence in that face, 0 to 1."),
            ("happiness_after", "number", "Happiness after the greeting, 0 to 1."),
            ("confidence_after", "number", "Mean confidence of the faces after it, 0 to 1."),
            ("reactions", "integer", "Records that made the reward."),
            ("closed_by", "text", "visit_end, reactions, final_reward or deadline."),
            ("learnable", "flag", "True: policies may learn from it."),
            ("learnable_reason", "text", "Why, or why not."),
        ),
    ),
    "What a decision earned. Every decision gets exactly one; until then it is open. It never "
    "changes.",
)

GREETINGS_DAILY = Table(
    "greetings_daily",
    ("day", "loop_id", "action_id", "control"),
    _columns(
        ("day", "day", "UTC day of the decisions."),
        ("loop_id", "text", "The loop."),
        ("action_id", "text", "The greeting."),
        ("control", "flag", "True: of the control share."),
        ("decisions", "integer", "Times it was chosen."),
        ("shown", "integer", "Times it was shown, of those that are closed."),
        ("rewarded", "integer", "Closed with an observed reward."),
        ("defaulted", "integer", "Closed with the default reward."),
        ("dropped", "integer", "Closed without one: fallbacks, another greeting shown."),
        ("not_activated", "integer", "Closed without one: never shown."),
        ("still_open", "integer", "Not closed yet."),
        ("reward_sum", "number", "Sum of the rewards of rewarded and defaulted ones."),
        ("reward_square_sum", "number", "Sum of their squares, for intervals."),
        ("reward_mean", "number", "`reward_sum` for each of them; empty: there are none."),
        ("happiness_count", "integer", "Those whose happiness is known before and after."),
        ("happiness_before_sum", "number", "Sum of their happiness before."),
        ("happiness_after_sum", "number", "Sum of their happiness after."),
    ),
    "A greeting on a day, the control share apart. Counted from `decisions` and `outcomes`, and "
    "counted again when one of them comes or goes.",
)

POLICY_HISTORY = Table(
    "policy_history",
    ("loop_id", "policy_id", "epoch", "day"),
    _columns(
        ("loop_id", "text", "The loop."),
        ("policy_id", "text", "The policy."),
        ("epoch", "integer", "Counts the times it was started anew."),
        ("day", "day", "UTC day, log time."),
        ("algorithm", "text", "How it chooses."),
        ("role", "text", "serving, shadow or retired, at the end of the day."),
        ("first_version", "integer", "Its version before the first change of the day."),
        ("last_version", "integer", "Its version at the end of the day."),
        ("learned", "integer", "Outcomes it learned on that day."),
        ("reward_sum", "number", "Sum of their rewards."),
        ("reward_mean", "number", "`reward_sum` for each of them; empty: there are none."),
        ("directives", "integer", "Directives it obeyed on that day: promote, rollback, erase …"),
        ("last_directive", "text", "Kind of the last of them."),
        ("floor_share", "number", "Its exploration floor at the end of the day, 0 to 1."),
        ("base_epoch", "integer", "Epoch this one started from; empty: from the prior."),
        ("base_version", "integer", "Version of that base."),
        ("config_hash", "text", "The newest configuration it learned under."),
        ("checksum", "text", "Hash over what it knows at the end of the day."),
    ),
    "A policy on a day on which something changed it.",
)

TABLES: dict[str, Table] = {
    table.name: table for table in (VISITS, DECISIONS, OUTCOMES, GREETINGS_DAILY, POLICY_HISTORY)
}
"""All tables, by name."""
