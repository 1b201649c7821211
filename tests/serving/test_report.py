"""The report: its intervals and quarters are what statistics says they are."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats

from connectors.embedded_log import EmbeddedLog
from serving.ledger import Ledger
from serving.report import Learned, Report, document, mean, percentile, read_report, show, welch

EMPTY = Ledger(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, True)


def report_of(rewards: list[float], control: list[float], greeted_ms: tuple[float, ...]) -> Report:
    """Return a report of so many visits, learned ones first."""
    outcomes = [
        Learned(at_ms, "joke" if at_ms < len(rewards) else "welcome", at_ms >= len(rewards), r, *x)
        for at_ms, r in enumerate(rewards + control)
        for x in [(False, "morning")]
    ]
    return Report(EMPTY, tuple(outcomes), greeted_ms, 0, None, "folder")


rewards = st.lists(st.floats(-1.0, 1.0, width=16), min_size=2, max_size=30)


@given(rewards, rewards)
def test_the_interval_is_that_of_welch(learned: list[float], control: list[float]) -> None:
    found = welch(learned, control)
    if np.var(learned) + np.var(control) == 0.0:
        assert found["low"] == found["high"] == found["mean"]
        return
    with warnings.catch_warnings():
        # SciPy warns of samples that are all alike; the interval is right all the same.
        warnings.simplefilter("ignore", RuntimeWarning)
        test = stats.ttest_ind(learned, control, equal_var=False)
    expected = test.confidence_interval(0.95)
    assert found["mean"] == pytest.approx(np.mean(learned) - np.mean(control), abs=1e-12)
    assert found["low"] == pytest.approx(expected.low, rel=1e-9, abs=1e-12)
    assert found["high"] == pytest.approx(expected.high, rel=1e-9, abs=1e-12)


def test_too_few_visits_have_no_interval_and_none_has_no_mean() -> None:
    assert welch([], [0.1]) == {"mean": None, "low": None, "high": None}
    assert welch([0.5], [0.1, 0.2])["low"] is None
    assert welch([0.5, 0.5], [0.5])["low"] is None
    assert mean([]) is None
    assert percentile([], 50.0) is None


def test_quarters_are_those_of_what_the_policy_chose_in_the_order_of_decisions() -> None:
    learned = [0.0, 0.0, 0.1, 0.3, 0.3, 0.3, 0.5, 0.7]
    means = document(report_of(learned, [-0.5, -0.7], ()))["reward_mean"]
    assert means["first_quarter"] == 0.0
    assert means["last_quarter"] == pytest.approx(0.6)
    assert means["learned"] == pytest.approx(np.mean(learned))
    assert means["control"] == pytest.approx(-0.6)


def test_latencies_are_percentiles_in_milliseconds() -> None:
    greeted_ms = tuple(float(n) for n in range(1, 101))
    told = document(report_of([0.1], [], greeted_ms))["frame_to_greeting_ms"]
    assert told == {"p50": 50.5, "p99": 99.0}


def test_the_document_holds_what_machines_ask_for(demo_folder: Path) -> None:
    log = EmbeddedLog(demo_folder)
    told = document(read_report(log, 0))
    log.close()
    assert told.keys() >= {
        "visits", "decisions", "rewarded", "defaulted", "dropped", "not_activated", "open", "late",
        "unmatched", "dead_letters", "reward_mean", "lift", "frame_to_greeting_ms",
        "pictures_left", "policy", "data",
    }  # fmt: skip
    assert told["reward_mean"].keys() == {"control", "learned", "first_quarter", "last_quarter"}
    assert told["lift"].keys() == {"mean", "low", "high"}
    assert told["policy"].keys() == {"epoch", "version", "checksum"}
    assert told["visits"] == told["decisions"] == told["policy"]["version"] == 6
    assert len(told["policy"]["checksum"]) == 32


@pytest.mark.parametrize(
    ("learned", "control", "said"),
    [
        ([0.5, 0.6, 0.4, 0.5], [-0.5, -0.4, -0.6], "+1.00 happiness a visit"),
        ([0.5], [], "Too few visits"),
        ([], [], "Too few visits"),
    ],
)
def test_a_person_reads_what_was_learned(
    learned: list[float], control: list[float], said: str
) -> None:
    console = Console(file=io.StringIO(), width=160)
    show(report_of(learned, control, (20.0,)), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert said in text
    assert "folder" in text
    assert ("joke" in text) == bool(learned)
