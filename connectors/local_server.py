"""A server on this machine, for demonstrations and tests: a process that ends with ours."""

from __future__ import annotations

import atexit
import contextlib
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.error import HTTPError
from urllib.request import urlopen

STOP_TIME_LIMIT_S = 30.0
"""What does not end in order by then is ended by SIGKILL."""


class LocalServer(ABC):
    """A server on loopback that ends with this process, however that ends.

    Each kind says how it is started, and when it serves.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The server's process; 0: it does not run."""
        return self._process.pid if self._process is not None else 0

    @abstractmethod
    def start(self) -> None:
        """Start it, and wait until it serves.

        Raises
        ------
        ResourceError
            It does not.
        """

    def stop(self) -> None:
        """End it; it keeps nothing."""
        self.kill()

    def kill(self) -> None:
        """End it at once (SIGKILL), as when the power fails."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _launch(
        self,
        command: Sequence[str],
        serves: Callable[[], bool],
        limit_s: float,
        *,
        folder: Path | None = None,
        variables: Mapping[str, str] | None = None,
        output: IO[bytes] | int = subprocess.DEVNULL,
    ) -> bool:
        """Start the process; return whether it serves in time. If not, it was ended."""
        self._process = subprocess.Popen(  # noqa: S603  a command of constants and the caller's
            command,
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        # PR_SET_PDEATHSIG would be shorter, but fires when the *thread* that started it ends. The
        # pipe to a shell breaks when this process is gone, even by SIGKILL.
        self._watchdog = subprocess.Popen(  # noqa: S603  a command of constants and a number
            ["/bin/sh", "-c", f"read -r _; kill -KILL {self._process.pid}"],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        atexit.register(self.kill)
        until_s = time.monotonic() + limit_s
        try:
            while time.monotonic() < until_s and self._process.poll() is None:
                if serves():
                    return True
                time.sleep(0.05)
        except BaseException:
            self.kill()
            raise
        self.kill()
        return False

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        atexit.unregister(self.kill)
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            # Before the server is waited for: its number could be another's afterwards.
            watchdog.kill()
            watchdog.wait()
            if watchdog.stdin is not None:
                watchdog.stdin.close()
        process.send_signal(how)
        try:
            process.wait(STOP_TIME_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(address: str) -> bool:
    """Whether a server on loopback answers a GET, be it with an error."""
    try:
        with urlopen(address, timeout=5):  # noqa: S310  loopback
            return True
    except HTTPError as refused:
        refused.close()
        return True
    except OSError:
        return False


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
