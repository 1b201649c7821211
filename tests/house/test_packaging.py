"""Flat packages may collide, and pip does not warn: what ours must never be mistaken for."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import pytest

NOT_PACKAGES = ("tests", "deploy", "docs", "examples", "benchmarks")


def written_packages(root: Path) -> tuple[str, ...]:
    """Return the names that setup.py writes down as PACKAGES."""
    tree = ast.parse((root / "setup.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PACKAGES":
            return tuple(ast.literal_eval(node.value))
    problem = "setup.py writes down no PACKAGES"
    raise AssertionError(problem)


def foreign_owners(names: Sequence[str], owners: Mapping[str, Sequence[str]]) -> list[str]:
    """Name the distributions other than pho that bring one of our top-level names."""
    return [
        f"{distribution} also brings a top-level {name}"
        for name in names
        for distribution in sorted(set(owners.get(name, ())) - {"pho"})
    ]


def resolved_elsewhere(root: Path, names: Sequence[str]) -> list[str]:
    """Name the packages that `import` would not take from this repository."""
    found = []
    for name in names:
        spec = importlib.util.find_spec(name)
        origin = spec.origin if spec is not None else None
        if origin is None or not Path(origin).resolve().is_relative_to(root / name):
            found.append(f"import {name} takes {origin}")
    return found


def standard_library_names(root: Path, names: Sequence[str]) -> list[str]:
    """Name the packages and modules called like one of the standard library's."""
    paths = [root / name for name in names]
    paths += [path for name in names for path in (root / name).rglob("*.py")]
    return [
        f"{path.relative_to(root)} is named like the standard library's {path.stem}"
        for path in paths
        if path.stem in sys.stdlib_module_names and path.stem != "__init__"
    ]


def loose_modules(root: Path) -> list[str]:
    """Name the modules that lie at the root besides setup.py."""
    return sorted(path.name for path in root.glob("*.py") if path.name != "setup.py")


def wrong_folders(root: Path, names: Sequence[str]) -> list[str]:
    """Name folders that are packages unwritten, written without being one, or must not be one."""
    importable = {path.parent.name for path in root.glob("*/__init__.py")}
    found = [f"{name} is in PACKAGES without being one" for name in set(names) - importable]
    found += [f"{name} is a package that PACKAGES does not name" for name in importable - {*names}]
    for name in NOT_PACKAGES:
        found += [str(path.relative_to(root)) for path in (root / name).rglob("__init__.py")]
    return sorted(found)


def test_no_other_distribution_owns_one_of_our_names(repository: Path) -> None:
    names = written_packages(repository)
    assert foreign_owners(names, metadata.packages_distributions()) == []


def test_every_package_resolves_inside_the_repository(repository: Path) -> None:
    assert resolved_elsewhere(repository, written_packages(repository)) == []


def test_no_name_is_the_standard_librarys(repository: Path) -> None:
    assert standard_library_names(repository, written_packages(repository)) == []


def test_no_loose_module_lies_at_the_root(repository: Path) -> None:
    assert loose_modules(repository) == []


def test_the_written_list_is_exactly_the_importable_folders(repository: Path) -> None:
    assert wrong_folders(repository, written_packages(repository)) == []


@pytest.mark.parametrize(
    ("file", "check"),
    [
        ("queue.py", lambda root: loose_modules(root)),
        ("schemas/queue.py", lambda root: standard_library_names(root, ["schemas"])),
        ("stray/__init__.py", lambda root: wrong_folders(root, ["schemas"])),
        ("tests/house/__init__.py", lambda root: wrong_folders(root, ["schemas"])),
    ],
)
def test_each_check_sees_a_tree_that_breaks_its_rule(
    tmp_path: Path, file: str, check: Callable[[Path], list[str]]
) -> None:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "__init__.py").touch()
    assert check(tmp_path) == []
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    assert len(check(tmp_path)) == 1


def test_a_foreign_owner_is_seen() -> None:
    owners = {"engines": ["pho", "engines-of-others"], "schemas": ["pho"]}
    assert foreign_owners(["engines", "schemas"], owners) == [
        "engines-of-others also brings a top-level engines"
    ]


def test_a_name_that_resolves_elsewhere_is_seen(tmp_path: Path) -> None:
    assert len(resolved_elsewhere(tmp_path, ["schemas"])) == 1


def test_an_unwritten_package_list_is_seen(tmp_path: Path) -> None:
    (tmp_path / "setup.py").write_text("from setuptools import setup\nsetup()\n")
    with pytest.raises(AssertionError, match="no PACKAGES"):
        written_packages(tmp_path)


def test_make_alone_names_every_target_it_has(repository: Path) -> None:
    text = (repository / "Makefile").read_text(encoding="utf-8")
    declared = next(line for line in text.splitlines() if line.startswith(".PHONY:"))
    shown = subprocess.run(["make"], cwd=repository, check=True, capture_output=True, text=True)
    lines = [line for line in shown.stdout.splitlines() if line.startswith("make ")]
    assert {line.split()[1] for line in lines} == set(declared.split()[1:]) - {"help"}
    assert all("next: " in line for line in lines)


def test_constraints_pin_what_setup_asks_for(repository: Path) -> None:
    tree = ast.parse((repository / "setup.py").read_text(encoding="utf-8"))
    values = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    asked = [*values["CORE"], *values["EXTRAS"]["vision"], *values["EXTRAS"]["dev"]]
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0] for line in lines if "==" in line}
    assert {re.split(r"[\[>=]", entry)[0] for entry in asked} <= pinned
    assert all(line.startswith("#") or "==" in line for line in lines)


_WITHOUT_EXTRAS = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ImportError(name)

sys.meta_path.insert(0, Missing())
import serving.cli
"""
_OF_EXTRAS = (
    "cv2", "ai_edge_litert", "kafka", "confluent_kafka", "boto3", "botocore", "fastapi", "uvicorn",
    "prometheus_client", "cryptography", "psycopg", "pyarrow", "pyflink", "apache_beam",
)  # fmt: skip


def test_the_command_starts_without_any_extra(repository: Path) -> None:
    line = [sys.executable, "-c", _WITHOUT_EXTRAS, ",".join(_OF_EXTRAS)]
    ran = subprocess.run(line, cwd=repository, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
