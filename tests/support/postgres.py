"""A real Postgres server of a test's own: made, started, killed, started again."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from needs import need

_START_S = 60.0
_NUMBERS = count(1)
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@cache
def shared_postgres() -> Postgres:
    """Return the one server of this run, started; it ends with the process."""
    server = Postgres()
    atexit.register(server.close)
    server.start()
    return server


class Postgres:
    """A server in a folder of its own, on a free port of the loopback.

    Parameters
    ----------
    durable : bool
        True: what is committed survives a kill, as in production; False: faster.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._programs = _programs()
        # Not in a folder of pytest's: the server refuses root, and its user must reach the files.
        self.folder = Path(tempfile.mkdtemp(prefix="pho-pg-"))
        self.data = self.folder / "data"
        self.port = _free_port()
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self._user = _other_user()
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self._run("initdb", "-D", self.data, "-U", "pho", "-A", "trust", "--no-sync", "-E", "UTF8")

    def dsn(self, database: str = "postgres", **more: object) -> str:
        """Return the address of one of its databases."""
        told = {"host": "127.0.0.1", "port": self.port, "user": "pho", "dbname": database, **more}
        return " ".join(f"{name}={value}" for name, value in told.items())

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = [f"port={self.port}", "listen_addresses=127.0.0.1"]
        options += [f"unix_socket_directories={self.folder}", *(() if self._durable else _FAST)]
        command = [str(self._programs / "postgres"), "-D", str(self.data)]
        for option in options:
            command += ["-c", option]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                **self._as_user(),
            )
        until_s = time.monotonic() + _START_S
        while True:
            try:
                psycopg.connect(self.dsn(), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > until_s:
                    told = (self.folder / "server.log").read_text()[-2_000:]
                    raise AssertionError(told) from None
                time.sleep(0.05)

    def new_database(self, name: str = "") -> str:
        """Make a database, of a name that nobody else has; return its address."""
        name = name or f"t{next(_NUMBERS)}"
        with psycopg.connect(self.dsn(), autocommit=True) as db:
            db.execute(f'CREATE DATABASE "{name}"')
        return self.dsn(name)

    def query(self, query: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Return the rows of a query."""
        with psycopg.connect(self.dsn(database), autocommit=True) as db:
            cursor = db.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

    def kill(self) -> None:
        """End it and all its processes at once, as a power cut would."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
            # Its children are in the process group too, but die a moment later.
            self._wait_for_port()

    def close(self) -> None:
        """End it, and delete its folder."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait_for_port(self) -> None:
        until_s = time.monotonic() + 10.0
        while time.monotonic() < until_s:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)):
                    return
            time.sleep(0.02)

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self._programs / program), *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=self.folder, **self._as_user()
        )
        assert done.returncode == 0, done.stderr

    def _as_user(self) -> dict[str, Any]:
        if self._user is None:
            return {}
        names: dict[str, Any] = {
            "user": self._user.pw_uid,
            "group": self._user.pw_gid,
            "extra_groups": [],
        }
        return names | {"env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": str(self.folder)}}


def _programs() -> Path:
    need("postgres")
    # What stands in the path may be a link: the programs beside the server are wanted.
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(found, default=need("postgres").resolve().parent)


def _other_user() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
