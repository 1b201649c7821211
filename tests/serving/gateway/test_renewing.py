"""A gateway that runs gets a new certificate when the machine moves; nobody starts it again."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from pathlib import Path

import httpx
import pytest

from running_gateways import running_gateway
from schemas.errors import ResourceError
from serving.gateway import own_addresses, server
from serving.gateway.certificates import Certificate, own_certificate
from serving.gateway.renewing import Renewing


def test_the_same_certificate_is_not_loaded_again(tmp_path: Path) -> None:
    own = own_certificate(tmp_path, ["localhost"])
    made = [own, own_certificate(tmp_path, ["localhost", "10.0.0.9"])]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    here = Renewing(own, lambda: made[0])
    assert here.look(context) is False
    made.pop(0)
    assert here.look(context) is True
    assert here.look(context) is False


def test_what_fails_once_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = own_certificate(tmp_path, ["localhost"])
    tries: list[int] = []

    def make() -> Certificate:
        tries.append(1)
        if len(tries) == 1:
            problem = "no room"
            raise ResourceError(problem)
        return own

    async def for_a_while() -> None:
        here = Renewing(own, make)
        task = asyncio.create_task(here.run(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), 0.01))
        while len(tries) < 3:
            await asyncio.sleep(0.01)
        task.cancel()

    with caplog.at_level(logging.WARNING):
        asyncio.run(for_a_while())
    assert [line for line in caplog.messages if "no room" in line] == [
        "the certificate is not renewed: no room"
    ]


def test_a_gateway_that_runs_answers_by_its_new_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Renewing.run, "__defaults__", (0.1,))
    names = ["127.0.0.1"]
    monkeypatch.setattr(server, "own_names", lambda _hosts: tuple(names))
    with running_gateway(tmp_path, tls="auto") as shop:
        base = f"https://localhost:{shop.settings.gateway.port}/health"
        trusting = ssl.create_default_context(cafile=tmp_path / "tls" / "authority.crt")
        with pytest.raises(httpx.ConnectError, match="not valid for 'localhost'"):
            httpx.get(base, verify=trusting)
        names.append("localhost")
        until_s = time.monotonic() + 20.0
        while True:
            try:
                assert httpx.get(base, verify=trusting).status_code == 200
                break
            except httpx.ConnectError:
                assert time.monotonic() < until_s
                time.sleep(0.1)


def test_this_machines_addresses_are_found() -> None:
    found = own_addresses.own_addresses()
    assert "127.0.0.1" in found
    assert not any(each.startswith("fe80") for each in found)
