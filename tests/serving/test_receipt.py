"""A receipt tells one decision's whole story, and of one that taught nothing why."""

from __future__ import annotations

import dataclasses
import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from connectors.archive import ArchiveReader
from connectors.embedded_log import EmbeddedLog
from engines.rebuilding import version_of
from history import play_and_archive
from policies.registry import prior
from schemas.codec import decode
from schemas.decisions import DecisionMade
from schemas.outcomes import OutcomeClosed, PolicySnapshot
from serving.receipt import Receipt
from serving.receipt_learning import weigh
from serving.receipt_page import page
from serving.receipt_reading import NoSuchDecision, read_receipt

VISITS = 40


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("played")
    play_and_archive(folder, VISITS)
    return folder


@pytest.fixture(scope="module")
def receipts(played: Path) -> dict[str, Receipt]:
    """Return the receipt of every decision."""
    log = EmbeddedLog(played / "log")
    found = {f"v{n}": read_receipt(log, f"v{n}") for n in range(VISITS)}
    log.close()
    return found


def text_of(receipt: Receipt) -> str:
    console = Console(width=110, record=True, file=StringIO())
    console.print(page(receipt))
    return console.export_text()


def test_it_says_what_the_decision_says(receipts: dict[str, Receipt]) -> None:
    for name, receipt in receipts.items():
        told, choice = receipt.document(), receipt.decision.choice
        assert told["decision_id"] == name
        assert told["known"]["features"] == dict(
            zip(receipt.config.feature_names, choice.features.dense, strict=True)  # type: ignore[union-attr]
        )
        assert sum(offer["probability"] for offer in told["offered"]) == pytest.approx(1.0)
        assert told["chosen"]["propensity"] == choice.propensity_ppb / 1e9
        json.dumps(told)


def test_the_draw_lies_in_the_stretch_that_is_named(receipts: dict[str, Receipt]) -> None:
    control = 0
    for receipt in receipts.values():
        choice = receipt.decision.choice
        low, high = receipt.segment
        assert low <= choice.draw_ppb / 1e9 < high
        width = high - low
        if choice.control:
            control += 1
            assert (low, high) == (0.0, choice.control_share_ppb / 1e9)
        else:
            share = choice.control_share_ppb * (choice.action_id == choice.baseline_id)
            assert width == pytest.approx((choice.propensity_ppb - share) / 1e9)
    assert control > 0


def test_contributions_add_up_to_what_was_expected(receipts: dict[str, Receipt]) -> None:
    weighed = [receipt.weighed for receipt in receipts.values() if receipt.weighed.expected]
    assert len(weighed) > VISITS // 2
    for each in weighed:
        assert len(each.expected) == 2
        for expected in each.expected:
            total = sum(part.reward for part in expected.contributions)
            assert total == pytest.approx(expected.mean, abs=1e-12)
    assert any(abs(expected.mean) > 0.1 for each in weighed for expected in each.expected)


def test_the_chosen_action_stands_beside_the_next_in_line(receipts: dict[str, Receipt]) -> None:
    for receipt in receipts.values():
        if receipt.weighed.expected:
            choice = receipt.decision.choice
            first, second = (expected.action for expected in receipt.weighed.expected)
            shares = {a.id: a.policy_probability_ppb for a in choice.actions}
            assert first == choice.action_id
            assert shares.pop(first) is not None
            assert shares[second] == max(shares.values())


def test_it_says_into_which_version_it_was_learned(
    played: Path, receipts: dict[str, Receipt]
) -> None:
    log = EmbeddedLog(played / "log")
    for receipt in receipts.values():
        outcome, (learnt,) = receipt.outcome, receipt.learnt
        assert outcome is not None
        if not outcome.learnable:
            assert learnt.version_after == learnt.version_before
            assert outcome.learnable_reason in learnt.why_not
            continue
        assert (learnt.version_after, learnt.why_not) == (learnt.version_before + 1, "")
        rows = log.scan("outcomes", key="greeting")
        _, snapshot = version_of(rows, "main", learnt.epoch, learnt.version_after)
        assert snapshot.learned_through_id == outcome.choice.decision_id
    log.close()


def test_a_good_reward_makes_the_same_choice_likelier_in_the_same_context(
    receipts: dict[str, Receipt],
) -> None:
    moved = {True: 0, False: 0}
    for receipt in receipts.values():
        outcome, (learnt,) = receipt.outcome, receipt.learnt
        assert outcome is not None
        before, after = learnt.probability_before, learnt.probability_after
        assert before is not None
        assert after is not None
        if not outcome.learnable:
            assert before == after
        elif outcome.reward > 0.7:
            moved[after > before] += 1
    assert moved[True] > 5
    # Thompson shares narrow, too: a certain second best may lose by being better known.
    assert moved[True] > 3 * moved[False]


def test_each_reaction_counts_or_says_why_not(receipts: dict[str, Receipt]) -> None:
    whys = set()
    for receipt in receipts.values():
        outcome = receipt.outcome
        assert outcome is not None
        counted = {reaction.id for reaction in receipt.reactions if reaction.counted}
        assert counted == set(outcome.member_ids)
        for reaction in receipt.reactions:
            assert bool(reaction.why) != reaction.counted
            whys.add(reaction.why.split(":")[0])
    assert whys >= {
        "window_closed",
        "not_activated",
        "an explicit reward goes before it",
        "the face before the greeting cannot be used",
    }


def test_a_fallback_and_one_never_shown_say_why_they_taught_nothing(
    receipts: dict[str, Receipt],
) -> None:
    fallback = next(r for r in receipts.values() if r.decision.choice.mode == "fallback")
    assert "fallback" in fallback.weighed.text
    assert fallback.learnt[0].why_not == "it is not learnable: fallback"
    unseen = next(r for r in receipts.values() if r.shown is None and r is not fallback)
    assert unseen.learnt[0].why_not.startswith("it is not learnable: ")
    for receipt in (fallback, unseen):
        assert receipt.learnt[0].why_not in text_of(receipt)


def test_a_page_can_be_printed_of_every_decision(receipts: dict[str, Receipt]) -> None:
    for name, receipt in receipts.items():
        text = text_of(receipt)
        assert name in text
        assert receipt.decision.choice.action_id in text


def test_an_archive_tells_the_same(played: Path, receipts: dict[str, Receipt]) -> None:
    told = read_receipt(ArchiveReader(played / "archive"), "v13").document()
    mine = receipts["v13"].document()
    assert {**told, "log": ""} == {**mine, "log": ""}


class Cut:
    """A log up to some row."""

    name = "cut"

    def __init__(self, log: EmbeddedLog, through: int) -> None:
        self._log = log
        self._through = through

    def scan(self, *streams: str, key: str | None = None) -> Any:
        """Yield the rows up to there."""
        return (r for r in self._log.scan(*streams, key=key) if r.position <= self._through)

    def complete_through_ms(self) -> int:
        """Return nothing: no receipt asks."""
        raise NotImplementedError


def test_a_visit_that_is_still_open_has_a_receipt_at_every_moment(played: Path) -> None:
    log = EmbeddedLog(played / "log")
    rows = [r for r in log.scan() if r.key == "v31"]
    outcome = next(
        r.position
        for r in log.scan("outcomes")
        if isinstance(value := decode(r.value), OutcomeClosed) and value.choice.decision_id == "v31"
    )
    decided = next(r.position for r in rows if isinstance(decode(r.value), DecisionMade))
    for position in range(rows[0].position, outcome + 1):
        history = Cut(log, position)
        if position < decided:
            with pytest.raises(NoSuchDecision):
                read_receipt(history, "v31")
            continue
        receipt = read_receipt(history, "v31")
        told = receipt.document()
        assert told["state"] == ("closed" if position >= outcome else "open")
        assert told["why"]["expected"]
        assert "v31" in text_of(receipt)
        if position < outcome:
            assert (told["reward"], told["learned"]) == (None, [])
            assert "still open" in text_of(receipt)
    log.close()


def test_a_visit_whose_frames_never_decided_says_so(played: Path) -> None:
    log = EmbeddedLog(played / "log")
    first = next(r.position for r in log.scan("analyses", key="v31"))
    with pytest.raises(NoSuchDecision, match="answered: ok"):
        read_receipt(Cut(log, first), "v31")
    log.close()


def test_a_policy_that_weighs_no_features_says_so(demo_folder: Path) -> None:
    log = EmbeddedLog(demo_folder)
    decision = decode(next(log.scan("decisions")).value)
    config = decode(next(log.scan("loops")).value)
    log.close()
    assert isinstance(decision, DecisionMade)

    uniform = dataclasses.replace(config.policies[0], algorithm="uniform", parameters=())
    said = weigh(decision.choice, prior(config, uniform))
    assert said.text == "uniform does not weigh features."
    assert said.expected == ()


def test_the_command_prints_a_page_or_a_document(pho: Any, demo_folder: Path) -> None:
    log = EmbeddedLog(demo_folder)
    name = next(log.scan("decisions")).key
    newest = [decode(row.value) for row in log.scan("policies")][-1]
    log.close()
    assert isinstance(newest, PolicySnapshot)
    ran = pho("receipt", name, "--data", demo_folder)
    assert ran.status == 0
    for word in (name, "What was known", "What was offered", "What came of it", "What was learned"):
        assert word in ran.out
    told = pho("receipt", name, "--data", demo_folder, "--json").json
    assert (told["decision_id"], told["state"]) == (name, "closed")
    assert [reaction["counted"] for reaction in told["reactions"]] == [True, True]
    assert 0 < told["learned"][0]["version_after"] <= newest.version


def test_an_unknown_decision_leaves_with_1_and_the_cure(pho: Any, demo_folder: Path) -> None:
    ran = pho("receipt", "nobody", "--data", demo_folder)
    assert ran.status == 1
    assert "has no decision nobody" in ran.err
    assert "pho topics decisions" in ran.err
    assert pho("receipt", "nobody", "--data", demo_folder / "none").status == 2
