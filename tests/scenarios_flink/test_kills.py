"""`kill -9` of each part of the loop under load: nothing is lost, nothing is learned twice.

KILLS=10 SEED=1 RATE=200 .venv-flink/bin/python -m pytest tests/scenarios_flink/test_kills.py -s

plays the long campaign: so many kills of each kind, in an order and at moments drawn by the seed.
ONLY=broker,camera plays some kinds. CHECKPOINT_MS is the time between two checkpoints.
"""

from __future__ import annotations

import os
import random
import time

import pytest

from flink_account import waits_ms
from flink_kills import KINDS, Campaign, report
from flink_stand import Stand

KILLS = int(os.environ.get("KILLS", "1"))
SEED = int(os.environ.get("SEED", "1"))
RATE = float(os.environ.get("RATE", "20"))
CHECKPOINT_MS = int(os.environ.get("CHECKPOINT_MS", "1000"))
ONLY = os.environ.get("ONLY", ",".join(KINDS)).split(",")
SHARE = 0.1
"""Share of visits with pictures: 200 a second with 250 pictures each look after 30 threads."""


@pytest.mark.slow
@pytest.mark.timeout(300 + 300 * len(KINDS) * KILLS)
def test_nothing_is_lost_and_nothing_learned_twice_whatever_is_killed(stand: Stand) -> None:
    chance = random.Random(SEED)  # noqa: S311 - repeatable, not secret
    stand.checkpoint_interval_ms = CHECKPOINT_MS
    stand.submit_all()
    campaign = Campaign(stand, RATE, SHARE)
    campaign.flow(time.time_ns() // 1_000_000)
    order = [kind for kind in KINDS if kind in ONLY for _ in range(KILLS)]
    chance.shuffle(order)
    for kind in order:
        time.sleep(chance.uniform(1.0, 6.0))
        campaign.kill(kind, chance)
    time.sleep(2.0)
    account = campaign.finish()
    assert len(account.decided) > RATE * 10
    assert account.policy is not None
    assert account.policy.version > 0
    waits = sorted(waits_ms(campaign.journals))
    print(*report(campaign, account), sep="\n")  # noqa: T201 - with `-s`
    print(f"frame to greeting: p50 {waits[len(waits) // 2]} ms, of {len(waits):,}")  # noqa: T201
