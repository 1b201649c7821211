"""An endpoint is asked in time or not at all, and whatever it does a visitor is greeted."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.aws_clients import AwsAccess, AwsClients
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from connectors.guarding import CircuitBreaker, TokenBucket
from connectors.sagemaker_scores import EndpointScores, make_client, read_answer
from endpoint_server import EndpointServer
from engines.analysis import FrameAnswerer
from engines.embedded import EmbeddedEngine
from http_servers import serving
from local_aws_fixture import local_clients
from pipelines.analyze import Seen
from pipelines.topology import greeting_loop
from policies.endpoint import feature_names
from policies.probabilities import mix
from runs import NoAnalyser, NoPictures
from schemas.codec import decode
from schemas.decisions import DecisionMade
from schemas.frames import FrameAnalyzed, Score
from schemas.loops import LoopConfigured
from schemas.operations import Tick
from serving.replay.running import replay
from worlds import FEATURES, START_MS, captured, ended, face, loop, shown

ACTIONS = ("a0", "a1", "a2")
TOLD = (0.1, 0.2, 0.7)


@pytest.fixture
def server() -> Iterator[EndpointServer]:
    with serving(EndpointServer(lambda _request: {"probabilities": list(TOLD)})) as made:
        yield made


def asking(endpoint: str, time_limit_ms: int = 1_000, failures: int = 3) -> EndpointScores:
    clients = AwsClients(AwsAccess(region="eu-central-1", endpoint=endpoint))
    client = make_client(clients, time_limit_ms, 4)
    breaker = CircuitBreaker(failures, 0.3)
    return EndpointScores(client, "greeter", TokenBucket(1_000, 100), breaker, time_limit_ms)


def config(algorithm: str = "endpoint:thompson") -> LoopConfigured:
    return loop(algorithm=algorithm, feature_names=(*FEATURES, *feature_names(ACTIONS)))


def score(scores: EndpointScores, phase: str = "pre", **seen: Any) -> tuple[Score, ...]:
    frame = captured("v1", phase, 0, START_MS, 0.25)
    told = {"faces": (face(0.25),), "analyser": "x", "analyser_version": "1"} | seen
    return scores.score(frame, Seen(**told), config())


def test_it_is_told_features_and_actions_and_nobodys_id(server: EndpointServer) -> None:
    said = score(asking(server.endpoint))
    assert {each.name: each.confidence for each in said} == {
        "scored": 1.0,
        "score.a0": 0.1,
        "score.a1": 0.2,
        "score.a2": 0.7,
    }
    (asked,) = server.asked
    assert asked.pop("path") == "/endpoints/greeter/invocations"
    assert set(asked) == {"loop", "features", "actions"}
    assert (asked["loop"], asked["actions"]) == ("greeting", list(ACTIONS))
    assert set(asked["features"]) == set(FEATURES)
    assert asked["features"]["happy"] == 0.25


def test_nobody_is_asked_about_an_empty_room_or_a_reaction(server: EndpointServer) -> None:
    scores = asking(server.endpoint)
    assert score(scores, faces=()) == ()
    assert score(scores, "post") == ()
    plain = loop(feature_names=(*FEATURES, *feature_names(ACTIONS)))
    frame = captured("v1", "pre", 0, START_MS, 0.25)
    assert scores.score(frame, Seen((face(0.2),), "x", "1"), plain) == ()
    assert server.asked == []


@pytest.mark.parametrize(
    ("answer", "shares"),
    [
        ('{"probabilities": [0.1, 0.2, 0.7]}', TOLD),
        ('{"probabilities": [1, 2, 7]}', TOLD),
        ('{"probabilities": {"a2": 7, "a0": 1, "a1": 2}}', TOLD),
        ('{"scores": [0, 0, 0]}', (1 / 3, 1 / 3, 1 / 3)),
        ('{"scores": [-1e308, 1e308, 1e308]}', (0.0, 0.5, 0.5)),
        ('{"scores": {"a0": 0.0, "a1": 0.6931471805599453, "a2": 0.0}}', (0.25, 0.5, 0.25)),
        ('{"probabilities": [0, 0, 0]}', None),
        ('{"probabilities": [-0.1, 0.4, 0.7]}', None),
        ('{"probabilities": [0.5, 0.5]}', None),
        ('{"probabilities": {"a0": 1.0}}', None),
        ('{"probabilities": [NaN, 0.5, 0.5]}', None),
        ('{"probabilities": [1e308, 1e308, 1e308]}', (1 / 3, 1 / 3, 1 / 3)),
        ('{"probabilities": [true, 0.5, 0.5]}', None),
        ('{"probabilities": ["1", 0.5, 0.5]}', None),
        ('{"probabilities": [1' + "0" * 400 + ", 1, 1]}", None),
        ('{"scores": null}', None),
        ("{}", None),
        ("[0.1, 0.2, 0.7]", None),
        ("<html>", None),
        ("", None),
        ("[" * 100_000, None),
    ],
)
def test_what_counts_as_an_answer(answer: str, shares: tuple[float, ...] | None) -> None:
    told = read_answer(answer.encode(), ACTIONS)
    assert told == (None if shares is None else pytest.approx(shares))


def test_an_endpoint_that_is_late_is_not_waited_for(server: EndpointServer) -> None:
    server.delay_s = 3.0
    scores = asking(server.endpoint, time_limit_ms=150)
    started_s = time.monotonic()
    assert score(scores) == ()
    assert time.monotonic() - started_s < server.delay_s
    assert (scores.counters.failed, scores.counters.scored) == (1, 0)
    assert "ReadTimeoutError" in scores.last_error


@pytest.mark.parametrize(
    ("status", "error"),
    [(500, "InternalFailure"), (503, "ServiceUnavailable"), (424, "ModelError")],
)
def test_an_endpoint_that_fails_is_left_alone_for_a_while(
    server: EndpointServer, status: int, error: str
) -> None:
    server.status, server.error = status, error
    scores = asking(server.endpoint, failures=2)
    assert [score(scores) for _ in range(4)] == [()] * 4
    assert (len(server.asked), scores.counters.not_asked) == (2, 2)
    server.status = 200
    time.sleep(0.35)
    assert len(score(scores)) == 4


def test_an_endpoint_that_is_not_there_opens_at_once(server: EndpointServer) -> None:
    server.status, server.error = 400, "ValidationError"
    scores = asking(server.endpoint, failures=5)
    assert score(scores) == ()
    assert scores.breaker.is_open
    assert "greeter" in scores.last_error


def test_motos_endpoint_answers_over_the_real_protocol() -> None:
    import json

    with local_clients() as (aws, clients):
        body = json.dumps({"probabilities": dict(zip(ACTIONS, TOLD, strict=True))})
        results = [{"Body": body, "ContentType": "application/json"}]
        document = json.dumps({"region": clients.access.region, "results": results})
        url = f"{aws.endpoint}/moto-api/static/sagemaker/endpoint-results"
        told = urllib.request.Request(url, document.encode(), method="POST")  # noqa: S310
        told.add_header("Content-Type", "application/json")
        urllib.request.urlopen(told).close()  # noqa: S310 - the server a line above
        client = make_client(clients, 5_000, 4)
        breaker = CircuitBreaker(3, 1.0)
        scores = EndpointScores(client, "greeter", TokenBucket(10, 10), breaker, 5_000)
        assert [round(each.confidence, 9) for each in score(scores)] == [1.0, *TOLD]
        client.close()


class Shop:
    """The loop with an endpoint beside its analysis."""

    def __init__(self, folder: Path, scores: EndpointScores) -> None:
        self.clock = SetClock(START_MS)
        self.log = EmbeddedLog(folder, self.clock)
        answerer = FrameAnswerer(
            NoAnalyser(), NoPictures(), self.clock, picture_ttl_ms=None, scorer=scores
        )
        self.engine = EmbeddedEngine(self.log, greeting_loop(1), answerer, limited=False)
        for stream in ("outcomes", "loops"):
            self.add(stream, config())

    def add(self, stream: str, value: Any, after_ms: int = 1) -> None:
        self.clock.set(self.clock() + after_ms)
        self.log.append(stream, value)
        self.engine.run_to_rest()

    def visit(self, name: str) -> DecisionMade:
        self.add("frames", captured(name, "pre", 0, self.clock(), 0.25), 1_000)
        decision = self.decision(name)
        self.add("impressions", shown(name, decision.choice.action_id, self.clock()), 100)
        self.add("frames", captured(name, "post", 1, self.clock() + 1_000, 0.9), 1_000)
        self.add("visits", ended(name, self.clock(), 1), 500)
        return decision

    def decision(self, name: str) -> DecisionMade:
        (row,) = self.log.scan("decisions", key=name)
        decision: DecisionMade = decode(row.value)
        return decision

    def close(self) -> None:
        self.engine.close()
        self.log.close()


def test_each_decision_says_who_decided_and_with_which_probabilities(
    server: EndpointServer, tmp_path: Path
) -> None:
    shop = Shop(tmp_path / "shop", asking(server.endpoint, failures=1))
    told = shop.visit("v1")
    server.status = 500
    alone = shop.visit("v2")
    names = config().feature_names
    scored = names.index("label.scored")
    assert [each.choice.features.dense[scored] for each in (told, alone)] == [1.0, 0.0]
    mixed = mix(list(TOLD), (True,) * 3, 0, 50_000_000, 80_000_000).probabilities_ppb
    assert tuple(action.probability_ppb for action in told.choice.actions) == mixed
    assert tuple(action.probability_ppb for action in alone.choice.actions) != mixed
    assert told.choice.support == alone.choice.support == "full"
    analyses: list[FrameAnalyzed] = [decode(row.value) for row in shop.log.scan("analyses")]
    labels = {each.frame_id: {s.name for s in each.labels} for each in analyses}
    assert labels["v1.pre.0"] == {"scored", "score.a0", "score.a1", "score.a2"}
    assert labels["v2.pre.0"] == labels["v1.post.1"] == set()
    shop.close()


def test_the_log_decides_the_same_again_without_the_endpoint(
    server: EndpointServer, tmp_path: Path
) -> None:
    shop = Shop(tmp_path / "shop", asking(server.endpoint))
    for number in range(4):
        server.status = 500 if number == 2 else 200
        shop.visit(f"v{number}")
    asked = len(server.asked)
    for _ in range(15):
        shop.add("ticks", Tick(shop.clock(), "test"), 5_000)
    told = replay(shop.log)
    assert told.holds, told.document()
    assert {verdict.what: verdict.identical for verdict in told.verdicts}["decisions"] == 4
    assert len(server.asked) == asked
    shop.close()
