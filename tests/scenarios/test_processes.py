"""The command as a process of its own: nobody is contacted, signals end it, pipes may break."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import pytest

from connectors.embedded_log import EmbeddedLog
from waiting import wait_until

_ALONE = ("unshare", "--net", "--map-root-user")
_REFUSE_SOCKETS = """
import socket

class Refused(socket.socket):
    def __init__(self, family=-1, *more, **others):
        if family != socket.AF_UNIX:
            raise AssertionError("a socket was opened")
        super().__init__(family, *more, **others)

def refuse(*_):
    raise AssertionError("a name was looked up")

socket.socket = Refused
socket.getaddrinfo = socket.gethostbyname = refuse
"""


class Command(Protocol):
    """`tests/scenarios/conftest.py` has it."""

    def start(self, *arguments: object, settings: Any = None) -> subprocess.Popen[str]: ...
    def output(self, process: subprocess.Popen[str]) -> tuple[str, str]: ...
    def run(self, *arguments: object, settings: Any = None) -> tuple[int, str, str]: ...


def may_leave_the_network() -> bool:
    """Whether this machine lets us make a network namespace."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*_ALONE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not may_leave_the_network(), reason="no network namespaces are allowed here")
def test_the_demo_plays_where_there_is_no_network_at_all(repository: Path, tmp_path: Path) -> None:
    code = "from serving.cli import main; main()"
    line = [*_ALONE, sys.executable, "-c", code, "demo", "--visits", "3", "--json"]
    ran = subprocess.run(
        line,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["rewarded"] == 3


def test_no_socket_is_opened_and_no_name_looked_up(
    pho: Command, repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(_REFUSE_SOCKETS)
    paths = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{repository}"}
    line = ("demo", "--visits", 1, "--data", tmp_path / "d", "--json")
    status, out, err = pho.run(*line, settings=paths)
    assert status == 0, err
    assert json.loads(out)["rewarded"] == 1
    # The refusal itself works.
    ran = subprocess.run(
        [sys.executable, "-c", "import socket; socket.create_connection(('127.0.0.1', 9))"],
        env={**os.environ, **paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "a name was looked up" in ran.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_job_in_order(pho: Command, tmp_path: Path, number: int) -> None:
    job = pho.start("run", "--data", tmp_path)
    wait_until(lambda: "the job runs" in pho.output(job)[1])
    job.send_signal(number)
    assert job.wait(20) == 0
    assert "stopped" in pho.output(job)[1]
    assert pho.run("ledger", "--data", tmp_path)[0] == 0


def test_an_interrupted_demo_says_nothing_more_and_goes_on_later(
    pho: Command, tmp_path: Path
) -> None:
    # Enough that it is not over before this process, held up by others, has its turn.
    line = ("demo", "--visits", 16, "--data", tmp_path, "--json")
    demo = pho.start(*line)
    wait_until(lambda: _decisions(tmp_path) >= 1)
    demo.send_signal(signal.SIGINT)
    assert demo.wait(20) == 130
    out, err = pho.output(demo)
    assert out == ""
    assert "Traceback" not in err
    status, out, err = pho.run(*line)
    assert status == 0, err
    assert json.loads(out)["visits"] == 16


def test_a_reader_that_has_seen_enough_is_no_error(repository: Path, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    ran = subprocess.run(
        [sys.executable, "-c", "from serving.cli import main; main()", "schemas", "DecisionMade"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(repository)},
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr


def _decisions(folder: Path) -> int:
    if not (folder / "pho.db").exists():
        return 0
    log = EmbeddedLog(folder)
    count = log.counts()["decisions"]
    log.close()
    return count
