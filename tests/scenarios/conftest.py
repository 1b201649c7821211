"""What the scenarios share: PHO as its users start it, in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from connectors.assets import fetch_assets

_START = (sys.executable, "-c", "from serving.cli import main; main()")


class Pho:
    """Starts the command `pho`, and ends what is still running when the test is over."""

    def __init__(self, root: Path, home: Path) -> None:
        self._home = home
        mine = {name: text for name, text in os.environ.items() if not name.startswith("PHO_")}
        self._environment = {**mine, "PYTHONPATH": str(root), "PYTHONWARNINGS": "error"}
        self._running: list[subprocess.Popen[str]] = []

    def start(
        self, *arguments: object, settings: Mapping[str, object] | None = None
    ) -> subprocess.Popen[str]:
        """Start a command in an empty folder; its output is kept in files, never in a pipe."""
        told = {name: str(value) for name, value in (settings or {}).items()}
        number = len(self._running)
        with (
            (self._home / f"{number}.out").open("w") as out,
            (self._home / f"{number}.err").open("w") as err,
        ):
            process = subprocess.Popen(
                [*_START, *map(str, arguments)],
                cwd=self._home,
                env={**self._environment, **told},
                stdout=out,
                stderr=err,
                text=True,
            )
        self._running.append(process)
        return process

    def output(self, process: subprocess.Popen[str]) -> tuple[str, str]:
        """Return what a command wrote so far: standard output, standard error."""
        number = self._running.index(process)
        out, err = (self._home / f"{number}.{name}" for name in ("out", "err"))
        return out.read_text(), err.read_text()

    def run(
        self, *arguments: object, settings: Mapping[str, object] | None = None
    ) -> tuple[int, str, str]:
        """Run a command to its end: exit status, standard output, standard error."""
        process = self.start(*arguments, settings=settings)
        status = process.wait()
        return status, *self.output(process)

    def end(self) -> None:
        """Kill what still runs."""
        for process in self._running:
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture(scope="session", autouse=True)
def fetched() -> None:
    fetch_assets()


@pytest.fixture
def pho(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pho]:
    """Return the command."""
    command = Pho(repository, tmp_path_factory.mktemp("cwd"))
    yield command
    command.end()
