"""What the tests of the ways in share: the command in this process, and a shop to look at."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import pytest

from connectors.assets import fetch_assets
from producers.stretches import load_stretches
from serving.cli import main
from serving.demo import Demo, Play
from serving.settings import load

DEMO_VISITS = 6


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    status: int
    """Its exit status."""
    out: str
    """Its standard output."""
    err: str
    """Its standard error."""

    @property
    def json(self) -> Any:
        """Its one JSON document; anything beside it on standard output is an error here."""
        return json.loads(self.out)


class Pho:
    """The command `pho`, run in this process through the door its users take."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._patch = monkeypatch
        self._capfd = capfd

    def __call__(self, *arguments: object) -> Ran:
        """Run it to its end."""
        self._patch.setattr(sys, "argv", ["pho", *map(str, arguments)])
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self._capfd.readouterr()
        status: Any = 0
        try:
            main()
        except SystemExit as left:
            status = left.code or 0
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        told = self._capfd.readouterr()
        return Ran(status, told.out, told.err)


@pytest.fixture(scope="session", autouse=True)
def fetched() -> None:
    fetch_assets()


@pytest.fixture
def pho(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Pho]:
    """Return the command, in an empty folder and without settings from outside."""
    for name in list(os.environ):
        if name.startswith("PHO_"):
            monkeypatch.delenv(name)
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    yield Pho(monkeypatch, capfd)


@pytest.fixture(scope="session")
def _played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("played") / "demo"
    flags = {"data": str(folder), "loops.greeting.control_share": 0.15}
    demo = Demo(load(None, flags, {}), Play("recorded", 1, DEMO_VISITS))
    demo.run(lambda _done, _total: None)
    demo.log.close()
    return folder


@pytest.fixture
def demo_folder(_played: Path, tmp_path: Path) -> Path:
    """Return a copy of a finished demo of 6 visits, seed 1."""
    return Path(shutil.copytree(_played, tmp_path / "demo"))


def jpeg(stretch: str = "man/rest", step: int = 0) -> bytes:
    """Return one picture of the recordings."""
    picture = load_stretches(None).picture(stretch, step)
    return bytes(cv2.imencode(".jpg", picture)[1].tobytes())


@pytest.fixture
def visitor(tmp_path: Path) -> Path:
    """Return a picture file of somebody who smiles."""
    path = tmp_path / "visitor.jpg"
    path.write_bytes(jpeg("woman/smile"))
    return path
