"""Look at a picture with Amazon Rekognition: DetectFaces with all attributes, DetectLabels.

Called from several threads. Retries are ours and bounded by one time limit: the client makes none,
since botocore's share a quota and cannot be told how long a visitor waits. Where it is slow, down,
throttled or too dear, another analyser stands in for it, and the answer says so.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from connectors.aws_errors import call
from connectors.guarding import CircuitBreaker, Spending, TokenBucket
from connectors.picture_format import read_format
from connectors.rekognition_faces import face_of, label_of
from pipelines.analyze import BREAKER_OPEN, OVER_BUDGET, Analyser, NotAsked, Seen
from schemas.errors import AnalysisError, CloudError, PictureUnreadable

PICTURE_BYTES_MAX = 5 * 1024 * 1024
"""Largest picture sent as bytes (Rekognition's quota); boto3 does not check it."""
API_VERSION = "2016-06-27"
NAME = "rekognition"

_PAUSE_S = 0.1
_PAUSE_MAX_S = 2.0
_METHOD_VERSION = 1  # raise it when the mapping changes the answers


@dataclass(frozen=True, slots=True)
class Patience:
    """How long and how often one picture is asked about."""

    time_limit_ms: int = 4_000
    """All calls for one picture, pauses and all, ms; below the engine's own limit."""
    tries: int = 3
    """Calls of one operation, the first included."""
    labels: bool = False
    """Whether objects are asked for too: a second call for each picture with a face."""
    max_labels: int = 20
    """Labels of one picture, the surest."""
    min_label_confidence: float = 0.5
    """Labels below are not told, 0..1."""


@dataclass(slots=True)
class Counters:
    """What happened, as numbers of times."""

    pictures: int = 0
    """Pictures asked about."""
    calls: int = 0
    """Calls sent, repeats included."""
    retries: int = 0
    """Of those, repeats."""
    throttled: int = 0
    """Calls refused for their rate."""
    failed: int = 0
    """Pictures that got no answer from Rekognition."""
    fallbacks: int = 0
    """Of those, pictures that another analyser looked at."""
    over_budget: int = 0
    """Pictures not asked about: the day's budget was used up."""
    over_rate: int = 0
    """Pictures whose turn did not come in time."""
    broken: int = 0
    """Pictures not asked about: it failed too often just before."""


class RekognitionAnalyser:
    """An analyser in the cloud, with another one behind it.

    Parameters
    ----------
    client : boto3 client of Rekognition
        Without retries of its own, with time limits below `patience.time_limit_ms`:
        `make_client` makes one.
    rate : TokenBucket
        Below the account's quota; each call takes one.
    breaker : CircuitBreaker
        Opens when it fails.
    spending : Spending
        Counts and limits what it costs.
    fallback : Analyser, optional
        Looks where Rekognition cannot; None: such frames are answered ``failed``.
    patience : Patience, optional
        How long, how often, and what for.
    now_s, sleep : callable, optional
        Stand for the machine's clock, in tests.
    """

    name = NAME
    version = f"{_METHOD_VERSION}-{API_VERSION}"

    def __init__(
        self,
        client: Any,
        rate: TokenBucket,
        breaker: CircuitBreaker,
        spending: Spending,
        fallback: Analyser | None = None,
        patience: Patience | None = None,
        now_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.counters = Counters()
        self.rate = rate
        self.breaker = breaker
        self.spending = spending
        self.fallback = fallback
        self._client = client
        self._patience = patience or Patience()
        self._now_s = now_s
        self._sleep = sleep
        self._lock = threading.Lock()

    def analyse(self, picture: bytes) -> Seen:
        """Find every face in a picture, and what else was asked for.

        Parameters
        ----------
        picture : bytes
            JPEG or PNG of at most 5 MiB; others go to the fallback.

        Raises
        ------
        PictureUnreadable
            Empty, torn, too large or no picture: asking again does not help.
        AnalysisError
            No answer, and no fallback: its text says why.
        """
        kind = read_format(picture).kind
        self._note("pictures")
        if kind == "webp" or len(picture) > PICTURE_BYTES_MAX:
            problem = f"Rekognition takes no {kind} of {len(picture):,} bytes"
            return self._without(picture, PictureUnreadable(problem, "Send JPEG of at most 5 MiB"))
        if not self.spending.allows():
            self._note("over_budget")
            told = NotAsked(NAME, OVER_BUDGET, self.spending.day)
            problem = f"{told}: the day's budget of {self.spending.daily_budget:g} is used up"
            cure = "Raise rekognition.daily_budget, or wait for midnight UTC"
            return self._without(picture, AnalysisError(problem, cure))
        if not self.breaker.allows():
            self._note("broken")
            told = NotAsked(NAME, BREAKER_OPEN)
            problem = f"{told}: Rekognition failed too often; it is asked again after a pause"
            return self._without(picture, AnalysisError(problem, "See the failures before"))
        try:
            seen = self._look(picture)
        except CloudError as error:
            return self._failed(picture, error)
        self.breaker.succeeded()
        return seen

    def _look(self, picture: bytes) -> Seen:
        until_s = self._now_s() + self._patience.time_limit_ms / 1_000.0
        image = {"Bytes": picture}
        answer = self._ask("DetectFaces", until_s, Image=image, Attributes=["ALL"])
        faces = _mapped("DetectFaces", face_of, answer["FaceDetails"])
        labels: tuple[Any, ...] = ()
        if faces and self._patience.labels:  # nobody decides for an empty room
            found = self._ask(
                "DetectLabels",
                until_s,
                Image=image,
                MaxLabels=self._patience.max_labels,
                MinConfidence=self._patience.min_label_confidence * 100.0,
            )
            labels = _mapped("DetectLabels", label_of, found["Labels"])
        return Seen(faces, self.name, self.version, labels)

    def _ask(self, operation: str, until_s: float, **request: Any) -> Any:
        """Call an operation until it answers, its time is up, or asking again cannot help."""
        for tried in range(self._patience.tries):
            if not self.rate.take(until_s - self._now_s()):
                self._note("over_rate")
                problem = f"a turn within {self.rate.per_second:g} calls a second did not come"
                raise CloudError(problem, "Raise rekognition.calls_per_second", "retry", "OwnRate")
            self._note("calls")
            if tried:
                self._note("retries")
            try:
                answer = call(self._client, NAME, operation, **request)
            except CloudError as error:
                if _is_throttling(error):
                    self._note("throttled")
                # Full jitter: threads that were refused together do not come again together.
                pause_s = min(_PAUSE_MAX_S, _PAUSE_S * 2**tried) * random.random()  # noqa: S311
                last = tried + 1 == self._patience.tries
                too_late = self._now_s() + pause_s >= until_s
                if error.action != "retry" or last or too_late:
                    raise
                self._sleep(pause_s)
            else:
                self.spending.count()
                return answer
        raise AssertionError  # tries is at least 1

    def _failed(self, picture: bytes, error: CloudError) -> Seen:
        if error.action == "dead_letter":
            # The picture's own fault: Rekognition is well.
            self.breaker.succeeded()
            return self._without(picture, PictureUnreadable(error.problem, error.cure))
        if error.code != "OwnRate":
            self.breaker.failed(for_good=error.action == "stop")
        return self._without(picture, AnalysisError(error.problem, error.cure))

    def _without(self, picture: bytes, error: AnalysisError | PictureUnreadable) -> Seen:
        self._note("failed")
        if self.fallback is None:
            raise error
        seen = replace(self.fallback.analyse(picture), fallback_of=self.name, why=str(error))
        self._note("fallbacks")
        return seen

    def _note(self, name: str) -> None:
        with self._lock:
            setattr(self.counters, name, getattr(self.counters, name) + 1)


def make_client(clients: Any, time_limit_ms: int, concurrency: int) -> Any:
    """Return a client of Rekognition that waits no longer than a visitor would.

    Parameters
    ----------
    clients : connectors.aws_clients.AwsClients
        Makes it.
    time_limit_ms : int
        Of one picture, ms.
    concurrency : int
        Threads that will call at once: each needs a connection.
    """
    return clients.fresh(
        NAME,
        connect_timeout=min(2.0, time_limit_ms / 1_000),
        read_timeout=time_limit_ms / 1_000,
        retries={"mode": "standard", "total_max_attempts": 1},
        max_pool_connections=max(10, concurrency),
    )


def _mapped(operation: str, make: Callable[[Any], Any], items: Any) -> tuple[Any, ...]:
    try:
        return tuple(make(item) for item in items)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"AWS {NAME} {operation}: an answer that is none of its own: {error!r}"
        cure = "Check the endpoint in [aws]; it is asked again"
        raise CloudError(problem, cure, "retry", "ForeignAnswer") from error


def _is_throttling(error: CloudError) -> bool:
    return "Throttling" in error.code or "ThroughputExceeded" in error.code
