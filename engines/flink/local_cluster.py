"""A Flink cluster on this machine from the pip package: demonstrations, tests and benchmarks.

One JobManager, some TaskManagers, each a process of its own that can be killed and started again.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from connectors.local_server import free_ports
from engines.flink.rest import FlinkRest
from schemas.errors import ResourceError

START_TIME_LIMIT_S = 120.0
_PR_SET_PDEATHSIG = 1
_FIRST_COMPILER = "-XX:TieredStopAtLevel=1"
_JAVA_PARTS = ("jobmanager", "taskmanager", "client")
_QUIET = """
logger.metrics.name = org.apache.flink.metrics.MetricGroup
logger.metrics.level = ERROR
"""


class LocalFlink:
    """A session cluster on loopback; it ends with this process, however that ends.

    Parameters
    ----------
    folder : Path
        Configuration, logs, checkpoints.
    java : str
        Command of a Java 17.
    jars : tuple of Path
        Jars for the cluster's class path: the Kafka connector, our own.
    taskmanagers : int
        How many; each runs all of its Python under one lock.
    slots : int
        Slots of each.
    options : mapping, optional
        Further options of Flink.
    python_path : tuple of Path
        Folders that workers also import from.
    """

    def __init__(
        self,
        folder: Path,
        java: str,
        jars: tuple[Path, ...],
        taskmanagers: int = 2,
        slots: int = 2,
        options: Mapping[str, str] | None = None,
        python_path: tuple[Path, ...] = (),
    ) -> None:
        self.folder = folder
        self.port, rpc_port = free_ports(2)
        self.count = taskmanagers
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._java = java
        self._python_path = python_path
        self._configure(jars, rpc_port, slots, dict(options or {}))
        self.rest = FlinkRest(self.address)

    @property
    def address(self) -> str:
        """Where its REST interface and its pages are."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def variables(self) -> dict[str, str]:
        """What Flink's own scripts must find in the environment, the path aside."""
        java_home = Path(shutil.which(self._java) or self._java).resolve().parent.parent
        return {
            "PYTHONPATH": ":".join(str(path) for path in self._python_path),
            "JAVA_HOME": str(java_home),
            "FLINK_HOME": str(flink_home()),
            "FLINK_CONF_DIR": str(self.folder / "conf"),
            "FLINK_LOG_DIR": str(self.folder / "log"),
            "FLINK_PID_DIR": str(self.folder / "pid"),
            "FLINK_LIB_DIR": str(self.folder / "lib"),
        }

    def start(self) -> None:
        """Start everything, and wait until all TaskManagers are registered."""
        self.start_jobmanager()
        for number in range(self.count):
            self.start_taskmanager(number)
        self.wait(self.count)

    def start_jobmanager(self) -> None:
        """Start the JobManager."""
        self._start("jobmanager", "jobmanager.sh")

    def start_taskmanager(self, number: int) -> None:
        """Start one TaskManager."""
        self._start(f"taskmanager-{number}", "taskmanager.sh")

    def wait(self, taskmanagers: int) -> None:
        """Wait until so many TaskManagers are registered.

        Raises
        ------
        ResourceError
            When they are not in time, with where to look.
        """
        until_s = time.monotonic() + START_TIME_LIMIT_S
        while time.monotonic() < until_s:
            with contextlib.suppress(ResourceError):
                if self.rest.taskmanagers() >= taskmanagers:
                    return
            for name, process in self.processes.items():
                if process.poll() is not None:
                    problem = f"Flink's {name} ended with status {process.returncode}"
                    raise ResourceError(problem, f"Read {self.folder / 'log' / name}.out")
            time.sleep(0.2)
        problem = f"{taskmanagers} TaskManagers were not there within {START_TIME_LIMIT_S:.0f} s"
        raise ResourceError(problem, f"Read the files in {self.folder / 'log'}")

    def kill(self, name: str) -> None:
        """End one process at once, as when its machine fails."""
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """End everything."""
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        until_s = time.monotonic() + 15.0
        for process in self.processes.values():
            try:
                process.wait(max(0.1, until_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.processes.clear()
        atexit.unregister(self.stop)

    def __enter__(self) -> LocalFlink:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self, name: str, script: str) -> None:
        with (self.folder / "log" / f"{name}.out").open("ab") as output:
            self.processes[name] = subprocess.Popen(  # noqa: S603 - Flink's own script
                flink_script(script, self.variables, "start-foreground"),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        atexit.unregister(self.stop)
        atexit.register(self.stop)

    def _configure(
        self, jars: tuple[Path, ...], rpc_port: int, slots: int, more: dict[str, str]
    ) -> None:
        for name in ("conf", "log", "pid", "lib", "checkpoints", "tmp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        home = flink_home()
        for path in (home / "conf").iterdir():
            if path.name != "config.yaml":
                shutil.copy(path, self.folder / "conf")
        # Some eight warnings a checkpoint, 1 MB in eight minutes: names of the sink's own metrics.
        for path in (self.folder / "conf").glob("log4j*.properties"):
            with path.open("a", encoding="utf-8") as file:
                file.write(_QUIET)
        flink_jars = [*(home / "lib").glob("*.jar"), *(home / "opt").glob("flink-python-*.jar")]
        for jar in (*flink_jars, *jars):
            link = self.folder / "lib" / jar.name
            link.unlink(missing_ok=True)
            link.symlink_to(jar.resolve())
        options = {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.rpc.port": str(rpc_port),
            "jobmanager.bind-host": "127.0.0.1",
            "jobmanager.memory.process.size": "1024m",
            "taskmanager.host": "127.0.0.1",
            "taskmanager.bind-host": "127.0.0.1",
            "taskmanager.numberOfTaskSlots": str(slots),
            "taskmanager.load-balance.mode": "SLOTS",
            "taskmanager.memory.process.size": "1280m",
            # State lies on the heap and Python in the JVM's own process: little of this is used.
            "taskmanager.memory.managed.size": "64m",
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": str(self.port),
            # A cluster on loopback lives for minutes, on few cores. With both of its compilers
            # the JVM took most of two cores for the first minute (greetings after 1.8 s in the
            # middle, at 20 visits a second); with the first alone 100 ms after five seconds.
            **{f"env.java.opts.{part}": _FIRST_COMPILER for part in _JAVA_PARTS},
            # A TaskManager that died is missed after two calls that fail, 2 s. The time limit is
            # for one that is only starved (at 5 s, living ones were given up at a load of 17), and
            # for a JobManager, which TaskManagers miss by it alone.
            "heartbeat.interval": "1000",
            "heartbeat.timeout": "10000",
            "io.tmp.dirs": str(self.folder / "tmp"),
            "execution.checkpointing.dir": self.checkpoints.as_uri(),
            "execution.checkpointing.savepoint-dir": (self.folder / "savepoints").as_uri(),
            **more,
        }
        java_options = _java_options(home / "conf" / "config.yaml")
        lines = [f"env.java.opts.all: {java_options}"]
        lines += [f"{name}: {value}" for name, value in options.items()]
        text = "\n".join(lines) + "\n"
        (self.folder / "conf" / "config.yaml").write_text(text, encoding="utf-8")


def flink_home() -> Path:
    """Return where the pip package keeps Flink.

    Raises
    ------
    ResourceError
        When it is not installed.
    """
    spec = find_spec("pyflink")
    if spec is None or spec.origin is None:
        problem = "PyFlink is not installed here"
        cure = "Install the extra in an environment of its own: pip install 'pho[flink]'"
        raise ResourceError(problem, cure)
    return Path(spec.origin).parent


def flink_script(name: str, variables: Mapping[str, str], *arguments: str) -> list[str]:
    """Return the command of one of Flink's scripts, with variables beside those there are.

    This Python stands first in its path: the library of the first `python` is what thread mode
    loads, and the only way to say so.
    """
    first = 'PATH="$1:$PATH"; shift; exec env "$@"'
    given = [f"{variable}={value}" for variable, value in variables.items()]
    script = str(flink_home() / "bin" / name)
    here = str(Path(sys.executable).parent)
    return ["bash", "-c", first, "bash", here, *given, "bash", script, *arguments]


def _java_options(path: Path) -> str:
    """Return what Java must open for Flink, as the pip package ships it."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip().startswith("all: "):
            return line.strip().removeprefix("all: ")
    problem = f"{path} names no env.java.opts.all"
    raise ResourceError(problem, "Install apache-flink again")


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
