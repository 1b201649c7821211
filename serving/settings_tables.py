"""The table [tables] of the settings, and what it may say."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from schemas.errors import SettingsError

KINDS = ("sqlite", "parquet", "postgres")
"""Where tables can be kept that hold every column."""
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")


class TablesSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [tables]."""

    to: Literal["sqlite", "parquet", "postgres"]
    """Where the tables are kept."""
    sqlite: str
    """The file; empty: tables.db in the folder `data`."""
    parquet: str
    """The folder; empty: tables in the folder `data`."""
    postgres: str
    """The database: ``host=db dbname=shop user=pho``; it may hold a password."""
    schema: str
    """The schema in that database."""

    def __repr__(self) -> str:
        # A settings object stands in tracebacks and logs; the password must not.
        return f"TablesSettings(to={self.to!r}, schema={self.schema!r}, ...)"


def check_tables(table: TablesSettings) -> None:
    """Refuse what no database would take.

    Raises
    ------
    SettingsError
        Names the setting.
    """
    if not _SCHEMA.fullmatch(table.schema) or table.schema.startswith("pg_"):
        problem = f"tables.schema is {table.schema!r}"
        cure = "Use up to 63 small letters, digits and '_', no digit first, and not pg_"
        raise SettingsError(problem, cure)
