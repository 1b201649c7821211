"""A server of ours is there when `start` returns, and gone with the process that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from connectors.local_server import LocalServer, answers, free_ports

PROGRAM = (
    "import http.server, sys\n"
    "where = ('127.0.0.1', int(sys.argv[1]))\n"
    "http.server.HTTPServer(where, http.server.BaseHTTPRequestHandler).serve_forever()\n"
)


class Small(LocalServer):
    """A server that answers every GET with an error, or a program that ends at once."""

    def __init__(self, program: str = PROGRAM) -> None:
        super().__init__()
        self.port = free_ports(1)[0]
        self.address = f"http://127.0.0.1:{self.port}/"
        self.program = program
        self.serves = lambda: answers(self.address)
        self.limit_s = 60.0
        self.served = False

    def start(self) -> None:
        command = [sys.executable, "-c", self.program, str(self.port)]
        self.served = self._launch(command, self.serves, self.limit_s)


def is_gone(pid: int) -> bool:
    until_s = time.monotonic() + 20
    while time.monotonic() < until_s:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_it_serves_when_start_returns_and_not_after_the_block() -> None:
    with Small() as server:
        assert server.served
        assert answers(server.address)
        pid = server.pid
        os.kill(pid, 0)
    assert is_gone(pid)
    assert server.pid == 0
    assert not answers(server.address)
    server.stop()


def test_one_that_does_not_serve_is_ended() -> None:
    dead = Small("raise SystemExit(1)")
    dead.start()
    assert (dead.served, dead.pid) == (False, 0)
    pids = []

    def never() -> bool:
        pids.append(mute.pid)
        return False

    mute = Small("import time; time.sleep(600)")
    mute.serves, mute.limit_s = never, 0.2
    mute.start()
    assert not mute.served
    assert is_gone(pids[-1])


def test_one_that_is_interrupted_while_it_starts_is_ended() -> None:
    pids = []

    def interrupted() -> bool:
        pids.append(server.pid)
        raise KeyboardInterrupt

    server = Small()
    server.serves = interrupted
    with pytest.raises(KeyboardInterrupt):
        server.start()
    assert is_gone(pids[0])


def test_it_ends_with_the_process_that_started_it() -> None:
    script = (
        "import time\n"
        "from test_local_server import Small\n"
        "server = Small()\n"
        "server.start()\n"
        "print(server.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    starter = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )
    with starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        os.kill(pid, 0)
        starter.send_signal(signal.SIGKILL)
    assert is_gone(pid)
