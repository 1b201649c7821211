"""A real Kafka broker of one node on this machine, for demonstrations, tests and benchmarks.

No Docker: the broker's jars and a Java are enough (connectors/jars.py).
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from schemas.errors import ResourceError

START_TIME_LIMIT_S = 90.0
"""Three seconds are usual, seven after a kill."""
STOP_TIME_LIMIT_S = 30.0
HEAP = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_READY = "Kafka Server started"


class LocalKafka:
    """A broker on loopback, controller and broker in one process.

    It ends with this process, however that ends.

    Parameters
    ----------
    folder : Path
        Its data, configuration and log; a broker started there again has the same data and ports.
    java : str
        Command of a Java of 17 or newer.
    jars : Path
        Folder of the broker's jars.
    port : int, optional
        Where it listens; None: a free one.
    listeners : mapping, optional
        More listeners: protocol (``SSL``, ``SASL_PLAINTEXT`` …) by name, each on a free port.
    properties : mapping, optional
        Broker properties beside ours, or instead of them.
    """

    def __init__(
        self,
        folder: Path,
        java: str,
        jars: Path,
        port: int | None = None,
        listeners: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self._java = java
        self._jars = jars
        self._listeners = {"PLAIN": "PLAINTEXT", **(listeners or {})}
        names = [*self._listeners, "CONTROLLER"]
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        if port is not None:
            self.ports["PLAIN"] = port
        self._more = dict(properties or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """Where clients find it: ``127.0.0.1:port``."""
        return self.bootstrap_of("PLAIN")

    def bootstrap_of(self, listener: str) -> str:
        """Return where clients find one of its listeners."""
        return f"127.0.0.1:{self.ports[listener]}"

    @property
    def pid(self) -> int:
        """The broker's process; 0: it does not run."""
        return self._process.pid if self._process is not None else 0

    @property
    def log_file(self) -> Path:
        """What it printed."""
        return self.folder / "broker.log"

    def start(self) -> None:
        """Start it, and wait until it serves.

        Raises
        ------
        ResourceError
            When it does not, with what it printed last.
        """
        if self._process is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._configure()
        if not (self.folder / "data" / "meta.properties").exists():
            self._format()
        with self.log_file.open("ab") as output:
            begin = output.tell()
            self._process = subprocess.Popen(  # noqa: S603  a command of constants and the caller's
                [self._java, *HEAP, "-cp", f"{self._jars}/*", "kafka.Kafka", self._config_file],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._watch()
        atexit.register(self.kill)
        try:
            self._wait_until_ready(begin)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it in order (SIGTERM): half a second."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once (SIGKILL), as when the power fails; its data stays."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it in order and start it on the same data and port."""
        self.stop()
        self.start()

    def __enter__(self) -> LocalKafka:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def _config_file(self) -> str:
        return str(self.folder / "server.properties")

    def _configure(self) -> None:
        listeners = ",".join(f"{name}://127.0.0.1:{port}" for name, port in self.ports.items())
        advertised = ",".join(
            f"{name}://{self.bootstrap_of(name)}" for name in self.ports if name != "CONTROLLER"
        )
        protocols = {**self._listeners, "CONTROLLER": "PLAINTEXT"}
        properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self.ports['CONTROLLER']}",
            "controller.listener.names": "CONTROLLER",
            "listeners": listeners,
            "advertised.listeners": advertised,
            "listener.security.protocol.map": ",".join(f"{k}:{v}" for k, v in protocols.items()),
            "inter.broker.listener.name": "PLAIN",
            "log.dirs": str(self.folder / "data"),
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            # Fifty partitions each by default: a second of start, and files by the hundred.
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.num.partitions": "4",
            "group.initial.rebalance.delay.ms": "0",
            "auto.create.topics.enable": "false",
            # With the default of 128 MiB the log cleaner dies in a heap of ours.
            "log.cleaner.dedupe.buffer.size": "2097152",
            # A broker that was killed may not register again before its session ends: 9 s by
            # default, 12 s in all until it serves.
            "broker.session.timeout.ms": "4000",
            "broker.heartbeat.interval.ms": "1000",
            "num.network.threads": "1",
            "num.io.threads": "2",
            "background.threads": "2",
            **self._more,
        }
        text = "".join(f"{name}={value}\n" for name, value in properties.items())
        (self.folder / "server.properties").write_text(text, encoding="utf-8")

    def _format(self) -> None:
        # An id that starts with a dash would be taken for an option.
        cluster = "-"
        while cluster.startswith("-"):
            cluster = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        command = [self._java, *HEAP, "-cp", f"{self._jars}/*", "kafka.tools.StorageTool"]
        run = subprocess.run(  # noqa: S603  a command of constants and the caller's
            [*command, "format", "-t", cluster, "-c", self._config_file],
            capture_output=True,
            check=False,
            text=True,
            timeout=START_TIME_LIMIT_S,
        )
        if run.returncode != 0:
            problem = f"the broker's folder {self.folder} cannot be formatted: {run.stderr[-300:]}"
            raise ResourceError(problem, "Check that the folder is empty and its device has room")

    def _watch(self) -> None:
        """End the broker when this process is gone, even by SIGKILL: the pipe to a shell breaks.

        PR_SET_PDEATHSIG would be shorter, but fires when the *thread* that started it ends.
        """
        self._watchdog = subprocess.Popen(  # noqa: S603  a command of constants and a number
            ["/bin/sh", "-c", f"read -r _; kill -KILL {self.pid}"],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def _wait_until_ready(self, begin: int) -> None:
        process = self._process
        assert process is not None  # noqa: S101  set by `start`, for the type checker
        until_s = time.monotonic() + START_TIME_LIMIT_S
        while time.monotonic() < until_s:
            with self.log_file.open("rb") as file:
                file.seek(begin)
                printed = file.read().decode(errors="replace")
            if _READY in printed:
                return
            if process.poll() is not None:
                break
            time.sleep(0.05)
        last = " / ".join(printed.strip().splitlines()[-3:])
        problem = f"the broker in {self.folder} does not start: {last[-500:]}"
        raise ResourceError(problem, f"Look into {self.log_file}")

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        atexit.unregister(self.kill)
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            # Before the broker is waited for: its number could be another's afterwards.
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


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
