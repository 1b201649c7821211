"""What the gateway gives the kiosk page beside its socket: fetched files, settings, whose key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from connectors.page_assets import PAGE_PACKAGES, fetch_page_assets
from schemas.errors import SettingsError
from serving.gateway import kiosk_page, vendor
from serving.gateway.keys import Caller
from serving.settings import load

Get = Callable[..., httpx.Response]


def get_from(app: Any) -> Get:
    """Return a function that asks an application for a path, with headers."""

    async def asked(path: str, headers: dict[str, str]) -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(path, headers=headers)

    return lambda path, **headers: asyncio.run(asked(path, headers))


@pytest.fixture(scope="module")
def get() -> Get:
    fetch_page_assets()
    app = FastAPI()
    app.include_router(vendor.router(None))
    return get_from(app)


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("face-api/face-api.esm.js", "text/javascript; charset=utf-8"),
        ("face-api/face_expression_model.bin", "application/octet-stream"),
        ("face-api/face_expression_model-weights_manifest.json", "application/json"),
        ("tfjs-wasm/tfjs-backend-wasm-simd.wasm", "application/wasm"),
        ("echarts/echarts.esm.min.mjs", "text/javascript; charset=utf-8"),
        ("echarts/NOTICE", "text/plain; charset=utf-8"),
    ],
)
def test_fetched_files_have_the_type_that_browsers_want(get: Get, file: str, kind: str) -> None:
    answer = get(f"/static/vendor/{file}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)


def test_only_an_address_with_its_version_is_kept_for_ever(get: Get) -> None:
    for package in PAGE_PACKAGES.values():
        name, file = package.files[0].split("/")
        version = package.requirement.rpartition("@")[2]
        kept = get(f"/static/vendor/{name}-{version}/{file}")
        asked = get(f"/static/vendor/{name}/{file}")
        assert kept.content == asked.content
        assert "immutable" in kept.headers["cache-control"]
        assert asked.headers["cache-control"] == "no-cache"
        again = get(f"/static/vendor/{name}/{file}", **{"If-None-Match": asked.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "echarts/package.json",
        "echarts-6.0.0/LICENSE",
        "nothing/LICENSE",
        "echarts/%2e%2e%2fface-api%2fLICENSE",
        "vladmandic-face-api-1.7.15.tgz/x",
    ],
)
def test_what_the_pages_do_not_use_is_not_there(get: Get, path: str) -> None:
    answer = get(f"/static/vendor/{path}")
    assert answer.status_code == 404


def test_a_file_that_was_not_fetched_says_how_to(tmp_path: Path) -> None:
    app = FastAPI()
    app.include_router(vendor.router(tmp_path))
    answer = get_from(app)("/static/vendor/echarts/LICENSE")
    assert answer.status_code == 404
    assert "--fetch-pages" in answer.json()["cure"]
    assert str(tmp_path) not in answer.text, "paths of the server are nobody's business"


def test_the_page_is_told_the_shops_words_and_what_to_say_alone() -> None:
    flags = {"kiosk_page.analysis": "edge", "kiosk_page.notice": {"en": "A camera looks."}}
    told = kiosk_page.page_settings(load(None, flags, {}))
    assert told["analysis"] == "edge"
    assert told["words"] == {"notice": {"en": "A camera looks."}, "objection": {}}
    assert told["baseline"]["texts"]["de"].startswith("Willkommen")
    assert told["baseline"]["action_id"] == "welcome"


@pytest.mark.parametrize(
    "flags",
    [
        {"kiosk_page.objection_ms": 4_999},
        {"kiosk_page.objection_ms": 3_600_001},
        {"kiosk_page.notice": {"en": " "}},
        {"kiosk_page.notice": {"en": "x" * 401}},
        {"kiosk_page.objection": {"english!": "x"}},
        {"kiosk_page.analysis": "cloud"},
    ],
)
def test_a_page_that_no_visitor_should_meet_is_refused(flags: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        load(None, flags, {})


@pytest.mark.parametrize("kiosk_id", ["door-7", None])
def test_a_key_tells_the_page_which_kiosk_it_is(kiosk_id: str | None) -> None:
    app = FastAPI()
    app.include_router(kiosk_page.router(load(None, {}, {})))

    async def with_caller(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            caller = Caller(frozenset({"kiosk"}), kiosk_id, "key")
            scope["state"] = {**scope.get("state", {}), "caller": caller}
        await app(scope, receive, send)

    assert get_from(with_caller)("/api/kiosk/me").json() == {"kiosk_id": kiosk_id}
