"""Metrics say what happened and what docs/metrics.md says; health tells a dead log from a job."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from connectors.logs import Log, Row
from running_gateways import running_gateway, shop_at
from schemas.codec import encode
from schemas.errors import LogUnavailable
from schemas.frames import FrameAnalyzed, FrameCaptured
from serving.gateway.doors import REASONS
from serving.gateway.health import readiness
from serving.gateway.log_watch import BEHIND_MS, SILENT_MS, LogWatch
from serving.gateway.metrics import MESSAGE_REASONS, Metrics
from serving.gateway.shop import Shop

_ROW = re.compile(r"^\| `(pho_gateway_\w+)` \| (\w+) \| (.*?) \| (.+) \|$", re.MULTILINE)


def table(metrics: Metrics) -> set[tuple[str, str, tuple[str, ...], str]]:
    """Return name, kind, labels and help of each metric."""
    found = set()
    for family in metrics.registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for each in family.samples for label in each.labels} - {"le"}
        found.add((name, family.type, tuple(sorted(labels)), family.documentation))
    return found


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"pho_gateway_{name}", labels)


def test_the_documentation_says_what_the_registry_says(repository: Path) -> None:
    text = (repository / "docs" / "metrics.md").read_text(encoding="utf-8")
    told = {
        (name, kind, tuple(re.findall(r"`(\w+)`", labels)), what)
        for name, kind, labels, what in _ROW.findall(text)
    }
    assert told == table(Metrics())
    for reason, what in {**REASONS, **MESSAGE_REASONS}.items():
        assert f"| `{reason}` | {what} |" in text


def test_each_method_moves_what_it_says() -> None:
    metrics = Metrics()
    metrics.request_refused("origin")
    metrics.ticket_given("kiosk")
    metrics.socket_opened()
    metrics.socket_opened()
    metrics.socket_closed()
    metrics.shot_seen()
    metrics.message_refused("picture")
    metrics.frame_taken("pre")
    metrics.frame_answered("post", "no_face")
    metrics.greeting_sent(0.7)
    metrics.greeting_sent(None)
    metrics.greeting_shown()
    metrics.appended(0.004)
    metrics.append_failed()
    metrics.decided("fallback")
    metrics.closed("rewarded")
    metrics.put_aside("late")
    assert value(metrics, "refused_requests_total", reason="origin") == 1
    assert value(metrics, "tickets_total", scope="kiosk") == 1
    assert value(metrics, "kiosk_sockets") == 1
    assert value(metrics, "shots_total") == 1
    assert value(metrics, "refused_messages_total", reason="picture") == 1
    assert value(metrics, "frames_total", phase="pre") == 1
    assert value(metrics, "frames_answered_total", phase="post", status="no_face") == 1
    assert value(metrics, "greetings_total") == 2
    assert value(metrics, "greeting_seconds_count") == 1
    assert value(metrics, "greeting_seconds_bucket", le="0.65") == 0
    assert value(metrics, "greeting_seconds_bucket", le="0.8") == 1
    assert value(metrics, "greetings_shown_total") == 1
    assert value(metrics, "append_seconds_bucket", le="0.005") == 1
    assert value(metrics, "appends_failed_total") == 1
    assert value(metrics, "decisions_total", mode="fallback") == 1
    assert value(metrics, "outcomes_total", result="rewarded") == 1
    assert value(metrics, "side_records_total", stream="late") == 1


def test_a_label_from_outside_makes_no_new_series() -> None:
    metrics = Metrics()
    before = len(metrics.text().splitlines())
    for word in ("x", "y" * 1_000, ""):
        metrics.request_refused(word)
        metrics.message_refused(word)
        metrics.frame_taken(word)
        metrics.frame_answered(word, word)
        metrics.decided(word)
        metrics.closed(word)
        metrics.put_aside(word)
    assert len(metrics.text().splitlines()) == before


def test_every_reason_stands_at_zero_before_it_happens() -> None:
    metrics = Metrics()
    for reason in REASONS:
        assert value(metrics, "refused_requests_total", reason=reason) == 0
    assert b"_created" not in metrics.text()


# The log as it is watched


def frame(number: int) -> FrameCaptured:
    return FrameCaptured(
        frame_id=f"f-{number}",
        decision_id="v-1",
        visit_id="v-1",
        loop_id="greeting",
        kiosk_id="door-1",
        phase="pre",
        sequence=0,
        captured_at_ms=1,
        width=480,
        height=360,
        notice="page",
        picture_id="0" * 32,
    )


def analysis(number: int, status: Any = "ok") -> FrameAnalyzed:
    told = frame(number)
    names = (name for name in FrameCaptured.__slots__ if name != "edge_analysis")
    same = {name: getattr(told, name) for name in names}
    return FrameAnalyzed(
        **same, status=status, analyser="test", analyser_version="1", milliseconds=5.0
    )


def row(stream: str, value: Any, at_ms: int) -> Row:
    return Row(1, stream, "v-1", at_ms, encode(value))


class Watched:
    """A watch by a clock that stands."""

    def __init__(self) -> None:
        self.clock = SetClock(1_000_000)
        self.metrics = Metrics()
        self.watch = LogWatch(self._never, self.metrics, self.clock)

    def _never(self) -> Log:
        problem = "nobody follows in this test"
        raise LogUnavailable(problem)


def test_a_job_that_answers_is_told_from_one_that_does_not() -> None:
    here = Watched()
    here.watch.take([row("frames", frame(1), 1_000_000), row("frames", frame(2), 1_000_200)])
    assert here.watch.seen().job == "unknown"
    here.clock.set(1_000_400)
    here.watch.take([row("analyses", analysis(1), 1_000_400)])
    seen = here.watch.seen()
    assert (seen.job, seen.unanswered_frames, seen.job_lag_ms) == ("answers", 1, 200)
    assert value(here.metrics, "frames_answered_total", phase="pre", status="ok") == 1
    here.clock.set(1_000_200 + BEHIND_MS)
    assert here.watch.seen().job == "answers"
    here.clock.set(1_000_201 + BEHIND_MS)
    assert here.watch.seen().job == "behind"
    assert value(here.metrics, "job_lag_seconds") == pytest.approx(10.001)
    here.watch.take([row("analyses", analysis(2), here.clock())])
    assert (here.watch.seen().job, here.watch.seen().job_lag_ms) == ("answers", 0)


def test_a_frame_that_nobody_answers_is_forgotten_after_a_minute() -> None:
    here = Watched()
    here.watch.take([row("frames", frame(1), 1_000_000)])
    here.clock.set(1_059_999)
    assert here.watch.seen().unanswered_frames == 1
    here.clock.set(1_060_000)
    assert here.watch.seen().unanswered_frames == 0


def test_a_log_that_is_silent_makes_unready_and_a_job_that_is_behind_does_not() -> None:
    here = Watched()
    assert readiness(here.watch.seen()).ready is False, "nothing was read yet"
    here.watch.take([row("frames", frame(1), 1_000_000)])
    assert readiness(here.watch.seen()).ready is True
    here.clock.set(1_000_000 + SILENT_MS + 1)
    told = readiness(here.watch.seen())
    assert (told.ready, told.problems) == (False, ["the log does not answer: see `pho doctor`"])
    assert value(here.metrics, "log_answers") == 0
    here.clock.set(1_030_000)
    here.watch.take([])
    told = readiness(here.watch.seen())
    assert (told.ready, told.job) == (True, "behind")


def test_records_that_cannot_be_read_stop_nothing() -> None:
    here = Watched()
    here.watch.take([Row(1, "frames", "x", 5, b"torn"), Row(2, "late", "x", 5, b"")])
    assert here.watch.seen().log_answers
    assert value(here.metrics, "side_records_total", stream="late") == 1


def test_the_watch_comes_back_when_the_log_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[float] = []

    def opened() -> Log:
        tries.append(time.monotonic())
        if len(tries) < 3:
            problem = "the disk is away"
            raise LogUnavailable(problem)
        return EmbeddedLog(tmp_path)

    metrics = Metrics()
    watch = LogWatch(opened, metrics)
    watch.start()
    try:
        until_s = time.monotonic() + 10.0
        while not watch.seen().log_answers and time.monotonic() < until_s:
            time.sleep(0.05)
        log = EmbeddedLog(tmp_path)
        log.append("frames", frame(1))
        log.close()
        while not watch.seen().unanswered_frames and time.monotonic() < until_s:
            time.sleep(0.05)
        assert watch.seen().unanswered_frames == 1
    finally:
        watch.close()
    assert len([line for line in caplog.messages if "cannot be watched" in line]) == 1
    assert not [each for each in threading.enumerate() if each.name == "log-watch"]


# As it is asked


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with running_gateway(tmp_path_factory.mktemp("metrics")) as shop:
        yield shop


def asked(shop: Shop, path: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{shop.settings.gateway.port}{path}")


def test_health_ready_and_metrics_answer(shop: Shop) -> None:
    assert asked(shop, "/health").json() == {"status": "alive"}
    until_s = time.monotonic() + 10.0
    while asked(shop, "/ready").status_code != 200 and time.monotonic() < until_s:
        time.sleep(0.05)
    ready = asked(shop, "/ready")
    assert ready.status_code == 200
    assert ready.json()["ready"] is True
    shop.log.append("frames", frame(1))
    while b"unanswered_frames 1.0" not in asked(shop, "/metrics").content:
        assert time.monotonic() < until_s
        time.sleep(0.05)
    told = asked(shop, "/metrics")
    assert told.headers["content-type"].startswith("text/plain; version=")
    assert "pho_gateway_append_seconds_count 1.0" in told.text
    assert asked(shop, "/ready").json()["unanswered_frames"] == 1


def test_what_is_refused_at_the_doors_is_counted(shop: Shop) -> None:
    before = value(shop.metrics, "refused_requests_total", reason="host")
    assert before is not None
    address = f"http://127.0.0.1:{shop.settings.gateway.port}/health"
    assert httpx.get(address, headers={"host": "evil.example"}).status_code == 421
    assert value(shop.metrics, "refused_requests_total", reason="host") == before + 1


def test_a_gateway_without_a_log_is_unready_and_alive(tmp_path: Path) -> None:
    from serving.gateway.app import make_app

    shop = shop_at(tmp_path)
    app = make_app(shop)

    async def told() -> list[int]:
        # The application's lifespan is not run: nobody reads the log.
        transport = httpx.ASGITransport(app)
        base = f"http://127.0.0.1:{shop.settings.gateway.port}"
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            return [(await client.get(path)).status_code for path in ("/health", "/ready")]

    try:
        assert asyncio.run(told()) == [200, 503]
    finally:
        shop.close()


def test_alarms_and_dashboard_ask_only_for_metrics_that_there_are(repository: Path) -> None:
    deploy = repository / "deploy"
    known = {name for name, *_ in table(Metrics())}
    known |= {name + end for name in known for end in ("_bucket", "_count", "_sum")}
    asked_for: set[str] = set()
    for file in ("prometheus/rules.yaml", "prometheus/rules_test.yaml", "grafana/pho.json"):
        text = (deploy / file).read_text(encoding="utf-8")
        asked_for |= set(re.findall(r"\bpho_gateway_\w+", text))
    assert len(asked_for) > 5
    assert asked_for <= known
    assert "job_name: pho-gateway" in (deploy / "prometheus" / "prometheus.yaml").read_text("utf-8")
