"""`pho evaluate`, challengers and live estimates on a log whose truth is known."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import judged
import worlds
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from policies.registry import prior
from policies.snapshots import Identity, take, to_bytes
from schemas.codec import decode
from schemas.loops import LoopConfigured
from schemas.operations import EstimateMade
from schemas.outcomes import OutcomeClosed
from serving.challengers import verdicts
from serving.evaluating import Question, evaluate
from serving.live_estimates import LiveEstimates

COUNT, EVEN = 300, 900
LOOP = judged.config()
UNIFORM = judged.config("uniform")
TRUTH = {f"always {action}": chance for action, chance in judged.SMILE.items()}
TRUTH |= {"uniform": sum(judged.SMILE.values()) / 3}


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judged") / "learned"
    judged.write(folder, LOOP, COUNT).close()
    return folder


@pytest.fixture(scope="module")
def even(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judged") / "even"
    judged.write(folder, UNIFORM, EVEN, seed=2).close()
    return folder


def rows(document: dict[str, Any], part: str = "all") -> dict[str, Any]:
    return {row["target"]: row for row in document["rows"] if row["slice"] == part}


def test_the_truth_lies_in_every_interval(pho: Any, learned: Path) -> None:
    ran = pho("evaluate", "--data", learned, "--by", "action_id", "--json")
    assert ran.status == 0
    assert ran.json["n"] == COUNT
    found = rows(ran.json)
    for name, value in TRUTH.items():
        for estimate in (found[name]["estimate"], found[name]["others"]["ips"]):
            assert estimate["low"] < value < estimate["high"], name
            assert estimate["anytime"]
        assert not found[name]["others"]["snips"]["anytime"]
    assert found["logging"]["largest_weight"] == 1.0
    assert found["logging"]["effective_sample_size"] == pytest.approx(COUNT)
    assert ran.json["lift"]["control"] + ran.json["lift"]["learned"] == COUNT


def test_the_error_is_shared_among_the_fixed_actions(pho: Any, learned: Path) -> None:
    alone = rows(pho("evaluate", "--data", learned, "--policy", "a1", "--json").json)
    told = pho("evaluate", "--data", learned, "--policy", "a1", "--by", "action_id", "--json").json
    shared = rows(told)
    assert len(shared) == len(told["rows"]) == 6
    name = "always a1"
    assert shared[name]["estimate"]["low"] < alone[name]["estimate"]["low"]
    assert shared[name]["estimate"]["value"] == alone[name]["estimate"]["value"]


def test_a_table_says_what_is_estimated_and_what_is_still_needed(pho: Any, learned: Path) -> None:
    ran = pho("evaluate", "--data", learned, "--policy", "perfect", "--policy", "thompson")
    assert ran.status == 0
    text = " ".join(ran.out.split())
    assert "intervals that hold at any moment" in text
    assert "average value over the stretch" in text
    assert "lift over control" in text
    few = pho("evaluate", "--data", learned, "--policy", "a2", "--method", "snips").out
    assert "for one moment fixed in advance" in " ".join(few.split())


def test_too_few_decisions_are_said_to_be_too_few(pho: Any, tmp_path: Path) -> None:
    judged.write(tmp_path / "few", UNIFORM, 30).close()
    ran = pho("evaluate", "--data", tmp_path / "few")
    assert ran.status == 0
    assert "more decisions" in ran.out
    for row in pho("evaluate", "--data", tmp_path / "few", "--json").json["rows"]:
        assert not row["estimate"]["tells"]
        assert row["estimate"]["needed"] > 100


def test_slices_add_up_and_where_chooses_them(pho: Any, learned: Path) -> None:
    by_kiosk = pho("evaluate", "--data", learned, "--by", "kiosk_id", "--json").json
    assert rows(by_kiosk, "kiosk-1")["uniform"] == rows(by_kiosk)["uniform"] | {"slice": "kiosk-1"}
    by_hour = pho("evaluate", "--data", learned, "--by", "hour", "--json").json
    counts = Counter({r["slice"]: r["estimate"]["n"] for r in by_hour["rows"]})
    assert sum(count for name, count in counts.items() if name != "all") == COUNT
    none = pho("evaluate", "--data", learned, "--where", "daypart=evening", "--json").json
    assert none["n"] == 0
    assert none["left_out"] == {"not chosen by --where": COUNT}
    some = pho("evaluate", "--data", learned, "--where", "daypart=morning", "--json").json
    assert some["n"] == COUNT


@pytest.mark.parametrize(
    "line",
    [
        ("--policy", "nobody"),
        ("--where", "action_id=a1"),
        ("--where", "kiosk-1"),
        ("--by", "reward"),
        ("--method", "guess"),
        ("--alpha", "1.5"),
        ("--loop", "other"),
    ],
)
def test_what_is_not_there_is_wrong_usage(pho: Any, learned: Path, line: tuple[str, ...]) -> None:
    ran = pho("evaluate", "--data", learned, *line)
    assert ran.status == 2
    assert "do:" in ran.err


def test_what_has_closed_waits_for_what_is_open(learned: Path, tmp_path: Path) -> None:
    source = EmbeddedLog(learned, SetClock())
    clock = SetClock(worlds.START_MS)
    copy = EmbeddedLog(tmp_path / "open", clock)
    for row in source.scan():
        value = decode(row.value)
        if isinstance(value, OutcomeClosed) and value.choice.decision_id == "d00100":
            continue
        clock.set(row.log_time_ms)
        copy.append(row.stream, value)
    report = evaluate(copy, Question())
    assert report.n == 100
    assert report.left_out == {"open": 1, "closed behind an open one": COUNT - 101}


def test_an_outcome_that_cannot_be_read_is_counted_and_stops_nothing(
    learned: Path, tmp_path: Path
) -> None:
    source = EmbeddedLog(learned, SetClock())
    clock = SetClock(worlds.START_MS)
    copy = EmbeddedLog(tmp_path / "torn", clock)
    for row in source.scan():
        value = decode(row.value)
        clock.set(row.log_time_ms)
        is_torn = isinstance(value, OutcomeClosed) and value.choice.decision_id == "d00100"
        data = row.value[:-9] if is_torn else row.value
        copy.append_bytes([(row.stream, row.key, data)])
    clock.set(clock.now_ms + 10_000_000)
    later = worlds.decided("later", clock.now_ms, LOOP)
    copy.append_all([("decisions", later), ("outcomes", worlds.outcome(later, 1.0, clock.now_ms))])
    report = evaluate(copy, Question())
    assert report.n == COUNT
    assert report.left_out == {"refused: no record of ours, or impossible": 1}


def test_a_snapshot_is_judged_on_what_came_after_it(
    pho: Any, learned: Path, tmp_path: Path
) -> None:
    learned_ms = worlds.START_MS + 99 * judged.STEP_MS
    identity = Identity("main", 0, 7, "serving", 0, LOOP.floor_ppb, "d", learned_ms)
    path = tmp_path / "snapshot.avro"
    path.write_bytes(to_bytes(take(prior(LOOP), identity, LOOP)))
    found = rows(pho("evaluate", "--data", learned, "--policy", path, "--json").json)
    row = found["snapshot main 0.7"]
    assert (row["estimate"]["n"], row["silent"]) == (COUNT - 100, 100)
    path.write_bytes(b"\xc3\x01torn")
    ran = pho("evaluate", "--data", learned, "--policy", path)
    assert ran.status == 1
    assert "Traceback" not in ran.err


def test_the_better_challenger_is_called_better_and_a_worse_one_is_not(even: Path) -> None:
    log = EmbeddedLog(even, SetClock())
    (verdict,) = verdicts(log, "greeting")
    assert verdict.policy_id == judged.PERFECT
    # Nine tenths of the decisions would get the best action instead of an even draw.
    truth = (1 - 0.05) * (1 - 0.08) * (judged.SMILE["a1"] - TRUTH["uniform"])
    assert verdict.low < truth < verdict.high
    assert verdict.better
    assert verdict.n == EVEN
    assert "better" in verdict.text
    stricter = verdicts(log, "greeting", alpha=1e-9)[0]
    assert stricter.low < verdict.low


def test_a_challenger_that_is_no_better_is_not_called_so(learned: Path) -> None:
    (verdict,) = verdicts(EmbeddedLog(learned, SetClock()), "greeting")
    assert not verdict.better


def estimates(log: EmbeddedLog, live: LiveEstimates) -> list[EstimateMade]:
    found: list[EstimateMade] = []
    for row in log.scan("outcomes"):
        value = decode(row.value)
        if isinstance(value, LoopConfigured):
            live.configure(value)
        else:
            found += live.take(value, row.log_time_ms)
    return found


def test_live_estimates_are_those_of_the_command(even: Path) -> None:
    log = EmbeddedLog(even, SetClock())
    live = LiveEstimates(every=100)
    found = estimates(log, live)
    assert (live.overtaken, live.unknown) == (0, 0)
    last = {(e.policy_id, e.method): e for e in found}
    assert {e.n for e in found if e.policy_id == "uniform"} == set(range(100, EVEN, 100))
    low = last["uniform", "dr"].low
    assert low < TRUTH["uniform"] < last["uniform", "dr"].high
    assert last[judged.PERFECT, "dr_difference"].low > 0.0
    assert ("logging", "lift_over_control") in last


def test_live_estimates_wait_for_the_order_of_the_decisions(even: Path) -> None:
    log = EmbeddedLog(even, SetClock())
    first = estimates(log, LiveEstimates(every=200))[0]
    report = {row.target: row for row in evaluate(_head(log, first.n), Question()).rows}
    assert first.policy_id == "logging"
    # The mean of the first 200 decisions: of the first 200 closed it is another one.
    assert first.value == pytest.approx(report["logging"].estimate.value)


def _head(log: EmbeddedLog, count: int) -> Any:
    """Return a log as it would be had only the first decisions been made."""

    class Head:
        def scan(self, *streams: str) -> Any:
            for row in log.scan(*streams):
                value = decode(row.value)
                number = getattr(getattr(value, "choice", None), "decision_id", "d0")[1:]
                if int(number) < count:
                    yield row

        def complete_through_ms(self) -> int:
            return 0

    return Head()


def test_outcomes_without_their_configuration_are_counted(learned: Path) -> None:
    live = LiveEstimates()
    outcome = worlds.outcome(worlds.decided("d", worlds.START_MS), 0.5)
    assert live.take(outcome, worlds.START_MS) == []
    assert live.unknown == 1


def test_a_folder_without_a_loop_says_so(pho: Any, tmp_path: Path) -> None:
    EmbeddedLog(tmp_path / "empty", SetClock()).close()
    ran = pho("evaluate", "--data", tmp_path / "empty")
    assert ran.status == 2
    assert "none is there" in " ".join(ran.err.split())
    shutil.rmtree(tmp_path / "empty")
