"""A job stopped with a savepoint in the middle of its work, and restored with twice the tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from corpora import corpus, rows_of, sum_of
from flink_runs import Topics, running
from operator_logs import LOGS
from schemas.codec import encode
from worlds import START_MS, loop

COUNT = 60
pytestmark = pytest.mark.timeout(180)


def test_a_job_restored_with_twice_the_tasks_keeps_every_key(
    tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    # All at the same time: where the job is stopped, most keys have a state.
    logs = {name: corpus(name, COUNT, stretch_ms=0) for name in LOGS}
    rows = {name: rows_of(name, logs[name]) for name in LOGS}
    topics = {name: Topics(f"restart-{name}") for name in LOGS}
    config = loop()
    initial = (("loops", f"greeting/{config.config_hash}", 0, 0, START_MS, encode(config).hex()),)

    def feed(share: float) -> None:
        for name in LOGS:
            topics[name].bridge(name, rows[name][: int(share * len(rows[name]))])

    feed(0.5)
    told = [topics[n].settings(n, initial=initial if n == "decide" else ()) for n in LOGS]
    with running(*told) as job:
        for name in LOGS:
            job.wait_for(name, topics[name])
        feed(0.75)
        savepoint = job.stop_with_savepoint(tmp_path)
    before = {name: topics[name].given_out(name) for name in LOGS}
    feed(1.0)
    # Its operators read nothing anew: the configuration they were told is in the savepoint too.
    twice = [topics[name].settings(name, parallelism=2) for name in LOGS]
    with running(*twice, savepoint=savepoint) as job:
        for name in LOGS:
            job.wait_for(name, topics[name])
    for name in LOGS:
        wanted, given = sum_of(name, logs[name]), topics[name].given_out(name)
        if name != "learn":
            assert 0 < before[name].total() < wanted.total(), name
        assert given.keys() == wanted.keys(), topics[name].answer(name, logs[name])
        record_property(f"{name}: written again", (given - wanted).total())
        topics[name].close()
