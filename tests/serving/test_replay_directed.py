"""Promotions, rollbacks, shadows and erasures, and their replay."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from replayed import altered, rows_of, verdicts
from schemas.codec import decode, encode
from serving.replay.running import ERASED
from shops import Shop


def test_promotions_rollbacks_and_shadows_are_identical(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.visit(5)
    shop.direct("explore", floor_ppb=200_000_000)
    shop.visit(3)
    shop.direct("promote", "calm")
    shop.visit(4)
    shop.start_anew("rollback", 1)
    shop.visit(3)
    shop.direct("promote", "main")
    shop.direct("promote", "nobody")
    shop.visit(3)
    shop.close()
    decisions = [decode(row.value) for row in rows_of(tmp_path, "decisions")]
    made_by = {(d.choice.policy_id, d.choice.epoch) for d in decisions}
    assert made_by == {("main", 0), ("calm", 0), ("main", 1)}
    assert all(len(decision.choice.shadows) == 2 for decision in decisions)
    told = verdicts(tmp_path)
    assert told.holds, told.document()
    assert told.verdicts[2].identical == 18


def test_a_shadow_that_says_something_else_is_named(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.visit(4)
    shop.close()
    row = rows_of(tmp_path, "decisions")[2]
    decision = decode(row.value)
    offer, other = decision.choice.shadows
    first, second, third = offer.probabilities_ppb
    offer = dataclasses.replace(offer, probabilities_ppb=(first + 1, second - 1, third))
    choice = dataclasses.replace(decision.choice, shadows=(offer, other))
    with altered(tmp_path, row, encode(dataclasses.replace(decision, choice=choice))):
        told = verdicts(tmp_path).verdicts[2]
        assert told.differences[0].startswith("decision v3: choice.shadows[0].probabilities_ppb[0]")
        assert verdicts(tmp_path, 1).verdicts[2].holds


def test_decisions_of_an_epoch_that_an_erasure_ended_cannot_be_replayed(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.visit(4)
    shop.start_anew("erase", 1)
    shop.visit(3)
    shop.close()
    told = verdicts(tmp_path)
    assert told.holds, told.document()
    assert told.verdicts[2].identical == 3
    assert told.verdicts[2].beside == {ERASED: 4}


def test_an_erasure_that_was_refused_hides_nothing(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.visit(4)
    shop.start_anew("erase", 7)
    shop.visit(3)
    shop.close()
    told = verdicts(tmp_path)
    assert told.verdicts[2].identical == 7
    assert not told.verdicts[2].beside
