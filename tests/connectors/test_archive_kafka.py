"""The archive of a log on a real Kafka broker: partitions, Ticks among the events, read on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from brokers import fresh_topics, open_log
from connectors.archive import ArchiveReader
from connectors.archive_sources import until_ms
from connectors.archive_writer import Archiver
from connectors.bridge import Bridge
from connectors.kafka_clients import connect
from connectors.kafka_log import JOINED_STREAMS
from connectors.local_kafka import LocalKafka
from engines.beam.per_key import ordered, run_keys
from history import given_by_join
from pipelines.topology import greeting_loop
from runs import EmbeddedRun
from schemas.streams import STREAMS
from visits import play
from worlds import rewarded

JOIN = next(part for part in greeting_loop().keyed if part.name == "join")


def test_topics_come_back_byte_by_byte_and_close_the_same_windows(
    broker: LocalKafka, tmp_path: Path
) -> None:
    run = EmbeddedRun(greeting_loop(), tmp_path / "log")
    play(run, 20)
    rows = list(run.log.scan())
    run.close()
    folder = tmp_path / "archive"
    with fresh_topics(broker.bootstrap, partitions=3, bridged=True) as address:
        client = connect(address, client="confluent")
        bridge = Bridge(client, JOINED_STREAMS)
        with open_log(address) as log:
            copied = [row for row in rows if row.stream in bridge.names]
            bridge.copy(copied[: len(copied) // 2])
            first = Archiver(log, folder, tables=False).run(until_ms("now", log))
            bridge.copy(copied[len(copied) // 2 :])
            second = Archiver(log, folder, tables=False).run(until_ms("now", log))
            assert first.rows > 0 < second.rows
            assert Archiver(log, folder, tables=False).run(until_ms("now", log)).rows == 0
            reader = ArchiveReader(folder)
            for streams in (tuple(STREAMS), JOIN.inputs, ("ticks",)):
                assert list(reader.scan(*streams)) == list(log.scan(*streams))
        client.close()
    partitions = {part.partition for part in reader.manifest.parts if part.stream == "analyses"}
    assert partitions == {0, 1, 2}
    # Ticks closed what nobody else did.
    mine = [each for row in reader.scan(*JOIN.inputs) if (each := ordered(JOIN, row))]
    given = run_keys(JOIN, mine, reader.complete_through_ms())
    outcomes = Counter((e.stream, e.key, e.value) for e in given if e.stream == "outcomes")
    live = given_by_join(row for row in rows if row.stream == "outcomes")
    assert outcomes == live
    assert len(live) == 20


def test_what_is_appended_while_it_archives_comes_with_the_next_run(
    broker: LocalKafka, tmp_path: Path
) -> None:
    with (
        fresh_topics(broker.bootstrap, partitions=2) as address,
        open_log(address) as log,
        open_log(address) as another,
    ):
        rewards = [rewarded(f"v{n}", 1, 0.5, log.clock()) for n in range(50)]
        log.append_all(("rewards", value) for value in rewards)

        def meanwhile(step: str) -> None:
            if step == "part.written":
                another.append_all(("rewards", value) for value in rewards)

        Archiver(log, tmp_path / "archive", tables=False, steps=meanwhile).run(2**62)
        Archiver(log, tmp_path / "archive", tables=False).run(2**62)
        told = Counter(row.value for row in ArchiveReader(tmp_path / "archive").scan("rewards"))
        assert told == Counter(row.value for row in log.scan("rewards"))
        assert sum(told.values()) >= 100
