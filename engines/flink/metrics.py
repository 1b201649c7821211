"""The names of what PHO counts on Flink, in one place: functions, alarms and dashboard agree.

Flink's Prometheus reporter shows a counter of the group ``pho`` under `PROMETHEUS_PREFIX` and its
name, as a gauge (seen on Flink 2.2.1). A counter starts again at 0 when its job starts again.
"""

from __future__ import annotations

GROUP = "pho"
"""The metric group of every counter."""
PROMETHEUS_PREFIX = f"flink_taskmanager_job_task_operator_{GROUP}_"
"""What stands before a counter's name at the Prometheus reporter."""

OPERATORS = ("analyze", "decide", "greet", "join", "learn")
"""The operators that count."""
KINDS = {
    "events": "Records taken, Ticks aside",
    "dead_letters": "Records that could not be handled, kept in `dead-letters`",
    "late": "Records that came after their decision was closed, kept in `late`",
    "unmatched": "Records whose decision never came, kept in `unmatched`",
    "repeats": "Records that were there already and changed nothing",
}
"""What each operator counts, and what it means."""

COUNTERS = {
    f"{operator}_{kind}": f"{meaning}; operator {operator}"
    for operator in OPERATORS
    for kind, meaning in KINDS.items()
} | {
    "analyze_failed": "Frames answered `failed`: the analyser gave no answer; operator analyze",
    "analyze_expired": "Frames answered `expired`: older than a picture may live; operator analyze",
}
"""Every counter of the group by name, with what it means."""
