"""Rows of the tables as DynamoDB's items, and the tables' keys.

Two tables, one item for each decision and each outcome, and one table for how far the log was read:

=====================  =============================  ==========================================
asked for              key                            where
=====================  =============================  ==========================================
all of a visit         visit = ``VISIT#<visit id>``   ``PREFIX-decisions``, ``PREFIX-outcomes``
one decision           and decision_id                the same
a kiosk's day          kiosk_day =                    index ``by-kiosk-and-day`` of both
                       ``KIOSK#<kiosk>#<UTC day>``
a part of that day     and decided_at_ms BETWEEN      the same
=====================  =============================  ==========================================

A decision without a visit (an application asked over HTTP) stands under its own id. A key by
kiosk and day spreads writes over kiosks: a key by day alone would put a whole chain's writes on
one partition, which takes 1,000 a second. Attributes are the columns of `connectors.tables_schema`
without the empty ones; a time is a number of ms and its name says so (``decided_at_ms``).
"""

from __future__ import annotations

from typing import Any

from connectors.tables_rows import decision_row, outcome_row
from connectors.tables_schema import DECISIONS, OUTCOMES, Table, Value
from schemas.decisions import DecisionMade
from schemas.outcomes import OutcomeClosed

INDEX = "by-kiosk-and-day"
TTL = "expires_at_s"
"""When DynamoDB deletes an item by itself, within days: seconds since 1970 UTC."""
POSITIONS = "positions"
KINDS: dict[str, Table] = {"decisions": DECISIONS, "outcomes": OUTCOMES}
"""The tables of items, by the stream that fills them."""
_DAY_S = 86_400

Item = dict[str, dict[str, Any]]
"""An item in DynamoDB's own JSON: ``{"visit": {"S": "VISIT#v-1"}, …}``."""


def item_of(value: Any, keep_days: int) -> tuple[str, Item] | None:
    """Return the table and the item of a decision or an outcome; None: it is neither.

    Parameters
    ----------
    value : any of our records
        The record.
    keep_days : int
        Days after the decision when the item goes by itself; 0: never.
    """
    if isinstance(value, DecisionMade):
        kind, row = "decisions", decision_row(value)
    elif isinstance(value, OutcomeClosed):
        kind, row = "outcomes", outcome_row(value)
    else:
        return None
    choice = value.choice
    item: Item = {}
    for column, cell in zip(KINDS[kind].columns, row, strict=True):
        if cell is not None:
            item[f"{column.name}_ms" if column.kind == "time" else column.name] = _typed(cell)
    item["visit"] = {"S": visit_key(choice.visit_id or choice.decision_id)}
    item["decided_at_ms"] = {"N": str(choice.decided_at_ms)}
    if choice.kiosk_id:
        item["kiosk_day"] = {"S": kiosk_day_key(choice.kiosk_id, item["day"]["S"])}
    if choice.subject_hash:
        # Of no use to an analyst; by it the item is found when the person asks to be forgotten.
        item["subject_hash"] = {"S": choice.subject_hash}
    if keep_days:
        item[TTL] = {"N": str(choice.decided_at_ms // 1_000 + keep_days * _DAY_S)}
    return kind, item


def visit_key(visit_id: str) -> str:
    """Return the partition key of a visit."""
    return f"VISIT#{visit_id}"


def kiosk_day_key(kiosk_id: str, day: str) -> str:
    """Return the index's partition key of a kiosk on a UTC day, such as ``2026-11-21``."""
    return f"KIOSK#{kiosk_id}#{day}"


def definitions(prefix: str) -> list[dict[str, Any]]:
    """Return how the tables are made: requests of `CreateTable`, as the template makes them."""
    return [
        *(_items_table(f"{prefix}-{kind}") for kind in KINDS),
        {
            "TableName": f"{prefix}-{POSITIONS}",
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": _attributes(feed="S", place="S"),
            "KeySchema": _keys("feed", "place"),
        },
    ]


def _items_table(name: str) -> dict[str, Any]:
    return {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": _attributes(
            visit="S", decision_id="S", kiosk_day="S", decided_at_ms="N"
        ),
        "KeySchema": _keys("visit", "decision_id"),
        "GlobalSecondaryIndexes": [
            {
                "IndexName": INDEX,
                "KeySchema": _keys("kiosk_day", "decided_at_ms"),
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
    }


def _attributes(**types: str) -> list[dict[str, str]]:
    return [{"AttributeName": name, "AttributeType": kind} for name, kind in types.items()]


def _keys(partition: str, order: str) -> list[dict[str, str]]:
    return [
        {"AttributeName": partition, "KeyType": "HASH"},
        {"AttributeName": order, "KeyType": "RANGE"},
    ]


def _typed(cell: Value) -> dict[str, Any]:
    if isinstance(cell, bool):  # before the numbers: to Python it is one
        return {"BOOL": cell}
    if isinstance(cell, int | float):
        # The shortest text that reads back as the same float; DynamoDB keeps 38 digits.
        return {"N": repr(cell)}
    return {"S": str(cell)}


def plain(item: Item) -> dict[str, Value]:
    """Return an item's attributes as plain values; numbers with a point are floats."""
    found: dict[str, Value] = {}
    for name, typed in item.items():
        ((kind, value),) = typed.items()
        if kind == "N":
            found[name] = float(value) if set(value) & set(".eE") else int(value)
        else:
            found[name] = value
    return found
