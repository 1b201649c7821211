"""A folder imports only from its left; the pure ones know no clock, chance, file or network."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

MAY_IMPORT: dict[str, frozenset[str]] = {}
"""For each folder, the folders it may import from."""

for _folder, _neighbours in {
    "schemas": "",
    "policies": "schemas",
    "pipelines": "schemas policies",
    "connectors": "schemas policies pipelines",
    "engines": "schemas policies pipelines connectors",
    "producers": "schemas policies pipelines connectors engines",
    "serving": "schemas policies pipelines connectors engines producers",
}.items():
    MAY_IMPORT[_folder] = frozenset(_neighbours.split())

PURE = ("schemas", "policies", "pipelines")

IMPURE_MODULES = frozenset(
    "asyncio concurrent fcntl glob http io logging multiprocessing os pathlib queue random "
    "secrets select selectors shutil signal socket sqlite3 ssl subprocess sys tempfile threading "
    "time urllib uuid boto3 cv2 kafka httpx requests".split()
)
IMPURE_CALLS = frozenset(
    "breakpoint eval exec input open print datetime.now datetime.today datetime.utcnow "
    "date.today datetime.datetime.now datetime.datetime.utcnow datetime.date.today np.load "
    "np.save np.savez np.fromfile np.memmap np.loadtxt np.genfromtxt".split()
)
UNPICKLERS = frozenset("pickle cPickle cloudpickle dill joblib marshal shelve jsonpickle".split())


def modules(root: Path, *folders: str) -> Iterator[tuple[Path, ast.Module]]:
    """Yield every module of the folders with its syntax tree."""
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            yield path.relative_to(root), ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of every import, wherever in the module it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def imports_from_the_right(root: Path) -> list[str]:
    """Name the imports of a folder that does not stand to the left."""
    return [
        f"{path}:{line} imports {name}"
        for folder, allowed in MAY_IMPORT.items()
        for path, tree in modules(root, folder)
        for line, name in imports(tree)
        if (top := name.split(".")[0]) in MAY_IMPORT and top != folder and top not in allowed
    ]


# The codec writes Avro to a buffer in memory; the compiler runs source text that it made itself
# of our own dataclasses, as `dataclasses` does.
ALLOWED = frozenset({("schemas/codec.py", "io"), ("schemas/compiled.py", "exec")})


def impurities(root: Path) -> list[str]:
    """Name what in the pure folders could see a clock, chance, a file or a network."""
    found = []
    for path, tree in modules(root, *PURE):
        for line, name in imports(tree):
            is_chance = name.startswith("numpy.random")
            is_impure = name.split(".")[0] in IMPURE_MODULES and (str(path), name) not in ALLOWED
            if is_chance or is_impure:
                found.append(f"{path}:{line} imports {name}")
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (called := ast.unparse(node.func)) in IMPURE_CALLS:
                if (str(path), called) not in ALLOWED:
                    found.append(f"{path}:{node.lineno} calls {called}")
            elif isinstance(node, ast.Attribute):
                text = ast.unparse(node)
                if text in ("np.random", "numpy.random"):
                    found.append(f"{path}:{node.lineno} uses {text}")
                elif text.startswith("io.") and text != "io.BytesIO":
                    found.append(f"{path}:{node.lineno} uses {text}")
    return found


def unpicklings(root: Path) -> list[str]:
    """Name whatever could run code out of bytes it reads."""
    found = []
    for path, tree in modules(root, *MAY_IMPORT):
        for line, name in imports(tree):
            if name.split(".")[0] in UNPICKLERS:
                found.append(f"{path}:{line} imports {name}")
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                found.append(f"{path}:{node.lineno} says allow_pickle")
    return found


def river_outside_its_modules(root: Path) -> list[str]:
    """Name the imports of River outside policies/river_*.py: elsewhere the arithmetic is ours."""
    return [
        f"{path}:{line} imports {name}"
        for path, tree in modules(root, *MAY_IMPORT)
        for line, name in imports(tree)
        if name.split(".")[0] == "river"
        and not (path.parent == Path("policies") and path.name.startswith("river_"))
    ]


def environment_reads(root: Path) -> list[str]:
    """Name what reads the environment besides serving/settings.py."""
    # Not putenv: a library underneath may have to be told something, which reads nothing.
    words = ("environ", "environb", "getenv", "getenvb")
    found = []
    for path, tree in modules(root, *MAY_IMPORT):
        if path == Path("serving/settings.py"):
            continue
        for line, name in imports(tree):
            if name.startswith("os.") and name.split(".")[1] in words:
                found.append(f"{path}:{line} imports {name}")
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("os."):
                if node.attr in words:
                    found.append(f"{path}:{node.lineno} uses os.{node.attr}")
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("expandvars"):
                found.append(f"{path}:{node.lineno} expands variables")
    return found


CHECKS = (
    imports_from_the_right,
    impurities,
    unpicklings,
    river_outside_its_modules,
    environment_reads,
)


def test_a_folder_imports_only_from_its_left(repository: Path) -> None:
    found = imports_from_the_right(repository)
    assert not found, "\n".join(found)


def test_schemas_policies_and_pipelines_are_pure(repository: Path) -> None:
    found = impurities(repository)
    assert not found, "\n".join(found)


def test_nothing_is_ever_unpickled(repository: Path) -> None:
    found = unpicklings(repository)
    assert not found, "\n".join(found)


def test_river_is_imported_only_where_it_is_presented(repository: Path) -> None:
    found = river_outside_its_modules(repository)
    assert not found, "\n".join(found)


def test_only_the_settings_read_the_environment(repository: Path) -> None:
    found = environment_reads(repository)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("file", "line", "check"),
    [
        ("schemas/bad.py", "import policies.linear", imports_from_the_right),
        ("policies/bad.py", "from pipelines import join", imports_from_the_right),
        (
            "connectors/bad.py",
            "def f():\n    from engines.memory import run",
            imports_from_the_right,
        ),
        ("producers/bad.py", "import serving", imports_from_the_right),
        ("pipelines/bad.py", "import time", impurities),
        ("pipelines/bad.py", "from os.path import join", impurities),
        ("policies/bad.py", "from numpy.random import default_rng", impurities),
        ("policies/bad.py", "import numpy as np\nnp.random", impurities),
        ("policies/bad.py", "now = datetime.now(UTC)", impurities),
        ("schemas/bad.py", "import io", impurities),
        ("schemas/codec.py", "import io\nio.FileIO", impurities),
        ("schemas/bad.py", "def f():\n    print(1)", impurities),
        ("schemas/bad.py", "text = open('x').read()", impurities),
        ("schemas/bad.py", "exec('x = 1')", impurities),
        ("schemas/compiled.py", "eval('1')", impurities),
        ("engines/bad.py", "import pickle", unpicklings),
        ("engines/bad.py", "np.load('x', allow_pickle=False)", unpicklings),
        ("policies/linear.py", "import river.linear_model", river_outside_its_modules),
        ("engines/river_x.py", "from river import drift", river_outside_its_modules),
        ("engines/bad.py", "import os\nos.environ", environment_reads),
        ("engines/bad.py", "from os import getenv", environment_reads),
    ],
)
def test_each_check_sees_a_line_that_breaks_its_rule(
    tmp_path: Path, file: str, line: str, check: object
) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(line + "\n")
    seen_by = [each for each in CHECKS if each(tmp_path)]
    assert seen_by == [check]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("engines/good.py", "import connectors.sqlite, pipelines.join, time, os, threading"),
        ("schemas/codec.py", "import io\nbuffer = io.BytesIO()"),
        ("schemas/compiled.py", "exec('x = 1')"),
        ("policies/river_view.py", "from river import bandit"),
        ("serving/settings.py", "import os\nos.environ"),
        ("producers/good.py", "import os\nos.putenv('LIBRARY_LOG_LEVEL', '0')"),
        ("pipelines/good.py", "from schemas.codec import encode\nimport hashlib, math, numpy"),
    ],
)
def test_what_is_allowed_passes_every_check(tmp_path: Path, file: str, line: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(line + "\n")
    assert [found for check in CHECKS for found in check(tmp_path)] == []
