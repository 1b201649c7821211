"""A log in other tools' formats: for VowpalWabbit, for obp, and as a table.

Only decisions with a reward go out, in their order, as evaluation takes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from policies.evaluation.records import Logged
from schemas.checks import PPB
from schemas.decisions import Features
from schemas.errors import ResourceError, UsageError

FORMATS = ("dsjson", "obp", "parquet")
_PARQUET_CURE = "Install the extra: pip install 'pho[beam]'"
_ROWS_TOGETHER = 4_096


def write_dsjson(records: Iterable[Logged], names: tuple[str, ...], out: Path) -> int:
    """Write decisions as VowpalWabbit's dsjson: one JSON document a line; return how many.

    ``_label_cost`` is the reward with its sign turned, since VowpalWabbit wants costs. ``a`` and
    ``p`` begin with the chosen action, counted from 1, then the others in the order offered.

    Parameters
    ----------
    records : iterable of Logged
        What is written.
    names : tuple of str
        Names of the features, in the order of the dense context.
    out : Path
        The file.
    """
    count = 0
    with out.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(_dsjson(record, names), separators=(",", ":")) + "\n")
            count += 1
    return count


def _dsjson(record: Logged, names: tuple[str, ...]) -> dict[str, Any]:
    choice = record.outcome.choice
    n_actions = len(choice.actions)
    order = [record.index, *(place for place in range(n_actions) if place != record.index)]
    actions = [{"a": {"id": action.id}} for action in choice.actions]
    return {
        "_label_cost": 0.0 - record.outcome.reward,
        "_label_probability": choice.propensity_ppb / PPB,
        "_label_Action": record.index + 1,
        "_labelIndex": record.index,
        "Version": "1",
        "EventId": choice.decision_id,
        "a": [place + 1 for place in order],
        "c": {"s": _named(choice.features, names), "_multi": actions},
        "p": [choice.actions[place].probability_ppb / PPB for place in order],
        "VWState": {"m": f"{choice.policy_id}/{choice.epoch}/{choice.version}"},
    }


def _named(features: Features, names: tuple[str, ...]) -> dict[str, float]:
    """Return a context by names; VowpalWabbit takes a feature of 0 as one that is not there."""
    if features.indices:
        pairs = zip(features.indices, features.values, strict=True)
        named = ((names[i] if i < len(names) else f"f{i}", value) for i, value in pairs)
        return dict(named)
    fits = len(features.dense) == len(names)
    return {
        names[place] if fits else f"f{place}": value
        for place, value in enumerate(features.dense)
        if value
    }


def write_obp(records: Iterable[Logged], names: tuple[str, ...], out: Path) -> int:
    """Write decisions as the arrays of obp's ``BanditFeedback``, as .npz; return how many.

    ``n_rounds``, ``n_actions``, ``context`` (n_rounds, dim), ``action``, ``position`` (0),
    ``reward``, ``pscore`` (n_rounds,), and besides ``probabilities`` (n_rounds, n_actions).
    Nothing in it needs to be unpickled.

    Raises
    ------
    UsageError
        When decisions differ in their actions or features: obp knows one set of each.
    """
    rows = list(records)
    shapes = {(record.action_ids, len(record.outcome.choice.features.dense)) for record in rows}
    if len(shapes) > 1 or not rows:
        problem = f"the decisions have {len(shapes)} different sets of actions and features"
        raise UsageError(problem, "obp needs one; take dsjson, or a log of one configuration")
    ((action_ids, _),) = shapes
    choices = [record.outcome.choice for record in rows]
    with out.open("wb") as file:
        np.savez_compressed(
            file,
            n_rounds=np.array(len(rows)),
            n_actions=np.array(len(action_ids)),
            context=np.array([choice.features.dense for choice in choices], dtype=np.float64),
            action=np.array([record.index for record in rows], dtype=np.int64),
            position=np.zeros(len(rows), dtype=np.int64),
            reward=np.array([record.outcome.reward for record in rows], dtype=np.float64),
            pscore=np.array([choice.propensity_ppb for choice in choices]) / PPB,
            probabilities=np.array([record.probabilities for record in rows]),
            action_ids=np.array(action_ids),
            feature_names=np.array(names),
        )
    return len(rows)


def write_parquet(records: Iterable[Logged], names: tuple[str, ...], out: Path) -> int:
    """Write decisions as a Parquet table, one row each; return how many.

    Raises
    ------
    ResourceError
        When pyarrow is not installed.
    """
    if find_spec("pyarrow") is None:
        problem = "Parquet needs pyarrow, which is not installed"
        raise ResourceError(problem, _PARQUET_CURE)
    import pyarrow
    import pyarrow.parquet

    count = 0
    writer = None
    try:
        for rows in _together(_flat(record, names) for record in records):
            table = pyarrow.Table.from_pylist(rows, schema=_arrow_schema(pyarrow))
            if writer is None:
                writer = pyarrow.parquet.ParquetWriter(out, table.schema)
            writer.write_table(table)
            count += len(rows)
    finally:
        if writer is not None:
            writer.close()
    return count


def _together(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    bundle: list[dict[str, Any]] = []
    for row in rows:
        bundle.append(row)
        if len(bundle) == _ROWS_TOGETHER:
            yield bundle
            bundle = []
    # The last also where it is empty: a table without rows still has its columns.
    yield bundle


def _flat(record: Logged, names: tuple[str, ...]) -> dict[str, Any]:
    outcome, choice = record.outcome, record.outcome.choice
    return {
        "decision_id": choice.decision_id,
        "loop_id": choice.loop_id,
        "kiosk_id": choice.kiosk_id,
        "decided_at_ms": choice.decided_at_ms,
        "closed_at_ms": outcome.closed_at_ms,
        "action_id": choice.action_id,
        "propensity": choice.propensity_ppb / PPB,
        "reward": outcome.reward,
        "result": outcome.result,
        "precision": outcome.precision,
        "control": choice.control,
        "policy_id": choice.policy_id,
        "epoch": choice.epoch,
        "version": choice.version,
        "actions": list(record.action_ids),
        "probabilities": record.probabilities.tolist(),
        "feature_names": list(names),
        "features": list(choice.features.dense),
    }


def _arrow_schema(pyarrow: Any) -> Any:
    text, number, whole = pyarrow.string(), pyarrow.float64(), pyarrow.int64()
    kinds = {
        **dict.fromkeys(("decision_id", "loop_id", "kiosk_id", "action_id", "result"), text),
        **dict.fromkeys(("decided_at_ms", "closed_at_ms", "epoch", "version"), whole),
        **dict.fromkeys(("propensity", "reward", "precision"), number),
        "control": pyarrow.bool_(),
        "policy_id": text,
        "actions": pyarrow.list_(text),
        "feature_names": pyarrow.list_(text),
        "probabilities": pyarrow.list_(number),
        "features": pyarrow.list_(number),
    }
    return pyarrow.schema(list(kinds.items()))
