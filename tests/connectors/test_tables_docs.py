"""docs/tables.md says of every column what the code says, in the same words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from connectors.tables_schema import SCHEMA_VERSION, TABLES, TYPES, Table

ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \| (.+) \|$", re.MULTILINE)


def section(repository: Path, name: str) -> str:
    text = (repository / "docs" / "tables.md").read_text(encoding="utf-8")
    return text.split(f"\n### {name}\n")[1].split("\n##")[0]


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_the_page_and_the_code_agree(table: Table, repository: Path) -> None:
    told = section(repository, table.name)
    assert told.strip().startswith(table.meaning)
    assert ROW.findall(told) == [
        (column.name, *TYPES[column.kind], column.meaning) for column in table.columns
    ]


def test_every_column_says_something_and_no_name_comes_twice() -> None:
    for table in TABLES.values():
        assert len(set(table.names)) == len(table.names)
        assert set(table.key) <= set(table.names)
        assert "day" in table.names
        assert all(column.meaning.endswith((".", "…")) for column in table.columns)


def test_the_page_names_the_schemas_version(repository: Path) -> None:
    text = (repository / "docs" / "tables.md").read_text(encoding="utf-8")
    assert f"version of the schema, {SCHEMA_VERSION}." in text
