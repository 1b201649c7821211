"""`pho export`: the decisions with their rewards, as other tools read them."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import judged
import worlds
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from policies.evaluation.estimators import Judge
from policies.evaluation.scores import score_all
from schemas.codec import decode
from schemas.outcomes import OutcomeClosed
from serving.evaluating import Question, evaluate

COUNT = 60
LOOP = judged.config()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("exported") / "shop"
    judged.write(made, LOOP, COUNT).close()
    return made


def outcomes(folder: Path) -> dict[str, OutcomeClosed]:
    values = (decode(row.value) for row in EmbeddedLog(folder, SetClock()).scan("outcomes"))
    return {v.choice.decision_id: v for v in values if isinstance(v, OutcomeClosed)}


def test_dsjson_has_a_line_for_each_decision_in_their_order(
    pho: Any, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "log.dsjson"
    ran = pho("export", "--format", "dsjson", "--out", path, "--data", folder, "--json")
    assert ran.status == 0
    assert ran.json["decisions"] == COUNT
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [line["EventId"] for line in lines] == [f"d{n:05d}" for n in range(COUNT)]
    known = outcomes(folder)
    for line in lines:
        outcome = known[line["EventId"]]
        choice = outcome.choice
        assert line["_label_cost"] == -outcome.reward
        assert line["a"][0] == line["_label_Action"] == line["_labelIndex"] + 1
        assert line["p"][0] == line["_label_probability"] == choice.propensity_ppb / 1e9
        assert sorted(line["a"]) == [1, 2, 3]
        assert sum(line["p"]) == pytest.approx(1.0)
        by_place = dict(zip(line["a"], line["p"], strict=True))
        for place, action in enumerate(choice.actions, start=1):
            assert by_place[place] == action.probability_ppb / 1e9
            assert line["c"]["_multi"][place - 1] == {"a": {"id": action.id}}
        assert line["c"]["s"]["happy"] == choice.features.dense[1]


def test_what_is_exported_gives_the_estimates_of_the_log(
    pho: Any, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "log.dsjson"
    pho("export", "--out", path, "--data", folder)
    judge = Judge()
    for text in path.read_text("utf-8").splitlines():
        line = json.loads(text)
        q = np.array([dict(zip(line["a"], line["p"], strict=True))[place] for place in (1, 2, 3)])
        reward = (1.0 - line["_label_cost"]) / 2.0
        (score,) = score_all(
            np.full((1, 3), 1 / 3), q, line["_labelIndex"], reward, np.full(3, 0.5)
        )
        judge.take(score)
    report = evaluate(EmbeddedLog(folder, SetClock()), Question(method="ips"))
    (row,) = [row for row in report.rows if row.target == "uniform"]
    assert 2.0 * judge.estimate("ips", 0.05).value - 1.0 == pytest.approx(row.estimate.value)


def test_obp_is_arrays_that_need_no_unpickling(pho: Any, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "log.npz"
    ran = pho("export", "--format", "obp", "--out", path, "--data", folder)
    assert ran.status == 0
    assert f"{COUNT} decisions" in ran.out
    found = np.load(path)
    assert int(found["n_rounds"]) == COUNT
    assert int(found["n_actions"]) == 3
    assert found["context"].shape == (COUNT, 5)
    assert found["probabilities"].sum(axis=1) == pytest.approx(np.ones(COUNT))
    taken = found["probabilities"][np.arange(COUNT), found["action"]]
    assert np.array_equal(taken, found["pscore"])
    known = outcomes(folder)
    assert found["reward"].tolist() == [known[f"d{n:05d}"].reward for n in range(COUNT)]
    assert found["action_ids"].tolist() == ["a0", "a1", "a2"]


def test_parquet_is_written_where_pyarrow_is_and_refused_with_the_cure_elsewhere(
    pho: Any, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "log.parquet"
    ran = pho("export", "--format", "parquet", "--out", path, "--data", folder)
    if find_spec("pyarrow") is None:
        assert ran.status == 3
        assert "pho[beam]" in ran.err
        assert not path.exists()
        return
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path).to_pylist()
    assert [row["decision_id"] for row in table] == [f"d{n:05d}" for n in range(COUNT)]
    assert table[0]["feature_names"] == list(LOOP.feature_names)


def test_decisions_of_several_sets_of_actions_are_no_single_table_for_obp(
    pho: Any, tmp_path: Path
) -> None:
    clock = SetClock(worlds.START_MS)
    log = EmbeddedLog(tmp_path / "shop", clock)
    for number, actions in enumerate((3, 4)):
        loop = worlds.loop(actions, "uniform")
        made = worlds.decided(f"d{number}", worlds.START_MS, loop)
        log.append_all([("loops", loop), ("decisions", made)])
        log.append("outcomes", worlds.outcome(made, 0.5))
    log.close()
    arguments = ("--out", tmp_path / "x", "--data", tmp_path / "shop")
    ran = pho("export", "--format", "obp", *arguments)
    assert ran.status == 2
    assert "dsjson" in ran.err
    assert pho("export", "--format", "dsjson", *arguments).status == 0


@pytest.mark.parametrize(
    "line", [("--format", "csv", "--out", "x"), ("--out", "no/such/folder/x"), ("--format", "obp")]
)
def test_wrong_usage_leaves_with_2(pho: Any, folder: Path, line: tuple[str, ...]) -> None:
    assert pho("export", "--data", folder, *line).status == 2
