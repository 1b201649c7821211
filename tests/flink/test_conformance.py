"""Every keyed operator on Flink: many logs of chance in one job, each answered as by the reference.

Each operator has topics of its own, written in one go by the bridge; the logs have disjoint keys
and lie one after the other in log time.

Gaps, against tests/conformance: `never`, the whole loop in lock-step (nobody can hold a job still
between two records; test_bad_input.py runs the whole loop live) and log times of what is given out
(the broker's own); `never`, each version of a policy (coalesced: the last one counts); `notyet`, a
shared record that changes in the middle of a corpus (broadcast has no order against the events).

Mistakes in the order are tried in tests/engines/test_one_key.py, which needs no cluster.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from corpora import Log, corpus, rows_of, wanted_of
from flink_runs import Topics, running
from operator_logs import LOGS
from schemas.codec import encode
from worlds import START_MS, loop

COUNT = 160
pytestmark = pytest.mark.timeout(300)


class Answered:
    """What one job made of the corpora."""

    def __init__(self) -> None:
        self.logs: dict[str, list[Log]] = {name: corpus(name, COUNT) for name in LOGS}
        self.topics = {name: Topics(f"conformance-{name}") for name in LOGS}


@pytest.fixture(scope="module")
def answered() -> Iterator[Answered]:
    them = Answered()
    config = loop()
    # As `pho submit` tells it: the first visitor is decided for by a job that knows its loop.
    initial = (("loops", f"greeting/{config.config_hash}", 0, 0, START_MS, encode(config).hex()),)
    several = [
        topics.settings(name, initial=initial if name == "decide" else ())
        for name, topics in them.topics.items()
    ]
    for name, topics in them.topics.items():
        topics.bridge(name, rows_of(name, them.logs[name]))
    with running(*several) as job:
        for name, topics in them.topics.items():
            job.wait_for(name, topics)
        yield them
        job.check()
    for topics in them.topics.values():
        topics.close()


@pytest.mark.parametrize("name", LOGS)
def test_every_log_of_the_corpus_has_the_answer_of_the_reference(
    name: str, answered: Answered
) -> None:
    logs = answered.logs[name]
    assert len(logs) == COUNT
    assert sum(bool(wanted_of(name, log)) for log in logs) > COUNT / 3
    if wrong := answered.topics[name].answer(name, logs):
        # Not as an assertion: pytest would take the text apart, which is long.
        pytest.fail(wrong, pytrace=False)
