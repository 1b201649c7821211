"""pho watch: a shift is an alarm, once; exploration is widened, and taken back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from learning_shops import LearningShop
from policies.river_drift import MeanWatch
from schemas.operations import AlarmRaised
from schemas.outcomes import PolicyDirected
from serving.loop_watch import Watching
from serving.watching import Watch
from worlds import loop

QUICKLY = Watching(explore_ppb=300_000_000, explore_outcomes=40, warm_up=50)
"""A watch that a test of some hundred visits can wait for."""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[LearningShop]:
    shop = LearningShop(tmp_path / "shop", loop())
    yield shop
    shop.log.close()


def watched(shop: LearningShop, how: Watching = QUICKLY) -> list[Any]:
    """Return what one pass over a shop's log finds and appends."""
    found: list[Any] = []
    Watch(shop.log, how, found.append).run(None)
    shop.run()
    return found


def fallen(shop: LearningShop) -> list[Any]:
    """Let visitors be pleased, then displeased, until the watch says so."""
    shop.outcomes(150, 0.6)
    assert watched(shop) == []
    for _ in range(20):
        shop.outcomes(20, -0.6)
        if found := watched(shop):
            return found
    pytest.fail("nobody noticed")


def test_a_fall_is_an_alarm_that_widens_exploration_for_a_while(shop: LearningShop) -> None:
    found = fallen(shop)
    alarms = [each for each in found if isinstance(each, AlarmRaised)]
    assert {"reward_fell", "residual_shifted"} & {alarm.kind for alarm in alarms}
    numbers = {each.name: each.value for each in alarms[0].numbers}
    assert numbers["after"] < numbers["before"]
    (told,) = (each for each in found if isinstance(each, PolicyDirected))
    assert (told.kind, told.floor_ppb, told.policy_id) == ("explore", 300_000_000, "main")
    assert shop.all("alarms") == alarms
    assert shop.visit(1, -0.6).choice.floor_ppb == 300_000_000
    shop.outcomes(50, -0.6)
    back = [each for each in watched(shop) if isinstance(each, PolicyDirected)]
    assert [each.floor_ppb for each in back] == [loop().floor_ppb]
    assert shop.visit(1, -0.6).choice.floor_ppb == loop().floor_ppb
    assert shop.all("dead-letters") == []


def test_a_second_watcher_and_one_that_starts_again_append_nothing_twice(
    shop: LearningShop,
) -> None:
    found = fallen(shop)
    count = dict(shop.log.counts())
    assert watched(shop) == []
    shop.log.set_bookmark("watch", {})  # as if it had ended before it noted how far it came
    assert watched(shop) == []
    assert {name: shop.log.counts()[name] for name in ("alarms", "outcomes")} == {
        name: count[name] for name in ("alarms", "outcomes")
    }
    assert len(shop.all("alarms")) == sum(isinstance(each, AlarmRaised) for each in found)


def test_a_pass_over_old_history_raises_alarms_but_widens_nothing_now(shop: LearningShop) -> None:
    shop.outcomes(150, 0.6)
    shop.outcomes(300, -0.6)
    found = watched(shop)
    assert any(isinstance(each, AlarmRaised) for each in found)
    assert not [each for each in found if isinstance(each, PolicyDirected)]


def test_what_the_bookmark_has_passed_is_not_raised_again(shop: LearningShop) -> None:
    shop.outcomes(150, 0.6)
    shop.outcomes(300, -0.6)
    # The alarms left the log with its retention; the bookmark stays.
    shop.log.set_bookmark("watch", {("outcomes", 0): shop.log.end().position + 1})
    assert watched(shop) == []


def test_a_floor_that_somebody_narrowed_meanwhile_stays(pho: Any, shop: LearningShop) -> None:
    fallen(shop)
    assert pho("policy", "explore", "main", "--floor", "0.01", "--data", shop.folder).status == 0
    shop.run()
    shop.outcomes(60, -0.6)
    assert not [each for each in watched(shop) if isinstance(each, PolicyDirected)]
    assert shop.visit().choice.floor_ppb == 10_000_000


def test_a_quiet_shop_raises_nothing(shop: LearningShop) -> None:
    shop.outcomes(400, 0.5)
    assert watched(shop) == []


def test_once_leaves_with_1_and_tells_what_it_raised(pho: Any, shop: LearningShop) -> None:
    shop.outcomes(1_150, 0.6)
    assert pho("watch", "--once", "--data", shop.folder).status == 0
    shop.outcomes(300, -0.6)
    ran = pho("watch", "--once", "--data", shop.folder, "--json")
    assert ran.status == 1
    kinds = {each["kind"] for each in ran.json if each["record"] == "AlarmRaised"}
    assert kinds & {"reward_fell", "residual_shifted"}
    again = pho("watch", "--once", "--data", shop.folder)
    assert (again.status, again.out.strip()) == (0, "nothing new")
    assert pho("watch", "--data", shop.folder, "--seconds", "0.2", "--json").json == []
    assert pho("watch", "--once", "--explore", "2", "--data", shop.folder).status == 2


def test_a_mean_that_stays_is_quiet_and_one_that_falls_is_seen() -> None:
    watch = MeanWatch()
    quiet = [(number * 7919 % 1000) / 1000.0 for number in range(3_000)]
    assert [shift for value in quiet if (shift := watch.update(value))] == []
    shifts = [shift for value in quiet if (shift := watch.update(value - 0.3))]
    assert shifts
    assert shifts[0].after < shifts[0].before
