"""A real Kafka broker of one node on this machine, for demonstrations, tests and benchmarks.

No Docker: the broker's jars and a Java are enough (connectors/jars.py).
"""

from __future__ import annotations

import base64
import secrets
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from connectors.local_server import LocalServer, free_ports
from schemas.errors import ResourceError

START_TIME_LIMIT_S = 90.0
"""Three seconds are usual, seven after a kill."""
HEAP = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_READY = "Kafka Server started"


class LocalKafka(LocalServer):
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
        super().__init__()
        self.folder = folder
        self._java = java
        self._jars = jars
        self._listeners = {"PLAIN": "PLAINTEXT", **(listeners or {})}
        names = [*self._listeners, "CONTROLLER"]
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        if port is not None:
            self.ports["PLAIN"] = port
        self._more = dict(properties or {})

    @property
    def bootstrap(self) -> str:
        """Where clients find it: ``127.0.0.1:port``."""
        return self.bootstrap_of("PLAIN")

    def bootstrap_of(self, listener: str) -> str:
        """Return where clients find one of its listeners."""
        return f"127.0.0.1:{self.ports[listener]}"

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
            served = self._launch(
                [self._java, *HEAP, "-cp", f"{self._jars}/*", "kafka.Kafka", self._config_file],
                lambda: _READY in self._printed(begin),
                START_TIME_LIMIT_S,
                output=output,
            )
        if not served:
            last = " / ".join(self._printed(begin).strip().splitlines()[-3:])
            problem = f"the broker in {self.folder} does not start: {last[-500:]}"
            raise ResourceError(problem, f"Look into {self.log_file}")

    def stop(self) -> None:
        """End it in order (SIGTERM): half a second."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Stop it in order and start it on the same data and port."""
        self.stop()
        self.start()

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

    def _printed(self, begin: int) -> str:
        with self.log_file.open("rb") as file:
            file.seek(begin)
            return file.read().decode(errors="replace")
