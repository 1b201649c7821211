"""Tickets: one socket, 30 s, whose key is still there; any gateway on the same keys takes them."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from connectors.clocks import SetClock
from running_gateways import running_gateway
from serving.gateway.keys import THIS_MACHINE, Caller, KeyRing
from serving.gateway.shop import Shop as RunningShop
from serving.gateway.tickets import LIFE_MS, TicketRefused, Tickets


class Shop:
    """A ring of keys, with tickets by a clock that stands."""

    def __init__(self, folder: Path) -> None:
        self.clock = SetClock(1_000_000)
        self.keys = KeyRing(folder / "keys.json", self.clock)
        self.tickets = Tickets(self.keys, self.clock)
        self.key, _ = self.keys.add("kiosk", "door-1")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_a_ticket_brings_its_caller_back_once(shop: Shop) -> None:
    given_ = shop.tickets.issue(shop.key.caller, "kiosk")
    assert given_.expires_in_ms == LIFE_MS
    assert shop.tickets.redeem(given_.ticket, "kiosk") == shop.key.caller
    with pytest.raises(TicketRefused, match="was used"):
        shop.tickets.redeem(given_.ticket, "kiosk")


def test_a_ticket_fits_into_a_sub_protocol(shop: Shop) -> None:
    # RFC 7230, 3.2.6: what a token may hold; a browser refuses to send anything else.
    ticket = shop.tickets.issue(shop.key.caller, "kiosk").ticket
    assert set(ticket) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
    assert len(ticket) < 400


@pytest.mark.parametrize(("late_ms", "opens"), [(LIFE_MS - 1, True), (LIFE_MS, False)])
def test_a_ticket_lives_thirty_seconds(shop: Shop, late_ms: int, opens: bool) -> None:
    ticket = shop.tickets.issue(shop.key.caller, "kiosk").ticket
    shop.clock.set(shop.clock() + late_ms)
    if opens:
        assert shop.tickets.redeem(ticket, "kiosk")
    else:
        with pytest.raises(TicketRefused, match="too old"):
            shop.tickets.redeem(ticket, "kiosk")


def test_a_caller_gets_only_what_their_key_opens(shop: Shop) -> None:
    with pytest.raises(TicketRefused, match="--scope owner"):
        shop.tickets.issue(shop.key.caller, "owner")
    ticket = shop.tickets.issue(shop.key.caller, "kiosk").ticket
    with pytest.raises(TicketRefused, match="for 'kiosk'"):
        shop.tickets.redeem(ticket, "owner")


def test_a_ticket_dies_with_its_key(shop: Shop) -> None:
    ticket = shop.tickets.issue(shop.key.caller, "kiosk").ticket
    shop.keys.revoke(shop.key.id)
    with pytest.raises(TicketRefused, match="revoked"):
        shop.tickets.redeem(ticket, "kiosk")


def test_a_ticket_of_before_the_first_key_dies_with_it(tmp_path: Path) -> None:
    keys = KeyRing(tmp_path / "keys.json")
    tickets = Tickets(keys)
    first, second = (tickets.issue(THIS_MACHINE, "kiosk").ticket for _ in range(2))
    assert tickets.redeem(first, "kiosk") == Caller(frozenset({"kiosk"}))
    keys.add("owner")
    with pytest.raises(TicketRefused, match="before keys"):
        tickets.redeem(second, "kiosk")


def test_another_gateway_takes_it_and_another_shop_does_not(shop: Shop, tmp_path: Path) -> None:
    ticket = shop.tickets.issue(shop.key.caller, "kiosk").ticket
    beside = Tickets(KeyRing(shop.keys.path), shop.clock)
    assert beside.redeem(ticket, "kiosk") == shop.key.caller
    (tmp_path / "other").mkdir()
    with pytest.raises(TicketRefused, match="none of ours"):
        Shop(tmp_path / "other").tickets.redeem(ticket, "kiosk")


def test_no_letter_of_a_ticket_can_be_changed(shop: Shop) -> None:
    ticket = shop.tickets.issue(shop.key.caller, "kiosk").ticket
    # The last letter of base64 may hold bits that nobody reads.
    for i in range(len(ticket) - 1):
        altered = ticket[:i] + ("A" if ticket[i] != "A" else "B") + ticket[i + 1 :]
        if ticket[i + 1] == ".":
            continue
        with pytest.raises(TicketRefused, match="none of ours"):
            shop.tickets.redeem(altered, "kiosk")


@given(st.text(max_size=60))
def test_nonsense_is_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    tickets = Tickets(KeyRing(tmp_path_factory.getbasetemp() / "nonsense" / "keys.json"))
    for each in (text, f"{text}.{text}", "e30." + text, 2_000 * "A"):
        with pytest.raises(TicketRefused):
            tickets.redeem(each, "kiosk")


def test_used_tickets_are_forgotten_when_they_are_too_old(shop: Shop) -> None:
    for _ in range(50):
        shop.tickets.redeem(shop.tickets.issue(shop.key.caller, "kiosk").ticket, "kiosk")
        shop.clock.set(shop.clock() + LIFE_MS)
    assert len(shop.tickets._used) == 1


# At gateways that run


def bought(shop: RunningShop, key: str) -> list[Subprotocol]:
    """Buy a ticket, as a page does; return what to offer with it."""
    base = f"http://127.0.0.1:{shop.settings.gateway.port}"
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx.post(f"{base}/api/tickets", json={"scope": "kiosk"}, headers=headers)
    assert answer.status_code == 200
    return [Subprotocol("pho.kiosk.v1"), Subprotocol(f"ticket.{answer.json()['ticket']}")]


def opened(shop: RunningShop, offered: list[Subprotocol]) -> ClientConnection:
    address = f"ws://127.0.0.1:{shop.settings.gateway.port}/kiosk/socket"
    return connect(address, subprotocols=offered, proxy=None)


def test_gateways_side_by_side_take_each_others_tickets_and_a_revoked_key_closes(
    tmp_path: Path,
) -> None:
    with running_gateway(tmp_path / "a") as first:
        key, text = first.keys.add("kiosk", "door-1")
        (tmp_path / "b").mkdir()
        # The same file, as where both mount it; each has a log of its own here.
        (tmp_path / "b" / "keys.json").hardlink_to(first.keys.path)
        with running_gateway(tmp_path / "b") as second:
            offered = bought(first, text)
            with opened(second, offered) as socket:
                assert socket.subprotocol == "pho.kiosk.v1", "the ticket is not sent back"
                for refused in (offered, offered[:1]):
                    with pytest.raises(InvalidStatus, match="403"):
                        opened(second, refused)
                first.keys.revoke(key.id)
                (tmp_path / "b" / "keys.json").unlink()
                (tmp_path / "b" / "keys.json").hardlink_to(first.keys.path)
                socket.send('{"type":"clock","sent_at_ms":1}')
                with pytest.raises(ConnectionClosed) as closed:
                    socket.recv(timeout=10.0)
                assert closed.value.rcvd is not None
                assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "key revoked")
        with pytest.raises(InvalidStatus, match="403"):
            opened(first, offered)


def test_a_kiosk_cannot_say_that_it_is_another(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as shop:
        _, text = shop.keys.add("kiosk", "door-1")
        hello = {"type": "hello", "protocol": 1, "language": "en", "utc_offset_minutes": 0}
        hello |= {"notice": "page", "sent_at_ms": 1, "analysis": "gateway", "resume": None}
        for kiosk_id, answers in (("door-2", "error"), ("door-1", "welcome")):
            with opened(shop, bought(shop, text)) as socket:
                socket.send(json.dumps({**hello, "kiosk_id": kiosk_id}))
                assert json.loads(socket.recv(timeout=10.0))["type"] == answers
