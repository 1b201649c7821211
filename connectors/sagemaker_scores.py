"""Asks a SageMaker endpoint how likely each action should be, in time or not at all.

It is asked beside the analysis of a deciding picture. Whatever goes wrong (late, down, throttled,
an answer that is none) gives no scores, and the loop's own policy decides; nothing is raised.

The endpoint gets one JSON document and no id, no picture and no face::

    {"loop": "greeting", "features": {"bias": 1.0, "happy": 0.31}, "actions": ["welcome", "joke"]}

and answers with ``probabilities`` (of every action, at least 0; scaled to add up to 1) or with
``scores`` (finite numbers; their softmax is taken), a list in the order of the actions or by name::

    {"probabilities": {"welcome": 0.2, "joke": 0.8}}
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.aws_errors import call, read_body
from connectors.guarding import CircuitBreaker, TokenBucket
from pipelines.analyze import Seen
from policies.endpoint import PREFIX, SCORED, is_score, score_feature
from schemas.errors import CloudError
from schemas.features import context_features
from schemas.frames import FrameCaptured, Score, nearest
from schemas.loops import LoopConfigured

NAME = "sagemaker-runtime"
ANSWER_BYTES_MAX = 1_000_000
_JSON = "application/json"
_LABEL = "label."


@dataclass(slots=True)
class ScoreCounters:
    """What happened, as numbers of times."""

    asked: int = 0
    """Calls sent."""
    scored: int = 0
    """Of those, calls that gave probabilities."""
    failed: int = 0
    """Calls that failed or came too late."""
    refused: int = 0
    """Answers that were no probabilities for these actions."""
    not_asked: int = 0
    """Contexts not asked about: too many a second, or it failed too often just before."""


class EndpointScores:
    """One endpoint. Called from several threads.

    Parameters
    ----------
    client : boto3 client of SageMaker's runtime
        Without retries of its own: `make_client` makes one.
    endpoint : str
        The endpoint's name.
    rate : TokenBucket
        Each call takes one; where none is left nothing is asked.
    breaker : CircuitBreaker
        Opens when it fails.
    time_limit_ms : int
        How long a visitor may wait for it, ms: `client` keeps to it.
    """

    def __init__(
        self,
        client: Any,
        endpoint: str,
        rate: TokenBucket,
        breaker: CircuitBreaker,
        time_limit_ms: int,
    ) -> None:
        self.counters = ScoreCounters()
        self.endpoint = endpoint
        self.breaker = breaker
        self.time_limit_ms = time_limit_ms
        self.last_error = ""
        """Why the last call gave nothing, for a person to read."""
        self._client = client
        self._rate = rate
        self._lock = threading.Lock()

    def score(self, frame: FrameCaptured, what: Seen, config: LoopConfigured) -> tuple[Score, ...]:
        """Return what the endpoint says of a deciding picture, as labels; none: it said nothing.

        Parameters
        ----------
        frame : FrameCaptured
            The frame; only ``pre`` frames decide.
        what : Seen
            What was seen in it; an empty room is asked nothing.
        config : LoopConfigured
            Its loop; only one with a policy ``endpoint:…`` is asked about.
        """
        wanted = any(policy.algorithm.startswith(PREFIX) for policy in config.policies)
        face = nearest(what.faces)
        if not wanted or face is None or frame.phase != "pre":
            return ()
        names = tuple(name for name in config.feature_names if not is_score(name))
        values = context_features(
            names, face, what.labels, frame.captured_at_ms, frame.utc_offset_minutes
        )
        actions = config.action_ids
        document = {
            "loop": config.loop_id,
            "features": dict(zip(names, values, strict=True)),
            "actions": list(actions),
        }
        probabilities = self._asked(document, actions)
        if probabilities is None:
            return ()
        told = (Score(SCORED.removeprefix(_LABEL), 1.0),)
        pairs = zip(actions, probabilities, strict=True)
        return told + tuple(Score(score_feature(a).removeprefix(_LABEL), p) for a, p in pairs)

    def _asked(self, document: Any, actions: Sequence[str]) -> tuple[float, ...] | None:
        if not self.breaker.allows() or not self._rate.take(0.0):
            self._note("not_asked")
            return None
        self._note("asked")
        try:
            answer = call(
                self._client,
                NAME,
                "InvokeEndpoint",
                what=self.endpoint,
                EndpointName=self.endpoint,
                ContentType=_JSON,
                Accept=_JSON,
                Body=json.dumps(document).encode(),
            )
            data = read_body(
                answer["Body"], NAME, "InvokeEndpoint", ANSWER_BYTES_MAX, self.endpoint
            )
        except CloudError as error:
            self._note("failed", str(error))
            self.breaker.failed(for_good=error.action == "stop")
            return None
        probabilities = read_answer(data, actions)
        if probabilities is None:
            self._note("refused", f"{self.endpoint} gave no probabilities: {data[:100]!r}")
            self.breaker.failed()
            return None
        self._note("scored")
        self.breaker.succeeded()
        return probabilities

    def _note(self, name: str, error: str = "") -> None:
        with self._lock:
            setattr(self.counters, name, getattr(self.counters, name) + 1)
            self.last_error = error or self.last_error


def read_answer(data: bytes, actions: Sequence[str]) -> tuple[float, ...] | None:
    """Return a probability for each action, adding up to 1; None: the answer has none.

    Parameters
    ----------
    data : bytes
        As the endpoint answered.
    actions : sequence of str, shape (n_actions,)
        In the order offered.
    """
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    if "probabilities" in told:
        shares = _in_order(told["probabilities"], actions)
        if shares is None or min(shares) < 0.0:
            return None
    else:
        scores = _in_order(told.get("scores"), actions)
        if scores is None:
            return None
        shares = tuple(math.exp(score - max(scores)) for score in scores)
    largest = max(shares)
    if largest <= 0.0:
        return None
    # By the largest first: the sum of numbers near the end of what a float holds is none.
    shares = tuple(share / largest for share in shares)
    total = math.fsum(shares)
    return tuple(share / total for share in shares)


def _in_order(values: Any, actions: Sequence[str]) -> tuple[float, ...] | None:
    """Return one finite number for each action; None: they are not that."""
    if isinstance(values, Mapping):
        values = [values.get(action) for action in actions]
    if not isinstance(values, list) or len(values) != len(actions) or not values:
        return None
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return None
    try:
        numbers = tuple(map(float, values))
    except OverflowError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def make_client(clients: Any, time_limit_ms: int, concurrency: int) -> Any:
    """Return a client that waits no longer than a visitor would, and never asks twice.

    Parameters
    ----------
    clients : connectors.aws_clients.AwsClients
        Makes it.
    time_limit_ms : int
        Of one call, ms.
    concurrency : int
        Threads that will call at once.
    """
    return clients.fresh(
        NAME,
        connect_timeout=time_limit_ms / 1_000,
        read_timeout=time_limit_ms / 1_000,
        retries={"mode": "standard", "total_max_attempts": 1},
        max_pool_connections=max(10, concurrency),
    )
