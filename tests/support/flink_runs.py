"""Jobs in PyFlink's local cluster, on topics of a real broker."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from py4j.protocol import Py4JJavaError
from pyflink.java_gateway import get_gateway

from brokers import shared_broker
from connectors.bridge import POSITION, Bridge
from connectors.jars import fetch_jars
from connectors.java import fetch_java
from connectors.kafka_address import KafkaAddress
from connectors.kafka_clients import Incoming, KafkaClient, connect
from connectors.kafka_topics import create_topics
from connectors.logs import Row
from connectors.reading_back import read_between
from corpora import Log, Place, Said, differences, part_of, said
from engines.flink.graph import loop_job
from engines.flink.jar import connector_jar, loop_jar
from engines.flink.main import environment
from engines.flink.settings import JobSettings
from schemas.streams import SIDE_STREAMS, STREAMS

Build = Callable[[Any, JobSettings], None]

PARTITIONS = 3
TIME_LIMIT_S = 100.0
_STEP_S = 0.3
_SETTLE_S = 0.5


@cache
def jars() -> str:
    """Return the jars a job needs, as Flink takes them."""
    fetch_jars("flink_kafka")
    ours = loop_jar(fetch_java(), Path(tempfile.mkdtemp(prefix="pho-jar-")))
    return f"file://{connector_jar()};file://{ours}"


class Topics:
    """The topics of one prefix: what a test writes there, and what a job does.

    Parameters
    ----------
    prefix : str
        What their names begin with.
    bridged : bool
        True: the writer sets log times; False: the broker.
    """

    def __init__(self, prefix: str, *, bridged: bool = True) -> None:
        self.prefix = prefix
        self.address = KafkaAddress.parse(f"kafka://{shared_broker().bootstrap}/{prefix}")
        self.client: KafkaClient = connect(self.address, client="confluent")
        # librdkafka 2.16 ends the process where a group's coordinator is not found yet.
        self.groups: KafkaClient = connect(self.address, client="kafka-python")
        create_topics(self.address, partitions=PARTITIONS, bridged=bridged)
        self.counts = self.client.partitions(map(self.address.topic, STREAMS))

    def settings(self, *operators: str, **changes: Any) -> JobSettings:
        """Return what a job on them is told."""
        return JobSettings(
            servers=self.address.bootstrap,
            prefix=self.prefix,
            operators=operators,
            restart_attempts=0,
            **{"checkpoint_interval_ms": 1_000, **changes},
        )

    def bridge(self, operator: str, rows: Iterable[Row]) -> None:
        """Write a log, or what follows, to the inputs of an operator, Ticks to every partition."""
        Bridge(self.client, part_of(operator).inputs).copy(rows)

    def records(self, *streams: str) -> list[Incoming]:
        """Return all that stands in some streams now."""
        places = self._places(streams)
        return read_between(self.client, self.client.starts(places), self.client.ends(places))

    def given_out(self, operator: str) -> Counter[Said]:
        """Return what an operator has given out by now, of coalesced snapshots the last."""
        positions = self.positions(operator)
        told: Counter[Said] = Counter()
        newest: dict[str, Said] = {}
        for record in self.records(*part_of(operator).outputs, *SIDE_STREAMS):
            stream = record.topic.removeprefix(f"{self.prefix}.")
            key = (record.key or b"").decode()
            each = said(stream, key, record.value or b"", positions)
            if stream == "policies":
                newest[key] = each
            else:
                told[each] += 1
        return told + Counter(newest.values())

    def positions(self, operator: str) -> dict[Place, int]:
        """Return where in its log each bridged record stood."""
        found = {}
        for record in self.records(*part_of(operator).inputs):
            header = dict(record.headers).get(POSITION, b"//-1").decode()
            stream = record.topic.removeprefix(f"{self.prefix}.")
            found[stream, record.partition, record.offset] = int(header.rpartition("/")[2])
        return found

    def answer(self, operator: str, logs: Sequence[Log]) -> str:
        """Say what is wrong with what an operator gave out; nothing: nothing is."""
        return differences(operator, logs, self.given_out(operator))

    def is_read(self, operator: str) -> bool:
        """Whether a checkpoint of the job lies behind all there is to read."""
        places = self._places(part_of(operator).inputs)
        done = self.groups.committed(f"pho.{self.prefix}.{operator}")
        return all(done.get(place, 0) >= end for place, end in self.client.ends(places).items())

    def close(self) -> None:
        """Let go of the clients; the broker goes with the run."""
        self.client.close()
        self.groups.close()

    def _places(self, streams: Iterable[str]) -> list[tuple[str, int]]:
        topics = [self.address.topic(stream) for stream in streams]
        return [(topic, number) for topic in topics for number in range(self.counts[topic])]


class Job:
    """One job, started.

    Parameters
    ----------
    several : sequence of JobSettings
        What it consists of: operators of several prefixes may run in one job, each once.
    options : dict
        Further options of Flink.
    build : callable
        Builds it on an environment.
    """

    def __init__(
        self, several: Sequence[JobSettings], options: dict[str, str], build: Build = loop_job
    ) -> None:
        env = environment(several[0], {"pipeline.jars": jars(), **options})
        for settings in several:
            build(env, settings)
        self.client = env.execute_async("conformance")
        self.started_s = time.monotonic()

    def wait_until(self, happened: Any, what: str, limit_s: float = TIME_LIMIT_S) -> None:
        """Wait until something is true; fail when the job fails first."""
        until_s = time.monotonic() + limit_s
        while not happened():
            self.check()
            assert time.monotonic() < until_s, f"within {limit_s} s: not {what}"
            time.sleep(_STEP_S)

    def wait_for(self, operator: str, topics: Topics) -> None:
        """Wait until an operator has read all there is, and what then falls due has fired."""
        self.wait_until(lambda: topics.is_read(operator), f"{operator} has read all")
        # Watermarks are made every 200 ms; what they bring is written at once.
        time.sleep(_SETTLE_S)

    def check(self) -> None:
        """Fail with the job's own error where it failed."""
        try:
            status = self.client._j_job_client.getJobStatus().get().toString()
        except Py4JJavaError:
            status = "FAILED"  # and its cluster with it
        if status in ("FAILING", "FAILED"):
            try:  # a job that is failing still waits for its tasks: its error comes with its end
                self.client.get_job_execution_result().result()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is shown
                text = str(error)
            pytest.fail(text[max(0, text.rfind("Caused by")) :][:3_000], pytrace=False)
        assert status not in ("CANCELED", "FINISHED"), status

    def stop_with_savepoint(self, folder: Path) -> str:
        """Stop it; return where its savepoint is."""
        formats = get_gateway().jvm.org.apache.flink.core.execution.SavepointFormatType
        stopping = self.client._j_job_client.stopWithSavepoint(
            False, folder.as_uri(), formats.CANONICAL
        )
        return str(stopping.get())

    def cancel(self) -> None:
        """End it."""
        with contextlib.suppress(Exception):
            self.client.cancel().result()


@contextlib.contextmanager
def running(
    *several: JobSettings,
    savepoint: str = "",
    options: dict[str, str] | None = None,
    build: Build = loop_job,
) -> Iterator[Job]:
    """Run a job, from its beginning or from a savepoint, with further options of Flink."""
    # Else a local environment lends operators this very process, and what was never shipped would
    # be there all the same.
    os.environ["_python_worker_execution_mode"] = "process"
    start = {"execution.state-recovery.path": savepoint} if savepoint else {}
    job = Job(several, start | (options or {}), build)
    try:
        yield job
    finally:
        job.cancel()
