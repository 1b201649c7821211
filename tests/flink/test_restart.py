"""A job stopped with a savepoint in the middle of its work, and restored with twice the tasks."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from connectors.kafka_clients import Outgoing
from corpora import corpus, rows_of, sum_of
from flink_runs import Topics, running
from operator_logs import LOGS, answer_of
from schemas.codec import encode
from worlds import START_MS, loop

COUNT = 30
pytestmark = pytest.mark.timeout(300)


def test_a_job_restored_with_twice_the_tasks_keeps_every_key(tmp_path: Path) -> None:
    # All at the same time: where the job is stopped, most keys have a state.
    logs = {name: corpus(name, COUNT, stretch_ms=0) for name in LOGS}
    rows = {name: rows_of(name, logs[name]) for name in LOGS}
    topics = {name: Topics(f"restart-{name}") for name in LOGS}
    config = loop()
    initial = (("loops", f"greeting/{config.config_hash}", 0, 0, START_MS, encode(config).hex()),)

    def append_shared(stream: str, key: str, value: bytes) -> None:
        topic = topics["decide"].address.topic(stream)
        topics["decide"].client.produce([Outgoing(topic, key.encode(), value, START_MS)])

    def feed(share: float) -> None:
        for name in LOGS:
            topics[name].bridge(name, rows[name][: int(share * len(rows[name]))])

    append_shared(*initial[0][:2], encode(config))
    feed(0.5)
    told = [topics[n].settings(n, initial=initial if n == "decide" else ()) for n in LOGS]
    with running(*told) as job:
        for name in LOGS:
            job.wait_for(name, topics[name])
        # A later shared record, of another loop: it must not stand in for the first.
        answers = (answer_of("learn", log.entries).out("policies") for log in logs["learn"])
        key, _, snapshot = next(each for answer in answers for each in answer)
        append_shared("policies", key, snapshot)
        feed(0.75)
        time.sleep(1)
        savepoint = job.stop_with_savepoint(tmp_path)
    before = {name: topics[name].given_out(name) for name in LOGS}
    feed(1.0)
    twice = [msgspec.structs.replace(settings, parallelism=2) for settings in told]
    with running(*twice, savepoint=savepoint) as job:
        for name in LOGS:
            job.wait_for(name, topics[name])
    for name in LOGS:
        # Nothing is written again: whoever is stopped with a savepoint has written all before it.
        if wrong := topics[name].answer(name, logs[name]):
            pytest.fail(wrong, pytrace=False)
        # Every greeting is issued early, and of policies only the last counts.
        if name in ("decide", "join"):
            assert 0 < before[name].total() < sum_of(name, logs[name]).total(), name
        topics[name].close()
