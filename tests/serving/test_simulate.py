"""`pho simulate` as its users meet it: the real loop, a known truth, the same seed the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from connectors.embedded_log import EmbeddedLog
from producers.simulated_visits import SimulatedKiosk
from schemas.codec import decode
from schemas.operations import Tick
from schemas.outcomes import OutcomeClosed
from serving.settings import load
from serving.simulating import Plan, Simulation

VISITS = 240


def timeless(document: dict[str, Any]) -> dict[str, Any]:
    """Return a report without what a clock measured or a folder is called."""
    return {k: v for k, v in document.items() if k not in ("seconds", "data")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished simulation of `VISITS` visits, seed 1, as the command plays it."""
    data: Path = tmp_path_factory.mktemp("simulated") / "d"
    played = simulation(data)
    played.run(lambda _done, _all: None)
    played.log.close()
    return data


def simulation(data: Path, **plan: Any) -> Simulation:
    flags = {"data": str(data), "loops.greeting.control_share": 0.15}
    settings = load(None, flags, {})
    told = {"visits": VISITS, "seed": 1, "drift": None, "kiosks": 20, **plan}
    return Simulation(settings, Plan(**told, config_hash=settings.loop("greeting").config_hash))


def test_every_visit_is_decided_and_closed_and_held_against_the_truth(
    pho: Any, folder: Path
) -> None:
    ran = pho("simulate", "--visits", VISITS, "--data", folder, "--json")
    assert ran.status == 0, ran.err
    told = ran.json
    assert (told["visits"], told["open"], told["balanced"]) == (VISITS, 0, True)
    assert (told["late"], told["unmatched"], told["dead_letters"]) == (0, 0, 0)
    assert told["rewarded"] + told["defaulted"] == VISITS
    truth = told["true_value"]
    assert truth["best"] > truth["chosen"] > truth["uniform"]
    assert told["regret"]["chosen"] == pytest.approx(
        VISITS * (truth["best"] - truth["chosen"]), abs=0.01
    )
    assert sum(rate["shown"] for rate in told["missing"]) == VISITS
    assert sum(rate["missing"] for rate in told["missing"]) == told["defaulted"]


def test_with_pixels_the_recorded_visitors_are_held_against_their_taste(
    pho: Any, demo_folder: Path
) -> None:
    ran = pho("simulate", "--pixels", "--visits", 6, "--seed", 1, "--data", demo_folder, "--json")
    assert ran.status == 0, ran.err
    truth = ran.json["true_value"]
    assert ran.json["visits"] == 6
    assert truth["best"] >= truth["chosen"]
    assert truth["best"] - truth["baseline"] > 0.3  # 85 % against 35 % smile, or one of the gaps


def test_a_person_gets_a_page(pho: Any, folder: Path) -> None:
    ran = pho("simulate", "--visits", VISITS, "--data", folder)
    assert ran.status == 0, ran.err
    assert "What it is truly worth" in ran.out
    assert "a greeting at random" in ran.out


def test_the_same_seed_gives_the_same_document_and_another_seed_another(
    pho: Any, folder: Path, tmp_path: Path
) -> None:
    first = pho("simulate", "--visits", VISITS, "--data", folder, "--json").json
    again = pho("simulate", "--visits", VISITS, "--data", tmp_path / "b", "--json").json
    other = pho("simulate", "--visits", 40, "--seed", 2, "--data", tmp_path / "c", "--json").json
    assert timeless(again) == timeless(first)
    assert other["policy"]["checksum"] != first["policy"]["checksum"]


@pytest.mark.parametrize("at", ["commit.before", "commit.after"])
@pytest.mark.parametrize("stop_at", [1, 3, 20, 47, 90])
def test_an_interrupted_simulation_goes_on_to_the_same_end(
    folder: Path, tmp_path: Path, stop_at: int, at: str
) -> None:
    class Stopped(Exception):
        """Stands for a process that ends."""

    played = simulation(tmp_path / "d")
    left = [stop_at]

    def step(name: str) -> None:
        left[0] -= name == at
        if left[0] == 0:
            raise Stopped

    played.log.steps = step
    with pytest.raises(Stopped):
        played.run(lambda _done, _all: None)
    played.log.close()
    going_on = simulation(tmp_path / "d")
    going_on.run(lambda _done, _all: None)
    assert outcomes(going_on.log) == outcomes(EmbeddedLog(folder, lambda: 0))


def outcomes(log: EmbeddedLog) -> list[bytes]:
    # Without the configuration: who stops between its two appends makes both again.
    rows = log.scan("outcomes")
    return [row.value for row in rows if isinstance(decode(row.value), OutcomeClosed)]


def test_the_reward_is_the_visitors_own_in_spite_of_passers_by_and_blur(folder: Path) -> None:
    played = simulation(folder)
    kiosk: SimulatedKiosk = played.kiosk
    whole, spoilt, missing = 0, 0, 0
    for row in played.log.scan("outcomes"):
        outcome = decode(row.value)
        if not isinstance(outcome, OutcomeClosed):
            continue
        index = int(outcome.choice.decision_id.rpartition("-")[2])
        visitor = played.world.visitor(index)
        assert kiosk.visit_id(visitor) == outcome.choice.decision_id
        usable = visitor.troubles.count("")
        assert len(outcome.member_ids) == usable
        if usable:
            expected = visitor.after(outcome.choice.action_id) - visitor.before
            assert outcome.reward == pytest.approx(expected)
        whole += usable == 2
        spoilt += usable == 1
        missing += usable == 0
    assert whole > 0
    assert spoilt > 0
    assert (whole + spoilt + missing) == VISITS
    played.log.close()


def test_a_folder_of_another_world_is_refused(pho: Any, folder: Path, tmp_path: Path) -> None:
    for other in (["--seed", 2], ["--visits", 7], ["--drift", 3], ["--algorithm", "uniform"]):
        ran = pho("simulate", "--visits", VISITS, *other, "--data", folder)
        assert ran.status == 2
        assert "--data" in ran.err
    log = EmbeddedLog(tmp_path / "shop", lambda: 1)
    log.append("ticks", Tick(1, "somebody"))
    log.close()
    ran = pho("simulate", "--data", tmp_path / "shop")
    assert ran.status == 2
    assert "no simulation made" in ran.err


@pytest.mark.parametrize(
    "wrong", [["--visits", 0], ["--kiosks", 0], ["--pixels", "--drift", 5], ["--algorithm", "x"]]
)
def test_wrong_options_are_wrong_usage(pho: Any, tmp_path: Path, wrong: list[Any]) -> None:
    assert pho("simulate", "--data", tmp_path / "d", *wrong).status == 2


def test_drift_makes_another_world_from_there_on(tmp_path: Path) -> None:
    played = simulation(tmp_path / "d", drift=100)
    assert played.world.visitor(99).taste != played.world.visitor(100).taste
    assert json.loads(played.log.fact("simulate.plan"))["drift"] == 100
    assert played.expected("visit-1-0000099", "joke") == played.world.visitor(99).expected("joke")
    assert played.expected("visit-2-0000099", "joke") is None
    played.log.close()
