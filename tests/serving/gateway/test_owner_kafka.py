"""The owner's page on Kafka: what it says of topics is what it says of the same log in a folder."""

from __future__ import annotations

from pathlib import Path

from brokers import fresh_topics, open_log, shared_broker
from connectors.kafka_clients import connect
from connectors.kafka_log import KafkaLog
from owner_shops import folded, rows_of, simulated
from serving.gateway.owner_board import OwnerBoard
from serving.gateway.owner_fold import FOLDED
from waiting import wait_until

VISITS = 40


def test_topics_that_grow_say_what_a_folder_says(tmp_path: Path) -> None:
    rows = [row for row in rows_of(simulated(tmp_path / "shop", VISITS)) if row.stream in FOLDED]
    middle = len(rows) // 2
    with fresh_topics(shared_broker().bootstrap, bridged=True) as address:
        board = OwnerBoard(lambda: KafkaLog(connect(address, client="confluent")))
        with open_log(address) as log:
            log.append_at(rows[:middle])
            board.start()
            try:
                wait_until(lambda: board.reading.caught_up or bool(board.reading.problem), 60.0)
                assert board.reading.problem == ""
                assert board.fold.loop("greeting").decisions < VISITS
                log.append_at(rows[middle:])
                wait_until(lambda: board.fold.records == len(rows), 60.0)
            finally:
                board.close()
    whole, found = folded(rows), board.fold
    # A tail brings partitions as they come, so that an outcome may come before its decision.
    assert found.book.ledger(found.sides, 0, 5_000) == whole.book.ledger(whole.sides, 0, 5_000)
    theirs, mine = whole.loop("greeting").worth, found.loop("greeting").worth
    assert {k: v.reward.n for k, v in mine.by_action.items()} == {
        k: v.reward.n for k, v in theirs.by_action.items()
    }
