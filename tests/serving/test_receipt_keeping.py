"""A process that keeps what it read tells the very same receipts, and learns little again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from connectors.embedded_log import EmbeddedLog
from connectors.logs import Row
from engines.rebuilding import Relearning
from forgetful import shop_of, visit_id
from history import play_and_archive
from owner_shops import rows_of, write
from policies.base import checksum_of
from policies.registry import prior
from schemas.codec import decode, encode
from schemas.loops import LoopConfigured
from schemas.operations import ErasureRequested
from schemas.outcomes import OutcomeClosed, PolicyDirected
from serving import receipt_keeping
from serving.receipt_keeping import ReceiptKeeping
from serving.receipt_reading import NoSuchDecision, read_receipt, receipt_of

VISITS = 48


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """Return a log of visits of every kind, which nobody can read all of."""
    folder = tmp_path_factory.mktemp("played")
    play_and_archive(folder, VISITS)
    return rows_of(folder / "log")


@pytest.fixture(params=[(3, 10**9), (2, 4_000)], ids=["all stages", "few stages"])
def short_strides(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let stages stand close, and let them be thinned out."""
    stride, stages_bytes = request.param
    monkeypatch.setattr(receipt_keeping, "STRIDE", stride)
    monkeypatch.setattr(receipt_keeping, "STAGES_BYTES", stages_bytes)
    monkeypatch.setattr(receipt_keeping, "BATCH", 7)


def twisted(rows: list[Row]) -> Iterator[Row]:
    """Yield a log's records, and between them outcomes again, other epochs, and bad bytes."""
    configs: list[LoopConfigured] = []
    closed: list[Row] = []
    for row in rows:
        yield row
        if row.stream != "outcomes":
            continue
        value = decode(row.value)
        if isinstance(value, LoopConfigured):
            configs.append(value)
        if not isinstance(value, OutcomeClosed):
            continue
        closed.append(row)
        count = len(closed)
        if count % 3 == 0:
            yield row
        if count % 7 == 0:
            yield closed[count // 2]
        if count == 8:
            yield row._replace(value=b"nobody can read this")
        if count in (10, 30):
            yield row._replace(value=encode(configs[-1]))
        if count in (12, 25, 26):
            yield row._replace(value=encode(start_anew(configs[-1], count)))


def start_anew(config: LoopConfigured, count: int) -> PolicyDirected:
    """Return what starts another epoch: at the prior, or where it does not fit, a dead letter."""
    policy = prior(config, config.policies[0])
    return PolicyDirected(
        f"d{count}", config.loop_id, "main", "prior", "test", "a test",
        new_epoch={12: 1, 25: 2, 26: 9}[count],
        arrays=policy.snapshot_arrays(),
        snapshot_checksum=checksum_of(policy),
    )  # fmt: skip


def told(read: Any, log: EmbeddedLog, decision_id: str) -> str:
    try:
        return json.dumps(read(log, decision_id).document())
    except NoSuchDecision as error:
        return str(error)


@pytest.mark.usefixtures("short_strides")
def test_every_receipt_is_told_in_the_same_words_however_the_log_grew(
    rows: list[Row], tmp_path: Path
) -> None:
    keeping, log_rows = ReceiptKeeping(), list(twisted(rows))
    names = [*(f"v{number}" for number in range(VISITS)), "nobody", "greeting"]
    epochs = set()
    parts = 4
    with closing(EmbeddedLog(tmp_path)) as log:
        for part in range(parts):
            low, high = (len(log_rows) * each // parts for each in (part, part + 1))
            write(tmp_path, log_rows[low:high])
            for name in names[part :: 1 if part == parts - 1 else 6]:
                assert told(keeping.read, log, name) == told(read_receipt, log, name)
        for number in range(VISITS):
            document = keeping.read(log, f"v{number}").document()
            epochs |= {each["epoch"] for each in document["learned"]}
    (course,) = keeping.courses.values()
    assert course.repeats
    assert len(course.stages) > 1
    assert epochs >= {0, 1, 2}


def test_what_is_learned_again_for_a_receipt_does_not_grow_with_the_log(
    rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipt_keeping, "STRIDE", 4)
    write(tmp_path, rows)
    keeping = ReceiptKeeping()
    with closing(EmbeddedLog(tmp_path)) as log:
        while keeping.catch_up(log):
            pass
        taken = 0
        take = Relearning.take

        def counted(self: Relearning, row: Row) -> Any:
            nonlocal taken
            taken += 1
            return take(self, row)

        monkeypatch.setattr(Relearning, "take", counted)
        monkeypatch.setattr(EmbeddedLog, "scan", None)
        for number in range(VISITS):
            taken = 0
            keeping.read(log, f"v{number}")
            # Two walks, each from the stage before.
            assert taken <= 2 * 4 + 2


def test_who_is_forgotten_has_no_receipt_and_the_others_are_told_as_the_log_stands(
    pho: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stages in which he is known stand before the others' outcomes.
    monkeypatch.setattr(receipt_keeping, "STRIDE", 2)
    folder = shop_of(tmp_path / "shop", range(9))
    keeping = ReceiptKeeping()
    with closing(EmbeddedLog(folder)) as log:
        before = told(keeping.read, log, visit_id(7))
    assert pho("forget", visit_id(4), "--data", folder).status == 0
    with closing(EmbeddedLog(folder)) as log:
        with pytest.raises(NoSuchDecision):
            keeping.read(log, visit_id(4))
        for number in range(9):
            name = visit_id(number)
            assert told(keeping.read, log, name) == told(read_receipt, log, name)
        assert told(keeping.read, log, visit_id(7)) != before


def test_another_log_in_the_same_folder_is_read_anew(rows: list[Row], tmp_path: Path) -> None:
    keeping = ReceiptKeeping()
    write(tmp_path / "one", rows)
    write(tmp_path / "two", [row for row in rows if row.key != "v5"])
    with closing(EmbeddedLog(tmp_path / "one")) as one:
        keeping.read(one, "v5")
    with closing(EmbeddedLog(tmp_path / "two")) as two:
        with pytest.raises(NoSuchDecision):
            keeping.read(two, "v5")
        for name in ("v2", "v9", "v40"):
            assert told(keeping.read, two, name) == told(read_receipt, two, name)


def test_somebody_forgotten_while_a_receipt_is_read_has_it_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shop_of(tmp_path / "shop", range(9))
    keeping = ReceiptKeeping()
    looked = 0

    def forgotten_meanwhile(lookup: Any, decision_id: str) -> Any:
        nonlocal looked
        looked += 1
        if looked == 1:
            log.append("erasures", ErasureRequested("0" * 64, "decision", 0))
        return receipt_of(lookup, decision_id)

    monkeypatch.setattr(receipt_keeping, "receipt_of", forgotten_meanwhile)
    with closing(EmbeddedLog(folder)) as log:
        keeping.read(log, visit_id(3))
    assert looked == 2
