"""pho policy: what it lists, what it refuses, and what the job makes of what it says."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from learning_shops import LearningShop
from schemas.codec import decode
from schemas.errors import PolicyError
from schemas.loops import Parameter, PolicyConfigured
from schemas.outcomes import PolicyDirected
from serving.directing import directive, give, standing
from worlds import loop

MAIN = PolicyConfigured("main", "thompson")
QUICK = PolicyConfigured("quick", "thompson", "shadow", (Parameter("discount", 0.9),))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[LearningShop]:
    shop = LearningShop(tmp_path / "shop", loop(policies=(MAIN, QUICK)))
    shop.visit(6)
    yield shop
    shop.log.close()


@dataclass(frozen=True)
class Verdict:
    policy_id: str
    difference: float = 0.1
    low: float = 0.02
    high: float = 0.2
    n: int = 500
    better: bool = True
    text: str = "quick leads by 0.1"


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> list[Verdict]:
    found: list[Verdict] = []
    module = ModuleType("serving.challengers")
    module.verdicts = lambda _log, _loop_id: found  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "serving.challengers", module)
    return found


def test_a_decision_tells_what_each_shadow_would_have_done(shop: LearningShop) -> None:
    made = shop.visit()
    (shadow,) = made.choice.shadows
    assert (made.choice.policy_id, shadow.policy_id) == ("main", "quick")
    assert (shadow.epoch, shadow.version) == (0, 6)
    assert sum(shadow.probabilities_ppb) == 1_000_000_000
    assert shadow.probabilities_ppb != tuple(o.probability_ppb for o in made.choice.actions)


def test_ls_tells_role_version_and_checksum_of_each(pho: Any, shop: LearningShop) -> None:
    ran = pho("policy", "ls", "--data", shop.folder, "--json")
    assert ran.status == 0
    main, quick = ran.json
    assert (main["policy"], main["role"], main["epoch"], main["version"]) == (
        "main",
        "serving",
        0,
        6,
    )
    assert (quick["policy"], quick["role"], quick["base"]) == ("quick", "shadow", None)
    assert main["checksum"] == shop.snapshot().checksum
    plain = pho("policy", "ls", "--data", shop.folder)
    assert plain.status == 0
    assert "quick" in plain.out
    assert "0.6" in plain.out


def test_a_promotion_with_evidence_serves_from_the_next_decision_on(
    pho: Any, shop: LearningShop, verdicts: list[Verdict]
) -> None:
    verdicts.append(Verdict("quick"))
    ran = pho("policy", "promote", "quick", "--data", shop.folder, "--by", "Ada", "--json")
    assert ran.status == 0, ran.err
    assert ran.json["evidence"] == {"difference": 0.1, "low": 0.02, "high": 0.2, "n": 500.0}
    told = shop.newest("outcomes")
    assert isinstance(told, PolicyDirected)
    assert (told.kind, told.policy_id, told.by) == ("promote", "quick", "Ada")
    assert told.reason == "quick leads by 0.1"
    shop.run()
    made = shop.visit()
    assert made.choice.policy_id == "quick"
    assert [shadow.policy_id for shadow in made.choice.shadows] == ["main"]
    assert made.choice.policy_checksum


@pytest.mark.parametrize("known", [[], [Verdict("quick", better=False, text="too few")]])
def test_a_promotion_without_evidence_leaves_with_1_unless_it_is_forced(
    pho: Any, shop: LearningShop, verdicts: list[Verdict], known: list[Verdict]
) -> None:
    verdicts.extend(known)
    count = shop.log.counts()["outcomes"]
    ran = pho("policy", "promote", "quick", "--data", shop.folder)
    assert ran.status == 1
    assert "--force" in ran.err
    assert shop.log.counts()["outcomes"] == count
    assert pho("policy", "promote", "quick", "--force", "--data", shop.folder).status == 0
    assert shop.log.counts()["outcomes"] == count + 1


def test_a_rollback_serves_the_bytes_of_the_version_it_names(pho: Any, shop: LearningShop) -> None:
    base = next(made.choice for made in shop.all("decisions") if made.choice.version == 3)
    ran = pho("policy", "rollback", "main", "--to", "3", "--data", shop.folder, "--json")
    assert ran.status == 0, ran.err
    assert (ran.json["new_epoch"], ran.json["base"]) == (1, [0, 3])
    shop.run()
    newest = shop.snapshot()
    assert (newest.epoch, newest.version, newest.checksum) == (1, 0, base.policy_checksum)
    assert (newest.base_epoch, newest.base_version) == (0, 3)
    made = shop.visit()
    assert (made.choice.epoch, made.choice.version) == (1, 0)
    assert made.choice.policy_checksum == base.policy_checksum
    again = pho("policy", "rollback", "main", "--to", "0.5", "--data", shop.folder, "--json")
    assert (again.json["new_epoch"], again.json["base"]) == (2, [0, 5])


def test_a_rollback_follows_the_actions_that_are_offered_now(pho: Any, shop: LearningShop) -> None:
    shop.configured(loop(4, policies=(MAIN, QUICK)))
    assert pho("policy", "rollback", "main", "--to", "3", "--data", shop.folder).status == 0
    shop.run()
    assert (shop.snapshot().epoch, shop.snapshot().actions) == (1, ("a0", "a1", "a2", "a3"))


@pytest.mark.parametrize(
    ("to", "status", "cure"),
    [("99", 1, "pho policy ls"), ("1.0", 1, "pho policy ls"), ("x", 2, "EPOCH.VERSION")],
)
def test_a_version_that_never_was_cannot_be_returned_to(
    pho: Any, shop: LearningShop, to: str, status: int, cure: str
) -> None:
    ran = pho("policy", "rollback", "main", "--to", to, "--data", shop.folder)
    assert ran.status == status
    assert cure in ran.err


def test_what_was_learned_under_other_rules_is_not_returned_to(
    pho: Any, shop: LearningShop
) -> None:
    shop.configured(loop(policies=(MAIN, QUICK), rules={"default_reward": 0.5}))
    ran = pho("policy", "rollback", "main", "--to", "0.3", "--data", shop.folder)
    assert ran.status == 1
    assert "reward rules" in ran.err


def test_retire_add_and_explore_are_obeyed(pho: Any, shop: LearningShop) -> None:
    assert pho("policy", "retire", "quick", "--data", shop.folder).status == 0
    assert pho("policy", "explore", "main", "--floor", "0.4", "--data", shop.folder).status == 0
    shop.run()
    made = shop.visit()
    assert (made.choice.shadows, made.choice.floor_ppb) == ((), 400_000_000)
    assert pho("policy", "add", "quick", "--data", shop.folder).status == 0
    shop.run()
    assert [shadow.policy_id for shadow in shop.visit().choice.shadows] == ["quick"]
    assert shop.all("dead-letters") == []


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (("promote", "main", "--force"), 1),
        (("promote", "nobody", "--force"), 2),
        (("retire", "main"), 1),
        (("add", "quick"), 1),
        (("explore", "main", "--floor", "1.5"), 2),
        (("ls", "--loop", "elsewhere"), 2),
        (("diff", "quick", "--loop", "elsewhere"), 2),
    ],
)
def test_what_cannot_be_obeyed_is_refused_before_it_stands_in_the_log(
    pho: Any, shop: LearningShop, line: tuple[str, ...], status: int
) -> None:
    count = shop.log.counts()["outcomes"]
    ran = pho("policy", *line, "--data", shop.folder)
    assert ran.status == status
    assert "do:" in ran.err
    assert shop.log.counts()["outcomes"] == count


def test_diff_compares_on_the_contexts_that_came(pho: Any, shop: LearningShop) -> None:
    same = pho("policy", "diff", "main", "main", "--data", shop.folder, "--json").json
    assert (same["decisions"], same["distance_mean"], same["same_favourite"]) == (6, 0.0, 1.0)
    other = pho("policy", "diff", "quick", "--last", "4", "--data", shop.folder, "--json").json
    assert (other["policies"], other["decisions"]) == (["quick", "main"], 4)
    assert 0.0 < other["distance_mean"] <= 1.0
    for name in ("first", "second"):
        assert sum(row[name] for row in other["actions"]) == pytest.approx(1.0)
    assert other["weights"][0]["first"] != other["weights"][0]["second"]
    assert "same most often" in pho("policy", "diff", "quick", "--data", shop.folder).out


def test_the_same_directive_given_twice_is_one(shop: LearningShop) -> None:
    state = standing(shop.log, "greeting")
    told = directive(state, "retire", "quick", "Ada", "twice")
    assert give(shop.log, state, told) == give(shop.log, state, told)
    shop.run()
    assert shop.snapshot("quick").version == 7
    assert shop.all("dead-letters") == []
    with pytest.raises(PolicyError, match="not in shadow"):
        give(shop.log, standing(shop.log, "greeting"), told)


def test_a_saved_version_is_read_back_and_judged(
    pho: Any, shop: LearningShop, tmp_path: Path
) -> None:
    file = tmp_path / "main-3.avro"
    ran = pho("policy", "save", "main", "--at", "3", "--out", file, "--data", shop.folder)
    assert (ran.status, "main at 0.3" in ran.out) == (0, True)
    snapshot = decode(file.read_bytes())
    assert (snapshot.policy_id, snapshot.version) == ("main", 3)
    newest = tmp_path / "newest.avro"
    assert pho("policy", "save", "main", "--out", newest, "--data", shop.folder).status == 0
    assert decode(newest.read_bytes()).version == 6
    assert pho("evaluate", "--policy", file, "--data", shop.folder).status == 0


def test_a_version_that_cannot_be_saved_says_why(
    pho: Any, shop: LearningShop, tmp_path: Path
) -> None:
    for more in (
        ("--at", "99", "--out", tmp_path / "a"),
        ("--at", "x", "--out", tmp_path / "a"),
        ("--out", tmp_path / "no" / "a"),
    ):
        ran = pho("policy", "save", "main", *more, "--data", shop.folder)
        assert ran.status in (1, 2)
        assert "do:" in ran.err
    assert list(tmp_path.glob("a")) == []
