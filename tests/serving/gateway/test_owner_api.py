"""The owner's API as its page and a program meet it: exact answers, bounds, keys, what comes."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.embedded_log import EmbeddedLog
from owner_shops import rows_of, simulated, write
from running_gateways import running_gateway
from schemas.streams import STREAMS
from serving.gateway.owner_models import LEDGER, Decisions, Hour, Summary
from serving.gateway.owner_receipts import ReceiptTold
from serving.ledger import read_ledger
from waiting import wait_until

VISITS = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated(tmp_path_factory.mktemp("api") / "shop", VISITS)


@pytest.fixture(scope="module")
def owner(folder: Path) -> Iterator[httpx.Client]:
    """Return a client of a gateway on the folder, once it has read the log."""
    with running_gateway(folder) as shop:
        base = f"http://127.0.0.1:{shop.settings.gateway.port}/api/owner"
        with httpx.Client(base_url=base, timeout=30.0) as client:
            wait_until(lambda: bool(client.get("/summary").json()["reading"]["caught_up"]))
            yield client


def test_the_summary_tells_of_every_visit(owner: httpx.Client) -> None:
    answer = owner.get("/summary")
    page = Summary.model_validate_json(answer.content)
    assert (page.loop_id, page.loops, page.visits, page.judged) == (
        "greeting", ["greeting"], VISITS, VISITS,
    )  # fmt: skip
    assert page.ledger.balanced
    assert len(page.newest) == 12
    assert answer.headers["cache-control"] == "no-store"


def test_the_ledger_is_that_of_the_command(owner: httpx.Client, folder: Path) -> None:
    told = owner.get("/ledger").json()
    LEDGER.validate_python(told)
    log = EmbeddedLog(folder)
    document = read_ledger(log).document()
    log.close()
    assert told == {**document, "problems": []}


def test_the_hour_has_sixty_minutes(owner: httpx.Client) -> None:
    hour = Hour.model_validate_json(owner.get("/hour").content)
    assert len(hour.minutes) == 60
    assert not hour.live  # the simulation is of another day
    assert hour.visits == sum(minute.visits for minute in hour.minutes) > 0


def test_decisions_come_page_by_page_newest_first(owner: httpx.Client) -> None:
    numbers: list[int] = []
    before: int | None = None
    while True:
        query = {"limit": 50} | ({} if before is None else {"before": before})
        page = Decisions.model_validate_json(owner.get("/decisions", params=query).content)
        numbers += [line.number for line in page.decisions]
        before = page.before
        if before is None:
            break
    assert numbers == list(range(VISITS, 0, -1))


def test_a_receipt_is_that_of_the_command(owner: httpx.Client, folder: Path, pho: Any) -> None:
    decision_id = owner.get("/decisions?limit=1").json()["decisions"][0]["decision_id"]
    answer = owner.get(f"/receipts/{decision_id}")
    ReceiptTold.model_validate_json(answer.content)
    ran = pho("receipt", decision_id, "--data", folder, "--json")
    assert ran.status == 0, ran.err
    assert answer.json() == ran.json


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/receipts/nobody", 404, "has no decision nobody"),
        ("/receipts/a/b", 404, "has no decision a/b"),
        ("/receipts/%00", 422, "decision_id in the path must be an id"),
        ("/receipts/" + "a" * 300, 422, "must have at most 256 characters"),
        ("/summary?loop=lunch", 404, "has no loop 'lunch'"),
        ("/summary?loop=%0A", 422, "loop in the query must be an id"),
        ("/hour?loop=lunch", 404, "has no loop"),
        ("/live?loop=lunch", 404, "has no loop"),
        ("/decisions?loop=lunch", 404, "has no loop"),
        ("/decisions?limit=0", 422, "limit in the query must be at least 1"),
        ("/decisions?limit=201", 422, "limit in the query must be at most 200"),
        ("/decisions?before=0", 422, "before in the query must be at least 1"),
        ("/decisions?before=1e9", 422, "before in the query must be a whole number"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(
    owner: httpx.Client, path: str, status: int, words: str
) -> None:
    answer = owner.get(path)
    assert answer.status_code == status
    told = answer.json()
    assert set(told) == {"problem", "cure"}
    assert words in told["problem"]
    assert told["cure"]


def test_every_answer_is_in_the_openapi_document(owner: httpx.Client) -> None:
    document = owner.get(str(owner.base_url).replace("/api/owner/", "/api/openapi.json")).json()
    paths = {path: told for path, told in document["paths"].items() if "/owner/" in path}
    assert len(paths) == 6
    for name in ("summary", "hour", "ledger", "decisions"):
        answers = paths[f"/api/owner/{name}"]["get"]["responses"]
        schema = answers["200"]["content"]["application/json"]["schema"]
        model = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        assert set(model["properties"]) == set(owner.get(f"/{name}").json())
        assert model["additionalProperties"] is False
    live = paths["/api/owner/live"]["get"]["responses"]["200"]["content"]
    assert list(live) == ["text/event-stream"]


def events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    """Yield the events of a stream."""
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_what_comes_is_told_at_once(folder: Path, tmp_path: Path) -> None:
    rows = [row for row in rows_of(folder) if row.stream in STREAMS]
    middle = len(rows) // 2
    write(tmp_path / "shop", rows[:middle])
    with running_gateway(tmp_path / "shop") as shop:
        url = f"http://127.0.0.1:{shop.settings.gateway.port}/api/owner/live"
        with httpx.Client(timeout=30.0) as client, client.stream("GET", url) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            coming = events(answer.iter_lines())
            name, page = next(coming)
            while not page["reading"]["caught_up"]:
                name, page = next(coming)
            assert name == "summary"
            before = page["visits"]
            assert before < VISITS
            write(tmp_path / "shop", rows[middle:])
            while page["visits"] < VISITS:
                _, page = next(coming)
            assert page["visits"] == VISITS


def test_a_gateway_that_ends_lets_its_pages_go(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "shop")
    client = httpx.Client(timeout=30.0)
    with running_gateway(tmp_path / "shop") as shop:
        url = f"http://127.0.0.1:{shop.settings.gateway.port}/api/owner/live"
        stream = client.stream("GET", url)
        answer = stream.__enter__()
        lines = answer.iter_lines()
        assert next(lines) == "event: summary"
        assert isinstance(shop.stop, threading.Event)
        shop.stop.set()
        # Else the block below would wait for this connection, and cut it.
        assert "" in list(lines)
        stream.__exit__(None, None, None)
    client.close()


def test_only_an_owners_key_opens_it(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "shop")
    with running_gateway(tmp_path / "shop") as shop:
        _, owners = shop.keys.add("owner")
        _, kiosks = shop.keys.add("kiosk", "door-1")
        base = f"http://127.0.0.1:{shop.settings.gateway.port}/api/owner"
        for path in ("/summary", "/hour", "/ledger", "/decisions", "/live", "/receipts/x"):
            found = [
                httpx.get(base + path, headers={"Authorization": f"Bearer {key}"}).status_code
                for key in ("pho_owner_wrong", kiosks)
            ]
            assert found == [401, 403], path
            assert httpx.get(base + path).status_code == 401
        answer = httpx.get(base + "/summary", headers={"Authorization": f"Bearer {owners}"})
        assert answer.status_code == 200
