"""The whole loop on real servers: a broker, a Flink cluster, both jobs, a ticker, a camera.

Each part is a process of its own, which can be killed and started again while the others go on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

import worlds
from connectors.jars import fetch_jars
from connectors.java import fetch_java
from connectors.kafka_address import KafkaAddress
from connectors.kafka_clients import connect
from connectors.kafka_log import KafkaLog
from connectors.kafka_topics import create_topics
from connectors.local_kafka import LocalKafka
from engines.flink.jar import connector_jar, loop_jar
from engines.flink.local_cluster import LocalFlink
from engines.flink.settings import JobSettings
from engines.flink.submitting import Submission, newest_checkpoint, running, submit
from engines.job import configure
from engines.service_settings import Services
from schemas.errors import ResourceError
from schemas.loops import LoopConfigured

SUPPORT = Path(__file__).resolve().parent
PREFIX = "shop"
JOBS = ("loop", "analyze")
HORIZON_MS = 600_000
"""A repeat that comes later than this is no repeat any more: longer than any recovery here."""
_END_S = 30.0
_REGISTERED_S = 120.0


class Stand:
    """Everything the loop needs, on this machine.

    Parameters
    ----------
    folder : Path
        Holds all of it.
    config : LoopConfigured, optional
        The loop; None: that of `worlds.loop`, whose windows last 5 s, with a horizon of 10 min.
    bridged : bool
        True: who writes the topics sets log times.
    options : mapping, optional
        Further options of Flink.
    more_jars : tuple of Path
        Jars beside the loop's own.
    python_path : tuple of Path
        Folders workers import from beside that of the tests' support.
    checkpoint_interval_ms : int
        Time between two checkpoints, ms; short where a test waits for one.
    """

    def __init__(
        self,
        folder: Path,
        config: LoopConfigured | None = None,
        *,
        bridged: bool = False,
        options: Mapping[str, str] | None = None,
        more_jars: tuple[Path, ...] = (),
        python_path: tuple[Path, ...] = (),
        checkpoint_interval_ms: int = 1_000,
    ) -> None:
        self.folder = folder
        self.config = config or worlds.loop(rules={"dedup_horizon_ms": HORIZON_MS})
        self.checkpoint_interval_ms = checkpoint_interval_ms
        self.jobs: dict[str, str] = {}
        self.revived = 0
        self._bridged = bridged
        self._beside: dict[str, subprocess.Popen[bytes]] = {}
        self.java = fetch_java()
        fetch_jars("flink_kafka")
        self.broker = LocalKafka(folder / "kafka", self.java, fetch_jars("kafka_broker"))
        jars = (connector_jar(), loop_jar(self.java, folder / "jar"))
        self.flink = LocalFlink(
            folder / "flink",
            self.java,
            (*jars, *more_jars),
            options=options,
            python_path=(SUPPORT, *python_path),
        )

    def start(self) -> None:
        """Start broker and cluster, make the topics, and put the loop's configuration in."""
        self.broker.start()
        create_topics(self.address, bridged=self._bridged)
        with self.log() as log:
            configure(log, (self.config,))
        self.flink.start()

    @property
    def address(self) -> KafkaAddress:
        """Where the topics are."""
        return KafkaAddress.parse(f"kafka://{self.broker.bootstrap}/{PREFIX}")

    @property
    def pictures(self) -> Path:
        """Folder of the pictures in flight; the ticker sweeps it."""
        return self.folder / "data" / "pictures"

    @property
    def settings(self) -> JobSettings:
        """What the jobs are told."""
        return JobSettings(
            servers=self.broker.bootstrap,
            prefix=PREFIX,
            parallelism=2,
            checkpoint_interval_ms=self.checkpoint_interval_ms,
            checkpoints=self.flink.checkpoints.as_uri(),
            services=Services(
                analyser="slow_looks:SlowLooks", concurrency=16, pictures=str(self.pictures)
            ),
        )

    @contextlib.contextmanager
    def log(self) -> Any:
        """Open the log for a look."""
        log = KafkaLog(connect(self.address, client="confluent"))
        try:
            yield log
        finally:
            log.close()

    def submit(self, job: str, savepoint: str | None = None, **changes: Any) -> None:
        """Hand one job to the cluster; `changes` replace what it is told."""
        told = {"parallelism": 2 if job == "loop" else 1, **changes}
        settings = msgspec.structs.replace(self.settings, **told)
        submission = Submission(
            job,
            settings,
            f"127.0.0.1:{self.flink.port}",
            savepoint=savepoint,
            variables=self.flink.variables,
        )
        try:
            self.jobs[job] = submit(submission, self.folder / f"submit-{job}")
        except ResourceError:
            # A machine that has much else to do starts Python's processes in minutes.
            there = running(self.flink.rest, job, PREFIX)
            if there is None or self.flink.rest.error(there):
                raise
            self.jobs[job] = there
            self.wait_until_running((job,))

    def submit_all(self, *, resume: bool = False) -> None:
        """Hand both jobs to the cluster, with `resume` from their newest checkpoints."""
        where = dict.fromkeys(JOBS)
        if resume:
            where = {job: self.newest_checkpoint(job) for job in JOBS}
        # Two clients at once: each waits more than it works.
        with ThreadPoolExecutor(len(JOBS)) as pool:
            list(pool.map(self.submit, where, where.values()))

    def newest_checkpoint(self, job: str) -> str | None:
        """Return the newest retained checkpoint of a job."""
        return newest_checkpoint(self.flink.checkpoints.as_uri(), job, PREFIX)

    # Processes beside

    def start_ticker(self) -> None:
        """Start `pho ticks`."""
        self.pictures.mkdir(mode=0o700, parents=True, exist_ok=True)
        pho = Path(sys.executable).with_name("pho")
        arguments = ["ticks", "--log", str(self.address), "--data", str(self.folder / "data")]
        self.start_beside("ticker", [str(pho), *arguments])

    def start_beside(self, name: str, command: list[str]) -> None:
        """Start a process that is killed at the end of the stand at the latest."""
        path = os.pathsep.join((str(SUPPORT.parents[1]), str(SUPPORT)))
        inherited = {n: v for n, v in os.environ.items() if not n.startswith("PHO_")}
        with (self.folder / f"{name}.out").open("ab") as output:
            self._beside[name] = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**inherited, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def end_beside(self, name: str, how: signal.Signals = signal.SIGTERM) -> int:
        """End such a process; return its status."""
        process = self._beside.pop(name)
        process.send_signal(how)
        return process.wait(_END_S)

    def check_beside(self) -> None:
        """Fail where a process beside has ended by itself."""
        for name, process in self._beside.items():
            said = (self.folder / f"{name}.out").read_text(encoding="utf-8", errors="replace")
            assert process.poll() is None, f"{name} ended: {said[-1_000:]}"

    # Kills

    def kill_taskmanager(self, number: int) -> None:
        """End a TaskManager at once, and start another."""
        self.flink.kill(f"taskmanager-{number}")
        self.flink.start_taskmanager(number)

    def restart_taskmanagers(self) -> None:
        """End all TaskManagers and start others."""
        for number in range(self.flink.count):
            self.flink.kill(f"taskmanager-{number}")
        until_s = time.monotonic() + _REGISTERED_S
        while self._registered() > 0:
            assert time.monotonic() < until_s, "the TaskManagers are still registered"
            time.sleep(0.2)
        for number in range(self.flink.count):
            self.flink.start_taskmanager(number)
        self.flink.wait(self.flink.count)

    def kill_jobmanager(self) -> None:
        """End the JobManager at once; start another, and both jobs from their checkpoints."""
        self.flink.kill("jobmanager")
        self.flink.start_jobmanager()
        until_s = time.monotonic() + _REGISTERED_S
        while self._registered() < self.flink.count:
            self.revive()
            assert time.monotonic() < until_s, "the TaskManagers did not come back"
            time.sleep(0.2)
        self.submit_all(resume=True)

    def revive(self) -> None:
        """Start the TaskManagers again that ended by themselves, as any supervisor of theirs does.

        One may: where the runner of Python's processes is closed twice, Flink 2.2.1 takes Beam's
        "Reference count must not be negative" for fatal (seen after a JobManager was gone).
        """
        for number in range(self.flink.count):
            process = self.flink.processes.get(f"taskmanager-{number}")
            # None: killed by us, and not started again yet.
            if process is not None and process.poll() is not None:
                self.flink.start_taskmanager(number)
                self.revived += 1

    def _registered(self) -> int:
        try:
            return self.flink.rest.taskmanagers()
        except ResourceError:
            return 0

    def kill_broker(self) -> None:
        """End the broker at once, and start it on what it has written."""
        self.broker.kill()
        self.broker.start()

    def wait_until_running(self, jobs: Iterable[str] = JOBS, limit_s: float = 180.0) -> None:
        """Wait until every task of some jobs runs."""
        until_s = time.monotonic() + limit_s
        while not all(self.flink.rest.all_running(self.jobs[job]) for job in jobs):
            assert time.monotonic() < until_s, self.errors()
            time.sleep(0.2)

    def errors(self) -> str:
        """Return what the cluster says went wrong, for whoever reads a failure."""
        texts = [f"{job}: {self.flink.rest.error(job_id)}" for job, job_id in self.jobs.items()]
        return "\n".join(texts)[:4_000]

    def stop(self) -> None:
        """End everything."""
        for name in list(self._beside):
            self.end_beside(name, signal.SIGKILL)
        self.flink.stop()
        self.broker.stop()

    def __enter__(self) -> Stand:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
