"""The documentation is kept true: links, commands, settings, streams, extras, and its code."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from schemas.streams import STREAMS

PACKAGES = (
    "schemas",
    "policies",
    "pipelines",
    "connectors",
    "engines",
    "producers",
    "serving",
)
REQUIRED = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/architecture.md",
    "docs/glossary.md",
)

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
_HEADING = re.compile(r"^#+\s+(.*?)\s*#*$", re.MULTILINE)
_PROMPT = re.compile(r"^(?:\$ )?(?:\w+=\S+ )*(?:\.venv/bin/)?pho(?: |$)(.*)$")
_SHELLS = ("", "bash", "sh", "shell", "console")


def documents(root: Path) -> dict[str, str]:
    """Return every Markdown file of the project by its name from the root."""
    made = {"build", "dist", "node_modules", ".git", ".pytest_cache"}
    return {
        str(path.relative_to(root)): path.read_text(encoding="utf-8")
        for path in sorted(root.rglob("*.md"))
        if not any(
            part in made or part.startswith(".venv") for part in path.relative_to(root).parts
        )
    }


def missing_documents(root: Path) -> list[str]:
    """Name the documents that must be there and are not."""
    return [name for name in REQUIRED if not (root / name).is_file()]


def anchors(text: str) -> set[str]:
    """Return the anchors that a Markdown text's headings make."""
    found = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        words = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(words.replace(" ", "-"))
    return found


def broken_links(root: Path) -> list[str]:
    """Name the links to files that are not there, and to headings that no file has."""
    found = []
    for name, text in documents(root).items():
        prose = _SPAN.sub("", _FENCE.sub("", text))
        for target in (inline or below for inline, below in _LINK.findall(prose)):
            if re.match(r"[a-z]+:", target):
                continue
            file, _, anchor = target.partition("#")
            path = (root / name).parent / file if file else root / name
            if not path.exists():
                found.append(f"{name} links to {target}, which is not there")
            elif anchor and anchor not in anchors(path.read_text(encoding="utf-8")):
                found.append(f"{name} links to {target}, a heading that is not there")
    return found


def shown_commands(text: str) -> Iterator[str]:
    """Yield what follows `pho` wherever a Markdown text shows that command."""
    for language, body in _FENCE.findall(text):
        if language in _SHELLS:
            for line in body.replace("\\\n", " ").splitlines():
                if match := _PROMPT.match(line.strip()):
                    yield match[1]
    for span in _SPAN.findall(_FENCE.sub("", text)):
        if match := _PROMPT.match(span.strip()):
            yield match[1]


def command_problem(command: Any, shown: str) -> str | None:
    """Say what of a shown command line the application does not have; None: it has all."""
    lexer = shlex.shlex(
        shown.replace("[", " ").replace("]", " "), posix=True, punctuation_chars=True
    )
    lexer.whitespace_split = True
    words = list(lexer)
    while words and not set(words[0]) <= set("|&;<>()"):
        word = words.pop(0)
        if word.startswith("-"):
            option = word.partition("=")[0]
            if option == "--help":
                continue
            known = {name: p for p in command.params for name in (*p.opts, *p.secondary_opts)}
            if option not in known:
                return f"{command.name or 'pho'} has no option {option}"
            takes_value = not getattr(known[option], "is_flag", False) and "=" not in word
            del words[: int(takes_value)]
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return f"there is no command {word}"
            command = command.commands[word]
    return None


def unknown_commands(root: Path, command: Any) -> list[str]:
    """Name the shown command lines that the application does not have."""
    return [
        f"{name} shows `pho {shown}`: {problem}"
        for name, text in documents(root).items()
        for shown in shown_commands(text)
        if (problem := command_problem(command, shown))
    ]


def command_paths(command: Any, path: str = "pho") -> Iterator[str]:
    """Yield every command of the application as it is typed, but for hidden ones."""
    if not hasattr(command, "commands"):
        yield path
        return
    for name, below in command.commands.items():
        if not below.hidden:
            yield from command_paths(below, f"{path} {name}")


def code_words(root: Path) -> set[str]:
    """Return every word that the documentation sets as code."""
    words: set[str] = set()
    for text in documents(root).values():
        codes = [body for _, body in _FENCE.findall(text)]
        codes += _SPAN.findall(_FENCE.sub("", text))
        for code in codes:
            words.update(re.findall(r"[\w-]+", code))
    return words


def toml_keys(table: dict[str, Any]) -> Iterator[str]:
    """Yield every key of a TOML document, at any depth, but for the languages of a text."""
    for key, value in table.items():
        yield key
        if key == "text":
            continue
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                yield from toml_keys(inner)


def setting_names(root: Path) -> set[str]:
    """Return the names of all settings: fields of the settings' tables, keys of pho.toml."""
    module = importlib.import_module("serving.settings")
    tables: list[Any] = [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if kind.__module__ == module.__name__ and issubclass(kind, module._Strict)
    ]
    assert tables, "serving/settings.py has no tables"
    fields = {name for table in tables for name in table.__struct_fields__}
    toml = tomllib.loads((root / "serving" / "pho.toml").read_text(encoding="utf-8"))
    return fields | set(toml_keys(toml)) | set(module.OUTSIDE_THE_FILE)


def extras(root: Path) -> set[str]:
    """Return the names of the extras in setup.py."""
    for node in ast.parse((root / "setup.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "EXTRAS":
            return set(ast.literal_eval(node.value))
    problem = "setup.py has no EXTRAS"
    raise AssertionError(problem)


def python_blocks(text: str) -> list[str]:
    """Return the Python of a Markdown text, in order; sessions (>>>) apart."""
    return [body for language, body in _FENCE.findall(text) if language == "python"]


@pytest.fixture(scope="module")
def command() -> Any:
    """Return the application as the tree of commands it is."""
    return typer.main.get_command(importlib.import_module("serving.cli").app)


def test_every_required_document_is_there(repository: Path) -> None:
    found = missing_documents(repository)
    assert not found, "\n".join(found)


def test_every_link_leads_somewhere(repository: Path) -> None:
    found = broken_links(repository)
    assert not found, "\n".join(found)


def test_every_command_shown_exists(repository: Path, command: Any) -> None:
    found = unknown_commands(repository, command)
    assert not found, "\n".join(found)


def test_every_command_is_documented(repository: Path, command: Any) -> None:
    found = documents(repository)
    text = found["README.md"] + found.get("docs/commands.md", "")
    missing = [path for path in command_paths(command) if not re.search(rf"{path}(?![\w-])", text)]
    assert not missing, "\n".join(missing)


def test_every_setting_is_documented(repository: Path) -> None:
    missing = sorted(setting_names(repository) - code_words(repository))
    assert not missing, "\n".join(missing)


def test_every_stream_is_documented(repository: Path) -> None:
    missing = sorted(set(STREAMS) - code_words(repository))
    assert not missing, "\n".join(missing)


def test_every_extra_is_in_the_readme(repository: Path) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    missing = [name for name in sorted(extras(repository)) if f"`{name}`" not in text]
    assert not missing, "\n".join(missing)


def test_the_readmes_python_runs(repository: Path, tmp_path: Path) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    blocks = python_blocks(text)
    script = "\n".join(block for block in blocks if ">>>" not in block)
    path_line = f"import sys; sys.path.insert(0, {str(repository)!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", path_line + script],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    sessions = "\n\n".join(body for _, body in _FENCE.findall(text) if ">>>" in body)
    test = doctest.DocTestParser().get_doctest(sessions, {}, "README", "README.md", 0)
    assert doctest.DocTestRunner().run(test).failed == 0


def test_the_code_in_docstrings_runs(repository: Path) -> None:
    for folder in PACKAGES:
        for path in sorted((repository / folder).rglob("*.py")):
            if ">>>" in path.read_text(encoding="utf-8"):
                name = ".".join(path.relative_to(repository).with_suffix("").parts)
                assert doctest.testmod(importlib.import_module(name)).failed == 0, name


def test_the_glossary_gives_each_word_one_meaning(repository: Path) -> None:
    text = (repository / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = re.findall(r"^\| \*\*(.+?)\*\* \|", text, re.MULTILINE)
    assert len(words) >= 40
    assert sorted(words, key=str.lower) == words, "the glossary is in alphabetical order"
    assert len({word.lower() for word in words}) == len(words)


def test_every_release_says_what_it_means_for_state_and_schema(repository: Path) -> None:
    text = (repository / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert releases
    assert all("### State and schema" in release for release in releases)
    version = re.search(r'version="([^"]+)"', (repository / "setup.py").read_text())
    assert version is not None
    assert any(release.startswith(f"[{version[1]}]") for release in releases)


def example_app() -> Any:
    """Make a small application: up --port N, policy promote."""
    app, policy = typer.Typer(), typer.Typer()

    @app.command()
    def up(port: int = typer.Option(1, "--port"), *, quiet: bool = False) -> None: ...

    @policy.command()
    def promote(name: str) -> None: ...

    app.add_typer(policy, name="policy")
    return typer.main.get_command(app)


@pytest.mark.parametrize(
    ("shown", "problem"),
    [
        ("up", None),
        ("up --port 80 --quiet", None),
        ("up --port=80 && sleep 1 --long", None),
        ("policy promote NAME", None),
        ("policy --help", None),
        ("down", "there is no command down"),
        ("up --speed 3", "up has no option --speed"),
        ("policy demote", "there is no command demote"),
    ],
)
def test_a_shown_command_is_held_against_the_application(shown: str, problem: str | None) -> None:
    assert command_problem(example_app(), shown) == problem


def test_a_command_in_a_document_is_found_where_it_is_shown(tmp_path: Path) -> None:
    fence = "```bash\n$ PHO_PORT=1 .venv/bin/pho down \\\n  --now\n```\n"
    text = "Run `pho up`, not `pho.toml`.\n\n" + fence
    (tmp_path / "README.md").write_text(text)
    assert sorted(shown_commands(text)) == ["down    --now", "up"]
    found = unknown_commands(tmp_path, example_app())
    assert found == ["README.md shows `pho down    --now`: there is no command down"]
    assert list(command_paths(example_app())) == ["pho up", "pho policy promote"]


def test_links_to_nothing_are_found(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# One `word`, two\n\n```\n# not a heading\n```\n")
    good = "[a](docs/a.md) [b](docs/a.md#one-word-two) [c](https://example.com/x)\n`[d](code)`\n"
    (tmp_path / "README.md").write_text(good)
    assert broken_links(tmp_path) == []
    (tmp_path / "README.md").write_text("[a](b.md) [c](docs/a.md#not-a-heading)\n\n[d]: e.md\n")
    assert len(broken_links(tmp_path)) == 3


def test_words_of_code_and_keys_of_toml_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("plain `one_ms` and\n\n```toml\n[two]\nthree = 1\n```\n")
    assert code_words(tmp_path) == {"one_ms", "two", "three", "1"}
    assert set(toml_keys({"a": 1, "b": [{"c": 2}], "d": {"e": 3}})) == set("abcde")
    assert list(toml_keys({"text": {"en": "Hello"}})) == ["text"]
    assert missing_documents(tmp_path) == list(REQUIRED)
