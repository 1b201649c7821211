"""How two policies differ: what each would do in the contexts that really came, and why."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from connectors.logs import Log
from policies.base import Policy, Vector
from policies.linear import LinearPosterior
from schemas.codec import decode
from schemas.decisions import DecisionMade
from schemas.errors import PolicyError, RecordError
from schemas.loops import LoopConfigured
from serving.console import out

_WEIGHTS_SHOWN = 10


def compare(
    log: Log, config: LoopConfigured, first: Policy, second: Policy, count: int
) -> dict[str, Any]:
    """Compare two policies on the newest decisions of a loop.

    Parameters
    ----------
    log : Log
        The log.
    config : LoopConfigured
        The loop.
    first, second : Policy
        The policies, for the loop's actions.
    count : int
        Newest records of `decisions` looked at; those of other loops or features, and fallbacks,
        have no context to compare on.

    Returns
    -------
    dict
        ``decisions``; ``distance_mean``, the mean total variation distance (0..1) of what the
        policies alone say; ``same_favourite``, the share of contexts where both give the same
        action most; ``actions`` with the mean probability of each; ``weights``, the mean weights
        that differ most, where both policies weigh features.

    Raises
    ------
    PolicyError
        No decision can be compared on.
    """
    first, second = first.with_actions(config.action_ids), second.with_actions(config.action_ids)
    pairs = []
    for row in log.last("decisions", count):
        try:
            made = decode(row.value)
        except RecordError:
            continue
        if not isinstance(made, DecisionMade) or made.choice.mode == "fallback":
            continue
        choice = made.choice
        same = choice.loop_id == config.loop_id and choice.features_hash == config.features_hash
        if same and tuple(action.id for action in choice.actions) == config.action_ids:
            eligible = [action.eligible for action in choice.actions]
            both = (policy.probabilities(choice.features, eligible) for policy in (first, second))
            pairs.append(np.stack(tuple(both)))
    if not pairs:
        problem = f"{log.name} holds no decision of loop {config.loop_id!r} to compare on"
        raise PolicyError(problem, "Wait for the first visitor, or look at more: --last N")
    said = np.stack(pairs)
    means = said.mean(axis=0)
    return {
        "decisions": len(pairs),
        "distance_mean": float(np.abs(said[:, 0] - said[:, 1]).sum(axis=1).mean() / 2.0),
        "same_favourite": float((said[:, 0].argmax(1) == said[:, 1].argmax(1)).mean()),
        "actions": [
            {"action": action, "first": float(one), "second": float(other)}
            for action, one, other in zip(config.action_ids, *means, strict=True)
        ],
        "weights": _weights(config, first, second),
    }


def _weights(config: LoopConfigured, first: Policy, second: Policy) -> list[dict[str, Any]]:
    both = [mean_weights(policy) for policy in (first, second)]
    if both[0] is None or both[1] is None:
        return []
    gaps = np.abs(both[0] - both[1])
    order = np.argsort(-gaps, axis=None, kind="stable")[:_WEIGHTS_SHOWN]
    found = []
    for feature, action in zip(*np.unravel_index(order, gaps.shape), strict=True):
        found.append(
            {
                "action": config.action_ids[int(action)],
                "feature": config.feature_names[int(feature)],
                "first": float(both[0][feature, action]),
                "second": float(both[1][feature, action]),
            }
        )
    return found


def mean_weights(policy: Policy) -> Vector | None:
    """Return the mean weight of each feature for each action.

    Returns
    -------
    ndarray of float64, shape (n_features, n_actions), or None
        None: this policy does not weigh features.
    """
    posterior = getattr(policy, "posterior", None)
    if not isinstance(posterior, LinearPosterior):
        return None
    # The mean is linear in the context, so that of a unit vector is one feature's weight.
    units = np.eye(len(policy.features))
    return np.stack([posterior.estimates(unit)[0] for unit in units])


def show_difference(document: dict[str, Any]) -> None:
    """Print what `compare` found."""
    first, second = document["policies"]
    out.print(
        f"{document['decisions']:,} decisions: {first} and {second} differ by "
        f"{document['distance_mean']:.3f} of the probability in the mean, and would choose the "
        f"same most often in {document['same_favourite']:.0%}",
        highlight=False,
    )
    table = Table()
    for name in ("action", first, second):
        table.add_column(escape(name))
    for row in document["actions"]:
        table.add_row(escape(row["action"]), f"{row['first']:.3f}", f"{row['second']:.3f}")
    out.print(table)
    if not document["weights"]:
        return
    table = Table(title="mean weights that differ most", title_justify="left")
    for name in ("action", "feature", first, second):
        table.add_column(escape(name))
    for row in document["weights"]:
        numbers = (f"{row['first']:+.3f}", f"{row['second']:+.3f}")
        table.add_row(escape(row["action"]), escape(row["feature"]), *numbers)
    out.print(table)
