"""Gateways alone on a log on Kafka, side by side: frames in, greetings out, visits move along."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from brokers import fresh_topics, open_log, shared_broker
from connectors.kafka_address import KafkaAddress
from schemas.codec import decode
from schemas.decisions import GreetingIssued
from served_shops import quick_settings, serving_gateway
from serving.settings import Settings
from told_pages import FACE, ToldPage, edge_look, now_ms


@pytest.fixture
def address() -> Iterator[KafkaAddress]:
    with fresh_topics(shared_broker().bootstrap) as address:
        yield address


def settings_for(address: KafkaAddress, folder: Path) -> Settings:
    """Return the settings of one gateway; each has a port of its own."""
    window = {"loops.greeting.rules.reward_window_ms": 30_000}
    return quick_settings(folder, **{"log.address": str(address), **window})


def greeting_for(visit_id: str) -> GreetingIssued:
    """Return what the job on Flink would issue."""
    return GreetingIssued(
        **{"decision_id": visit_id, "visit_id": visit_id, "loop_id": "greeting"},
        **{"kiosk_id": "door-1", "action_id": "joke", "text": "Hello from Flink"},
        **{"language": "en", "voice": "", "mood": "funny"},
        decided_at_ms=now_ms(),
        expires_at_ms=now_ms() + 30_000,
    )


def look_until(page: ToldPage, wanted: Any, happy: float = 0.1) -> None:
    """Let somebody stand there until the page has heard something."""
    end_s = time.monotonic() + 40.0
    while not wanted():
        assert time.monotonic() < end_s, page.heard[-5:]
        page.send(edge_look(now_ms(), FACE, happy))
        time.sleep(0.15)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_visit_begun_at_one_gateway_goes_on_at_another(
    address: KafkaAddress, tmp_path: Path
) -> None:
    first, second = (settings_for(address, tmp_path / name) for name in ("one", "two"))
    with open_log(address) as log, serving_gateway(second):
        with serving_gateway(first):
            page = ToldPage(first.gateway.port, analysis="edge")
            page.connect()
            look_until(page, lambda: page.resume is not None)
            assert page.resume is not None
            visit_id = page.resume["visit_id"]
            log.append("greetings", greeting_for(visit_id))
            greeting = page.wait(lambda m: m["type"] == "greeting")
            assert (greeting["visit_id"], greeting["text"]) == (visit_id, "Hello from Flink")
            page.show(greeting)
            page.wait(lambda m: m["type"] == "shown")
        # The gateway stopped, and told the page to come back to whoever answers.
        assert page.wait_closed() == 1012
        page.close()
        page.port = second.gateway.port
        heard = len(page.heard)
        page.connect()
        assert page.wait(lambda m: m["type"] == "visit", first=heard)["visit_id"] == visit_id
        look_until(page, lambda: len(page.of("picture")) == 3, happy=0.9)
        page.send({"type": "bye"})
        page.wait_closed()
        page.close()
        assert len(page.of("greeting")) == 1, "nobody is greeted twice"
        frames = [decode(row.value) for row in log.scan("frames")]
        assert [(f.visit_id, f.phase, f.sequence) for f in frames] == [
            (visit_id, "pre", 0),
            (visit_id, "post", 1),
            (visit_id, "post", 2),
        ]
        assert [decode(row.value).action_id for row in log.scan("impressions")] == ["joke"]
        (ended,) = (decode(row.value) for row in log.scan("visits"))
        assert (ended.reason, len(ended.post_frame_ids)) == ("stopped", 2)
