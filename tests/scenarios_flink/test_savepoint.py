"""Stop with a savepoint under load, go on with more instances and another release: exactly."""

from __future__ import annotations

import time

import pytest

from engines.flink import submitting
from flink_kills import Campaign, report
from flink_stand import JOBS, Stand

RATE = 20.0
NEXT_RELEASE = "99.0.0"


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_a_savepoint_goes_on_at_another_parallelism_and_release_as_if_never_stopped(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    for job in JOBS:
        stand.submit(job, parallelism=1)
    campaign = Campaign(stand, RATE, 0.1)
    campaign.flow(_now_ms(), greetings=50)
    stopped_ms = _now_ms()
    savepoints = {job: stand.flink.rest.stop_with_savepoint(stand.jobs[job], None) for job in JOBS}
    # A release needs workers of its own, as in application mode: in thread mode a TaskManager is
    # one Python, in which what was imported once stays, though the wheel it came from is gone.
    stand.restart_taskmanagers()
    monkeypatch.setattr(submitting, "version", lambda _name: NEXT_RELEASE)
    for job in JOBS:
        stand.submit(job, savepoints[job], parallelism=2)
        assert list((stand.folder / f"submit-{job}").glob(f"pho-{NEXT_RELEASE}-*.whl"))
    campaign.flow(_now_ms(), greetings=50)
    time.sleep(2.0)
    account = campaign.finish()
    print(*report(campaign, account), sep="\n")  # noqa: T201 - with `-s`
    gap = account.gap("greetings", stopped_ms)
    silent_s = gap.silent_ms / 1e3
    print(f"stopped, upgraded, rescaled: no greeting for {silent_s:.1f} s")  # noqa: T201
    # What was written before a savepoint is never written again: it stops between two records.
    # Of policies the newest is: whoever goes on cannot know whether it was held back.
    again = {stream: n for stream, n in account.repeats.items() if n and stream != "policies"}
    # A call in flight stands in the savepoint and is asked again; its first answer may come in the
    # moment before the job ends, and is written too.
    assert again.pop("analyses", 0) <= stand.settings.services.concurrency
    assert not again


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
