"""Whatever the gateway refuses, it says in a sentence what is wrong, and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from running_gateways import shop_at
from serving.gateway.app import make_app
from serving.gateway.bad_requests import explain_bad_requests, mistake_in_words


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    shop = shop_at(tmp_path / "shop", port=8080)
    try:
        yield make_app(shop)
    finally:
        shop.close()


def ask(
    app: FastAPI, method: str, path: str, body: bytes | None = None, *, hears: bool = False
) -> httpx.Response:
    """Ask an application that was not started: what is refused needs no kiosk.

    Parameters
    ----------
    app : FastAPI
        The application.
    method, path : str
        What is asked.
    body : bytes, optional
        Sent as JSON.
    hears : bool
        Whether what breaks is raised here, as a server hears of it.
    """
    transport = httpx.ASGITransport(app, raise_app_exceptions=hears, client=("127.0.0.1", 50_000))

    async def asked() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as one:
            headers = {"content-type": "application/json"}
            return await one.request(method, path, content=body, headers=headers)

    return asyncio.run(asked())


ID = "must be an id: letters, digits, signs and spaces of ASCII, no space at either end"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("decisions?limit=0", "limit in the query must be at least 1, not '0'"),
        ("decisions?limit=201", "limit in the query must be at most 200, not '201'"),
        ("decisions?before=1e9", "before in the query must be a whole number, not '1e9'"),
        ("summary?loop=%0A", f"loop in the query {ID}, not '\\n'"),
        ("summary?loop=%20", f"loop in the query {ID}, not ' '"),
        ("receipts/%C3%A9", f"decision_id in the path {ID}, not '\\xe9'"),
        (
            "receipts/" + "a" * 300,
            f"decision_id in the path must have at most 256 characters, not '{'a' * 39}…",
        ),
        (
            "decisions?limit=x&before=0",
            "before in the query must be at least 1, not '0'; "
            "limit in the query must be a whole number, not 'x'",
        ),
    ],
)
def test_a_parameter_that_cannot_be_is_named_with_what_it_must_be(
    app: FastAPI, path: str, said: str
) -> None:
    answer = ask(app, "GET", f"/api/owner/{path}")
    assert answer.status_code == 422
    assert answer.json() == {
        "problem": said,
        "cure": "Ask again without that; /api/openapi.json says what can be asked, and how",
    }


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the body is missing"),
        (b"{", "the body is no JSON: "),
        (b"[]", "the body must be a JSON object, not []"),
        (b"{}", "scope in the body is missing"),
        (b'{"scope": 1}', "scope in the body must be 'kiosk' or 'owner', not 1"),
        (b'{"scope": "owner", "more": 2}', "more in the body is not known here"),
    ],
)
def test_a_body_that_cannot_be_is_told_so(app: FastAPI, body: bytes, said: str) -> None:
    answer = ask(app, "POST", "/api/tickets", body)
    assert answer.status_code == 422
    assert set(answer.json()) == {"problem", "cure"}
    assert answer.json()["problem"].startswith(said)


def test_what_is_not_there_and_how_it_cannot_be_asked_is_said_alike(app: FastAPI) -> None:
    nowhere = ask(app, "GET", "/api/lunch")
    assert (nowhere.status_code, nowhere.json()) == (
        404,
        {
            "problem": "there is nothing at '/api/lunch'",
            "cure": "Pages are /kiosk/ and /owner/; /api/openapi.json lists the rest",
        },
    )
    other = ask(app, "DELETE", "/api/owner/ledger")
    assert (other.status_code, other.headers["allow"]) == (405, "GET")
    assert other.json() == {
        "problem": "'/api/owner/ledger' does not take DELETE",
        "cure": "Ask with GET",
    }
    page = ask(app, "GET", "/kiosk/lunch.js")
    assert page.json()["problem"] == "there is nothing at '/kiosk/lunch.js'"


def test_what_breaks_says_where_the_reason_stands() -> None:
    app = FastAPI()
    explain_bad_requests(app)

    @app.get("/")
    def broken() -> None:
        raise ZeroDivisionError

    answer = ask(app, "GET", "/")
    assert answer.status_code == 500
    assert set(answer.json()) == {"problem", "cure"}
    with pytest.raises(ZeroDivisionError):  # the server still hears of it
        ask(app, "GET", "/", hears=True)


def test_a_kind_of_mistake_that_nobody_foresaw_is_told_in_pydantics_words() -> None:
    told = {"type": "moon_phase", "loc": ("query", "at"), "msg": "Not at full moon", "input": 3}
    assert mistake_in_words(told) == "at in the query is refused: Not at full moon, not 3"
    # Without what the sentence needs it is pydantic's as well.
    told = {"type": "less_than_equal", "loc": ("query", "at"), "msg": "Too much", "input": 3}
    assert mistake_in_words(told).startswith("at in the query is refused: Too much")


def test_the_openapi_document_says_what_is_answered(app: FastAPI) -> None:
    document = app.openapi()
    schemas: dict[str, Any] = document["components"]["schemas"]
    assert not {"HTTPValidationError", "ValidationError"} & set(schemas)
    refusals = 0
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                if status.startswith("2") or path == "/ready":  # which tells what is not ready
                    continue
                assert "content" in answer, (path, status)
                reference = answer["content"]["application/json"]["schema"]["$ref"]
                model = schemas[reference.rpartition("/")[2]]
                assert sorted(model["required"]) == ["cure", "problem"]
                refusals += status == "422"
    assert refusals >= 7
