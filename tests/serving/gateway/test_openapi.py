"""Schemathesis over the OpenAPI document of a running gateway: whatever comes, nothing breaks."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CheckFunction, load_all_checks
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from running_gateways import running_gateway
from serving.gateway.doors import is_open
from serving.gateway.shop import Shop

Case = schemathesis.Case[Any]

pytestmark = pytest.mark.timeout(180)

load_all_checks()
DOCUMENT = "/api/openapi.json"
# It answers for as long as one listens.
ENDLESS = "/api/owner/live"
CHECKS: list[CheckFunction] = [
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES, EXAMPLES_OF_A_KEY = 6, 3


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, _played: Path) -> Iterator[Shop]:
    """Return a gateway with a log of six visits: an empty one has little to break at."""
    folder = shutil.copytree(_played, tmp_path_factory.mktemp("openapi") / "shop")
    with running_gateway(folder) as shop:
        yield shop


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shop, str]]:
    """Return a gateway where a key was made, and the owner's key."""
    with running_gateway(tmp_path_factory.mktemp("locked")) as shop:
        yield shop, shop.keys.add("owner")[1]


def address(shop: Shop, path: str) -> str:
    return f"http://127.0.0.1:{shop.settings.gateway.port}{path}"


def shown(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def ask_everything(
    shop: Shop,
    headers: dict[str, str],
    hold: Callable[[Case], object],
    examples: int = EXAMPLES_OF_A_KEY,
) -> list[str]:
    """Ask each operation many things; return their names.

    Parameters
    ----------
    shop : Shop
        It runs.
    headers : dict of str
        Sent with the document's request.
    hold : callable
        Asks once: given the case.
    examples : int
        How many things each is asked.
    """
    schema = schemathesis.openapi.from_url(address(shop, DOCUMENT), headers=headers)
    few = settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    names = []
    for found in schema.exclude(path=ENDLESS).get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()

        @few
        @given(case=operation.as_strategy())
        def asked(case: Case) -> None:
            hold(case)

        asked()
        names.append(operation.label)
    return names


def answer(case: Case, headers: dict[str, str]) -> int:
    """Ask once; whatever comes, the answer is one of those that the document names."""
    response = case.call(headers=headers)
    assert response.status_code != 500, response.text
    case.validate_response(response, checks=CHECKS)
    return int(response.status_code)


def test_nothing_that_is_asked_breaks_it(shop: Shop) -> None:
    names = ask_everything(shop, {}, lambda case: answer(case, {}), EXAMPLES)
    assert {"GET /ready", "POST /api/tickets", "GET /metrics"} <= set(names)


def test_nothing_that_is_asked_with_a_key_breaks_it(locked: tuple[Shop, str]) -> None:
    shop, key = locked
    ask_everything(shop, shown(key), lambda case: answer(case, shown(key)))


def test_without_its_key_nothing_is_answered_whatever_is_asked(locked: tuple[Shop, str]) -> None:
    shop, key = locked

    def refused(case: Case) -> None:
        if not is_open(case.path, case.method.upper()):
            # Some of what is made up are keys: after ten it is told to wait.
            assert answer(case, {}) in (401, 429)

    assert len(ask_everything(shop, shown(key), refused)) > 3
