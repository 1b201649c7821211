"""Sizes, dead modules, words that must not stand anywhere, and schemas that never change."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import socket
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest

from schemas.codec import current, released
from schemas.derive import avro_schema, without_docs
from schemas.streams import RECORDS

PACKAGES = (
    "schemas",
    "policies",
    "pipelines",
    "connectors",
    "engines",
    "producers",
    "serving",
)
CODE = (*PACKAGES, "tests", "benchmarks", "deploy", "docs", "examples")
ENTRY_POINTS = ("serving.cli",)
LINES_OF_A_MODULE, LINES_OF_A_FUNCTION = 500, 70

GOLDEN = Path("tests/golden/schema_fingerprints.json")

MADE_FOLDERS = ("build", "dist", "__pycache__", "node_modules", ".git", ".hypothesis")
FORBIDDEN = {
    # In two halves, so that these lines are no find of their own.
    "a registry host": re.compile(
        r"\b(?:py"
        r"pi|python"
        r"hosted|npm"
        r"js|crates|anaconda|rubygems)\.(?:org|io|com)\b"
        r"|\brepo\d?\.maven\.|\bproxy\.golang\."
    ),
    "a path of one machine": re.compile(r"(?<![\w.~$}/-])/(?:work|root|Users|home|tmp/\w+)/"),
    # A class of one letter, so that this line is no find of its own.
    "a note to oneself": re.compile(r"\b(?:TOD[O]|FIXM[E]|XX[X])\b"),
}


def python_files(root: Path, *folders: str) -> Iterator[tuple[Path, str]]:
    """Yield every Python file of the folders, named from the root, with its text."""
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            if not set(path.parts) & set(MADE_FOLDERS):
                yield path.relative_to(root), path.read_text(encoding="utf-8")


def long_modules(root: Path) -> list[str]:
    """Name the modules over 500 lines."""
    return [
        f"{path} has {length} lines"
        for path, text in python_files(root, *CODE)
        if (length := len(text.splitlines())) > LINES_OF_A_MODULE
    ]


def long_functions(root: Path) -> list[str]:
    """Name the functions over 70 lines, docstring and all."""
    return [
        f"{path}:{node.lineno} {node.name} has {length} lines"
        for path, text in python_files(root, *CODE)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > LINES_OF_A_FUNCTION
    ]


def dead_modules(root: Path) -> list[str]:
    """Name the modules that nobody imports and that are no entry point."""
    imported = set(ENTRY_POINTS)
    for path, text in python_files(root, *CODE):
        own_name = ".".join(path.with_suffix("").parts)
        for node in ast.walk(ast.parse(text)):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            # With the dot: serving/settings.py may be all that imports serving/settings_aws.py.
            imported.update(name for name in names if not f"{name}.".startswith(f"{own_name}."))
    return [
        f"{path} is imported by nobody"
        for path, _ in python_files(root, *PACKAGES)
        if path.name not in ("__init__.py", "__main__.py")
        and ".".join(path.with_suffix("").parts) not in imported
    ]


def forbidden_words(root: Path) -> list[str]:
    """Name the lines of any text file of the project that hold what no file may."""
    found = []
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        is_made = any(
            part in MADE_FOLDERS
            or part.startswith(".venv")
            or part.endswith(("_cache", ".egg-info"))
            for part in relative.parts
        )
        if is_made or not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            found += [
                f"{relative}:{number} holds {what}"
                for what, pattern in FORBIDDEN.items()
                if pattern.search(line)
            ]
    return found


def undocumented_fields(root: Path) -> list[str]:
    """Name the fields of dataclasses in schemas that have no line under them."""
    found = []
    for path, text in python_files(root, "schemas"):
        for node in ast.walk(ast.parse(text)):
            is_dataclass = isinstance(node, ast.ClassDef) and any(
                "dataclass" in ast.unparse(decorator) for decorator in node.decorator_list
            )
            if not isinstance(node, ast.ClassDef) or not is_dataclass:
                continue
            for statement, below in zip(node.body, [*node.body[1:], None], strict=True):
                is_line = (
                    isinstance(below, ast.Expr)
                    and isinstance(below.value, ast.Constant)
                    and isinstance(below.value.value, str)
                )
                if isinstance(statement, ast.AnnAssign) and not is_line:
                    name = ast.unparse(statement.target)
                    found.append(f"{path}:{statement.lineno} {node.name}.{name} has no line")
    return found


def fingerprints() -> dict[str, dict[str, str]]:
    """Return what stands for each released schema: its name on the wire, and its very text."""
    return {
        f"{entry.name}.v{entry.version}": {
            "crc64": entry.header[2:].hex(),
            "sha256": hashlib.sha256(entry.text.encode()).hexdigest(),
        }
        for entry in sorted(released().values(), key=lambda entry: (entry.name, entry.version))
    }


def broken_pins(pinned: dict[str, dict[str, str]], today: dict[str, dict[str, str]]) -> list[str]:
    """Name the schemas that were edited or deleted after their release, or are not pinned yet."""
    found = [
        f"{name} was released and is now {'other' if name in today else 'gone'}: put it back"
        for name, pin in pinned.items()
        if today.get(name) != pin
    ]
    for name in today.keys() - pinned.keys():
        found.append(f"{name} is new: add {json.dumps({name: today[name]})[1:-1]} to {GOLDEN}")
    return sorted(found)


@pytest.mark.parametrize(
    "check", [long_modules, long_functions, dead_modules, forbidden_words, undocumented_fields]
)
def test_the_project_is_tidy(repository: Path, check: Callable[[Path], list[str]]) -> None:
    found = check(repository)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_the_newest_released_schema_says_what_the_dataclass_says(name: str) -> None:
    today = without_docs(avro_schema(RECORDS[name]))
    assert without_docs(json.loads(current(name).text)) == today, "run `make schemas`"


def test_only_the_words_of_a_schema_may_differ() -> None:
    field = {"name": "doc", "type": "long", "doc": "old words", "default": 1}
    assert without_docs([field]) == [{"name": "doc", "type": "long", "default": 1}]
    assert without_docs(field) != without_docs({**field, "default": 2})


def test_every_released_schema_is_of_a_record_that_travels() -> None:
    assert {entry.name for entry in released().values()} == set(RECORDS)


def test_a_released_schema_never_changes(repository: Path) -> None:
    pinned = json.loads((repository / GOLDEN).read_text(encoding="utf-8"))
    found = broken_pins(pinned, fingerprints())
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("file", "text", "check"),
    [
        ("schemas/bad.py", "x = 1\n" * 501, long_modules),
        ("tests/test_bad.py", "def f():\n" + "    x = 1\n" * 70, long_functions),
        ("engines/bad.py", "import engines.bad\n", dead_modules),
        ("docs/bad.md", "see https://pypi." + "org/project\n", forbidden_words),
        ("deploy/bad.yaml", "path: '/" + "work/main'\n", forbidden_words),
        ("README.md", "TO" + "DO: all of it\n", forbidden_words),
        ("schemas/bad.py", "@dataclass(frozen=True)\nclass A:\n    b: int\n", undocumented_fields),
    ],
)
def test_each_check_sees_a_file_that_breaks_its_rule(
    tmp_path: Path, file: str, text: str, check: Callable[[Path], list[str]]
) -> None:
    assert check(tmp_path) == []
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    assert len(check(tmp_path)) == 1


def test_the_largest_that_is_allowed_passes(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    function = "def f():\n" + "    x = 1\n" * 69
    (tmp_path / "tests" / "test_good.py").write_text(function + "x = 1\n" * 430)
    assert long_modules(tmp_path) == []
    assert long_functions(tmp_path) == []


def test_an_edited_a_deleted_and_a_new_schema_are_seen() -> None:
    pinned = {"A.v1": {"crc64": "1"}, "B.v1": {"crc64": "2"}}
    today = {"A.v1": {"crc64": "9"}, "C.v1": {"crc64": "3"}}
    edited, deleted, new = broken_pins(pinned, today)
    assert edited.startswith("A.v1 was released and is now other")
    assert deleted.startswith("B.v1 was released and is now gone")
    assert new.startswith("C.v1 is new")


def test_every_package_says_in_one_line_what_it_is_for() -> None:
    for name in PACKAGES:
        assert (import_module(name).__doc__ or "").strip()


def test_a_test_cannot_leave_this_machine() -> None:
    # 192.0.2.0/24 is kept for documentation (RFC 5737): nobody answers there.
    with socket.socket() as door, pytest.raises(AssertionError, match="without a network"):
        door.connect(("192.0.2.1", 80))
