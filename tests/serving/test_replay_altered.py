"""Whatever is altered in a log afterwards, its replay names."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from connectors.embedded_log import EmbeddedLog
from connectors.logs import Row
from history import play_and_archive
from replayed import altered, delete, rows_of, verdicts, with_bit
from schemas.codec import decode, encode
from schemas.errors import RecordError
from schemas.frames import nearest
from schemas.loops import LoopConfigured
from schemas.outcomes import OutcomeClosed

VISITS = 24


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a log of visits of every kind, in `log`, and its archive."""
    folder = tmp_path_factory.mktemp("played")
    play_and_archive(folder, VISITS)
    return folder


@pytest.fixture
def folder(played: Path, tmp_path: Path) -> Path:
    """Return a copy of the log that may be altered."""
    return Path(shutil.copytree(played / "log", tmp_path / "log"))


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_bit_altered_in_what_pho_made_is_named(folder: Path, data: st.DataObject) -> None:
    rows = rows_of(folder, "decisions", "outcomes", "policies", "loops")
    stream = data.draw(st.sampled_from(["decisions", "outcomes", "policies", "loops"]))
    row = data.draw(st.sampled_from([row for row in rows if row.stream == stream]))
    place = data.draw(st.integers(0, len(row.value) - 1))
    changed = with_bit(row.value, place, data.draw(st.integers(0, 7)))
    assume(not _says_the_same(row.value, changed))
    with altered(folder, row, changed):
        told = verdicts(folder)
    assert not told.holds
    texts = "\n".join(text for verdict in told.verdicts for text in verdict.differences)
    original = decode(row.value)
    if isinstance(original, OutcomeClosed):
        assert original.choice.decision_id in texts
    elif stream == "decisions":
        assert row.key in texts
    elif stream == "policies":
        assert "policy main" in texts
    else:
        assert original.config_hash in texts or f"{stream}[{row.position}]" in texts


def _says_the_same(one: bytes, other: bytes) -> bool:
    """Whether other bytes are read as the same record: any odd byte is a true boolean."""
    try:
        return encode(decode(other)) == one
    except RecordError:
        return False


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_bit_altered_in_what_came_in_is_named_where_anything_follows_from_it(
    folder: Path, data: st.DataObject
) -> None:
    outcomes = [decode(row.value) for row in rows_of(folder, "outcomes")]
    counted = {
        (outcome.choice.decision_id, member)
        for outcome in outcomes
        if isinstance(outcome, OutcomeClosed)
        for member in outcome.member_ids
    }
    causes = {decode(row.value).cause_id for row in rows_of(folder, "decisions")}
    stream = data.draw(st.sampled_from(["impressions", "analyses", "rewards", "visits"]))
    rows = [r for r in rows_of(folder, stream) if _matters(r, counted, causes)]
    row = data.draw(st.sampled_from(rows))
    place = data.draw(st.integers(0, len(row.value) - 1))
    changed = with_bit(row.value, place, data.draw(st.integers(0, 7)))
    assume(_told(row, row.value) != _told(row, changed))
    with altered(folder, row, changed):
        told = verdicts(folder)
    assert not told.holds
    assert row.key in "\n".join(text for v in told.verdicts for text in v.differences)


def _matters(row: Row, counted: set[tuple[str, str]], causes: set[str]) -> bool:
    try:
        value = decode(row.value)
    except RecordError:
        return False
    match row.stream:
        case "rewards":
            return (row.key, value.reward_id) in counted
        case "analyses":
            return value.frame_id in causes or (row.key, value.frame_id) in counted
        case "visits":
            return not isinstance(value, LoopConfigured) and bool(value.post_frame_ids)
        case _:
            return True


def _told(row: Row, data: bytes) -> Any:
    """Return what outcomes and decisions follow from."""
    try:
        value = decode(data)
    except RecordError:
        return None
    if type(value) is not type(decode(row.value)):
        return None
    match row.stream:
        case "impressions":
            at_ms = min(value.shown_at_ms, row.log_time_ms)
            return value.decision_id, value.action_id, at_ms
        case "rewards":
            return value.decision_id, value.reward_id, value.value
        case "visits":
            return value.decision_id, value.post_frame_ids
        case _:
            face = nearest(value.faces)
            seen = (face.confidence, face.happiness) if face else None
            return value.decision_id, value.frame_id, value.phase, value.status, seen


def test_an_outcome_that_is_gone_is_named(folder: Path) -> None:
    rows = [r for r in rows_of(folder, "outcomes") if isinstance(decode(r.value), OutcomeClosed)]
    delete(folder, rows[3].position)
    told = verdicts(folder)
    name = decode(rows[3].value).choice.decision_id
    assert told.verdicts[0].differences == [
        f"the outcome of decision {name} is missing in the log, or cannot be read; "
        "is the job running?"
    ]


def test_an_outcome_of_nothing_is_named(folder: Path) -> None:
    row = rows_of(folder, "decisions")[7]
    delete(folder, row.position)
    told = verdicts(folder)
    text = f"the outcome of decision {row.key} follows from nothing in the log"
    assert text in told.verdicts[0].differences


def test_probabilities_may_differ_by_the_tolerance_and_no_more(folder: Path) -> None:
    row = [r for r in rows_of(folder, "decisions") if decode(r.value).choice.mode == "online"][5]
    decision = decode(row.value)
    actions = list(decision.choice.actions)
    chosen = next(i for i, a in enumerate(actions) if a.id == decision.choice.action_id)
    for place, step in ((chosen, 2), (chosen - 1, -2)):
        ppb = actions[place].probability_ppb + step
        actions[place] = dataclasses.replace(actions[place], probability_ppb=ppb)
    choice = dataclasses.replace(
        decision.choice,
        actions=tuple(actions),
        propensity_ppb=decision.choice.propensity_ppb + 2,
    )
    with altered(folder, row, encode(dataclasses.replace(decision, choice=choice))):
        assert [verdicts(folder, ppb).verdicts[2].holds for ppb in (0, 1, 2)] == [
            False,
            False,
            True,
        ]


def test_an_action_the_draw_does_not_fall_on_is_named_with_any_tolerance(folder: Path) -> None:
    row = [r for r in rows_of(folder, "decisions") if decode(r.value).choice.mode == "online"][5]
    decision = decode(row.value)
    other = next(a for a in decision.choice.actions if a.id != decision.choice.action_id)
    choice = dataclasses.replace(
        decision.choice, action_id=other.id, propensity_ppb=other.probability_ppb
    )
    with altered(folder, row, encode(dataclasses.replace(decision, choice=choice))):
        assert not verdicts(folder, 1_000).verdicts[2].holds


def test_a_second_outcome_that_differs_is_named(folder: Path) -> None:
    rows = [r for r in rows_of(folder, "outcomes") if isinstance(decode(r.value), OutcomeClosed)]
    outcome = decode(rows[2].value)
    other = encode(dataclasses.replace(outcome, precision=0.125))
    log = EmbeddedLog(folder)
    log.append_bytes([("outcomes", rows[2].key, other)])
    log.close()
    name = outcome.choice.decision_id
    assert verdicts(folder).verdicts[0].differences == [
        f"decision {name} has two outcomes in the log that differ"
    ]


def test_a_snapshot_that_served_since_another_time_is_named(folder: Path) -> None:
    (row,) = rows_of(folder, "policies")
    snapshot = decode(row.value)
    other = dataclasses.replace(snapshot, role_since_log_time_ms=1)
    with altered(folder, row, encode(other)):
        assert "role_since_log_time_ms is 1 in the log" in verdicts(folder).verdicts[1].text
