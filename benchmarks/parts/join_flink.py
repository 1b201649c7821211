"""PyFlink's local cluster on a real Kafka: the job as `pho submit` builds it, with the join only.

The warm-up is written first, and its outcomes waited for. What is measured is written in one
transaction, which the job does not see before it is committed: the clock runs from that moment to
the last outcome in its topic. One partition and one slot; a checkpoint every second.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.parts.join_case import Given, Run, join_part
from connectors.kafka_address import KafkaAddress
from connectors.kafka_topics import create_topics
from connectors.logs import Row
from engines.flink.graph import loop_job
from engines.flink.jar import connector_jar, loop_jar
from engines.flink.main import environment
from engines.flink.settings import JobSettings
from schemas.streams import SIDE_STREAMS

PREFIX = "join"
TIME_LIMIT_S = 90.0
"""Without another outcome; a busy machine takes a minute to start a job."""
_QUIET_S = 1.0


class Topics:
    """The topics of one run.

    Parameters
    ----------
    servers : str
        The broker.
    prefix : str
        What their names begin with.
    """

    def __init__(self, servers: str, prefix: str) -> None:
        self.address = KafkaAddress.parse(f"kafka://{servers}/{prefix}")
        create_topics(self.address, partitions=1, bridged=True)
        self._producer = Producer(
            {"bootstrap.servers": servers, "transactional.id": prefix, "linger.ms": 5}
        )
        self._producer.init_transactions()
        self._consumer = Consumer({"bootstrap.servers": servers, "group.id": prefix})
        out = ("outcomes", *SIDE_STREAMS)
        self._stream_of = {self.address.topic(stream): stream for stream in out}
        self._consumer.assign([TopicPartition(topic, 0, 0) for topic in self._stream_of])

    def write(self, rows: list[Row]) -> None:
        """Write rows where nobody sees them before `show`."""
        self._producer.begin_transaction()
        inputs = join_part().inputs
        for row in rows:
            for stream in inputs if row.stream == "ticks" else (row.stream,):
                topic, at_ms = self.address.topic(stream), row.log_time_ms
                while True:
                    try:
                        self._producer.produce(topic, row.value, row.key, 0, timestamp=at_ms)
                        break
                    except BufferError:
                        self._producer.poll(1.0)
        self._producer.flush()

    def show(self) -> None:
        """Make what was written visible."""
        self._producer.commit_transaction()

    def outcomes(self, count: int) -> list[Given]:
        """Return what the job gave out until there are so many distinct outcomes."""
        given: list[Given] = []
        found: set[bytes] = set()
        until_s = time.monotonic() + TIME_LIMIT_S
        while len(found) < count:
            some = self._poll(0.1)
            if some:
                given += some
                until_s = time.monotonic() + TIME_LIMIT_S
            elif time.monotonic() > until_s:
                problem = f"{len(found)} outcomes of {count}, then none in {TIME_LIMIT_S:.0f} s"
                raise TimeoutError(problem)
            found.update(value for stream, _, value in some if stream == "outcomes")
        return given

    def rest(self) -> list[Given]:
        """Return what comes besides, until nothing does."""
        given: list[Given] = []
        while some := self._poll(_QUIET_S):
            given += some
        return given

    def _poll(self, wait_s: float) -> list[Given]:
        given: list[Given] = []
        for message in self._consumer.consume(10_000, wait_s):
            if message.error():
                raise RuntimeError(str(message.error()))
            stream = self._stream_of[message.topic() or ""]
            given.append((stream, (message.key() or b"").decode(), message.value() or b""))
        return given


def _end_with(client: object) -> None:
    """End this process when the job fails: nobody would ever see an outcome."""
    try:
        client.get_job_execution_result().result()  # type: ignore[attr-defined]
    except BaseException as error:  # noqa: BLE001 - in a thread, whose errors nobody takes
        text = str(error)
        print(text[max(text.rfind("Caused by"), 0) :][:2000], flush=True)
        os._exit(1)


def main() -> None:
    """Run it."""
    run = Run()
    case = run.case
    with run.laying():
        topics = Topics(case.servers, f"{PREFIX}-{run.folder.name}")
        topics.write(run.warm_up.rows)
        topics.show()
    jars = f"file://{connector_jar()};file://{loop_jar(case.java, Path(case.jars))}"
    settings = JobSettings(
        servers=case.servers,
        prefix=topics.address.prefix,
        operators=("join",),
        restart_attempts=0,
    )
    checkpoints = (run.folder / "checkpoints").as_uri()
    options = {"pipeline.jars": jars, "execution.checkpointing.dir": checkpoints}
    env = environment(settings, options)
    loop_job(env, settings)
    client = env.execute_async("join")
    threading.Thread(target=_end_with, args=(client,), daemon=True).start()
    warm_up = topics.outcomes(run.warm_up.visits)
    with run.laying():
        warm_up += topics.rest()
        topics.write(run.measured.rows)
    with run.measuring():
        topics.show()
        measured = topics.outcomes(run.measured.visits)
    run.answer(warm_up, measured + topics.rest())
    os._exit(0)  # the job is thrown away with its cluster; to cancel it in order takes seconds


if __name__ == "__main__":
    main()
