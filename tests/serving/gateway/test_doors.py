"""Who comes in where: names, origins, keys, tickets, and what is refused by default."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knocking import ELSEWHERE, HERE, LOOPBACK, NETWORK, House
from schemas.errors import ResourceError
from serving.gateway.doors import REASONS, DoorRules
from serving.gateway.failed_keys import BURST, EVERY_S, FailedKeys
from serving.gateway.keys import THIS_MACHINE, KeyRing
from serving.gateway.same_origin import Authority, is_loopback, is_same_origin

OWNERS = ("/api/owner/summary", "/metrics", "/openapi.json", "/docs", "/a-route-of-tomorrow", "//")
OPEN = (
    "/",
    "/kiosk/",
    "/kiosk/kiosk.js",
    "/owner/",
    "/trust",
    "/static/x.css",
    "/health",
    "/ready",
)


@pytest.fixture
def keys(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path / "keys.json")


@pytest.fixture
def house(keys: KeyRing) -> House:
    """Return doors on the shop's network, with a key for each scope."""
    return House(NETWORK, keys)


@pytest.fixture
def kiosk_key(keys: KeyRing) -> str:
    return keys.add("kiosk", "door-1")[1]


@pytest.fixture
def owner_key(keys: KeyRing) -> str:
    return keys.add("owner")[1]


# Names: Host


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8750", "localhost:8750", "LOCALHOST", "[::1]:8750", "127.0.0.1"]
)
def test_on_loopback_this_machine_is_let_in_by_its_names(keys: KeyRing, host: str) -> None:
    answer = House(LOOPBACK, keys).get("/api/owner/x", host=host)
    assert (answer.status, answer.caller) == (200, THIS_MACHINE)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8750",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8750",
        "127.0.0.1:9999",
        "127.0.0.1@evil.example",
        "evil.example#127.0.0.1",
        "192.168.1.10:8750",
        "[::1",
        "",
        None,
    ],
)
@pytest.mark.parametrize("path", ["/", "/health", "/api/owner/x"])
def test_a_name_that_is_not_ours_is_misdirected_even_to_a_page(
    keys: KeyRing, host: str | None, path: str
) -> None:
    house = House(LOOPBACK, keys)
    answer = house.get(path, host=host)
    assert (answer.status, answer.caller) == (421, None)
    assert house.open(host=host).status == 403
    assert set(house.refused) == {"host"}


def test_two_hosts_are_none(keys: KeyRing) -> None:
    answer = House(LOOPBACK, keys).get("/", headers=[("host", "evil.example")])
    assert answer.status == 421


def test_off_loopback_addresses_and_the_named_hosts_are_ours(house: House) -> None:
    for host in ("192.168.1.10:8750", "[fd00::2]:8750", "shop.example", "shop.example:443"):
        assert house.get("/", host=host, client=ELSEWHERE).status == 200, host
    for host in ("evil.example:8750", "x.shop.example", "192.168.1.11:1"):
        assert house.get("/", host=host, client=ELSEWHERE).status == 421, host


def test_off_loopback_this_machines_own_name_is_ours(
    keys: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Till-1.lan")
    house = House(DoorRules.of("0.0.0.0", 8750), keys)  # noqa: S104
    for host in ("till-1.lan:8750", "till-1.local:8750"):
        assert house.get("/", host=host, client=ELSEWHERE).status == 200, host
    assert House(LOOPBACK, keys).get("/", host="till-1.local:8750").status == 421


# Pages: Origin


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://localhost:8750",
        "http://127.0.0.1:8751",
        "http://127.0.0.1",
        "null",
        "",
        "http://127.0.0.1:8750.evil.example",
        "file://",
        "http://127.0.0.1:8750@evil.example",
    ],
)
def test_a_foreign_page_is_refused_on_every_path(keys: KeyRing, origin: str) -> None:
    house = House(LOOPBACK, keys)
    for path in ("/", "/api/owner/x", "/health"):
        assert house.get(path, headers={"origin": origin}).status == 403
    assert house.open(headers={"origin": origin}).status == 403
    assert house.behind.caller is None
    assert set(house.refused) == {"origin"}


def test_our_own_page_is_let_in(keys: KeyRing) -> None:
    house = House(LOOPBACK, keys)
    own = {"origin": "http://127.0.0.1:8750", "sec-fetch-site": "same-origin"}
    assert house.get("/api/owner/x", headers=own).status == 200
    assert house.open(headers=own).status == 0


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything"])
def test_an_image_of_a_foreign_page_is_refused_where_it_could_read(
    keys: KeyRing, site: str
) -> None:
    house = House(LOOPBACK, keys)
    headers = {"sec-fetch-site": site}
    assert house.get("/api/owner/x", headers=headers).status == 403
    assert house.get("/owner/", headers=headers).status == 200, "a link to a page is welcome"


@pytest.mark.parametrize(
    ("origin", "scheme", "host", "same"),
    [
        ("http://a", "http", "a", True),
        ("http://a:80", "http", "a", True),
        ("http://a", "ws", "a:80", True),
        ("https://a", "wss", "a", True),
        ("https://a", "https", "a:443", True),
        ("https://a", "http", "a", True),  # a proxy ends TLS
        ("http://a", "https", "a", False),
        ("https://a", "http", "a:80", False),
        ("http://A:8750", "http", "a:8750", True),
        ("http://[::1]:8750", "ws", "[0:0::1]:8750", True),
        ("ws://a", "ws", "a", False),
    ],
)
def test_one_origin_is_scheme_host_and_port(
    origin: str, scheme: str, host: str, same: bool
) -> None:
    authority = Authority.parse(host)
    assert authority is not None
    assert is_same_origin(origin, scheme, authority) is same


@given(st.text(max_size=40))
def test_whatever_stands_in_host_or_origin_is_read_or_refused(text: str) -> None:
    found = Authority.parse(text)
    assert found is None or found.host
    assert not is_same_origin(f"http://{text}", "http", Authority("shop.test.invalid", 1))


# Callers


def test_on_loopback_nobody_needs_a_key_until_one_is_made(keys: KeyRing) -> None:
    house = House(LOOPBACK, keys)
    assert house.get("/api/owner/x").caller == THIS_MACHINE
    assert house.open().caller == THIS_MACHINE
    _, text = keys.add("owner")
    assert house.get("/api/owner/x").status == 401
    assert house.open().status == 403
    assert house.get("/api/owner/x", key=text).status == 200
    # To take the last key back opens nothing.
    keys.revoke(text.split("_")[2])
    assert house.get("/api/owner/x").status == 401
    assert house.open().status == 403
    keys.path.unlink()
    assert house.get("/api/owner/x").status == 200


@pytest.mark.parametrize(
    "how",
    [
        {"client": ELSEWHERE},
        {"headers": {"x-forwarded-for": "192.168.1.44"}},
        {"headers": {"forwarded": "for=192.168.1.44"}},
        {"headers": {"via": "1.1 proxy"}},
    ],
)
def test_who_comes_through_a_proxy_is_not_of_this_machine(
    keys: KeyRing, how: dict[str, Any]
) -> None:
    assert House(LOOPBACK, keys).get("/api/owner/x", **how).status == 401


def test_a_name_of_the_outside_is_not_of_this_machine(keys: KeyRing) -> None:
    rules = DoorRules.of("127.0.0.1", 8750, ["shop.example"])
    assert House(rules, keys).get("/api/owner/x", host="shop.example").status == 401


@pytest.mark.parametrize("path", OWNERS)
def test_off_loopback_everything_that_is_not_open_needs_a_key(house: House, path: str) -> None:
    # From this machine too: another machine's browser may be behind it.
    for client in (HERE, ELSEWHERE):
        answer = house.get(path, client=client)
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert set(answer.body) == {"problem", "cure"}


@pytest.mark.parametrize("path", OPEN)
def test_pages_and_health_are_open_for_reading_alone(house: House, path: str) -> None:
    answer = house.get(path, client=ELSEWHERE)
    assert answer.status == 200
    assert answer.caller is not None
    assert answer.caller.scopes == frozenset()
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert house.get(path, method=method, client=ELSEWHERE).status == 401


def test_a_kiosks_key_opens_nothing_else(house: House, kiosk_key: str) -> None:
    for path in OWNERS:
        assert house.get(path, key=kiosk_key).status == 403, path
    answer = house.get("/api/tickets", method="POST", key=kiosk_key)
    assert answer.caller is not None
    assert (answer.caller.scopes, answer.caller.kiosk_id) == (frozenset({"kiosk"}), "door-1")
    assert house.get("/api/kiosk/x", key=kiosk_key).status == 200


def test_its_use_is_noted_and_a_folder_that_takes_nothing_sends_nobody_away(
    house: House, owner_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert house.get("/metrics", key=owner_key).status == 200
    assert house.keys.keys()[0].last_used_at_ms is not None

    def full(_key_id: str) -> None:
        problem = "no room"
        raise ResourceError(problem)

    monkeypatch.setattr(house.keys, "wants_note", lambda _key: True)
    monkeypatch.setattr(house.keys, "used", full)
    assert house.get("/metrics", key=owner_key).status == 200


def test_an_owners_key_is_no_kiosk(house: House, owner_key: str) -> None:
    for path in OWNERS:
        assert house.get(path, key=owner_key).status == 200, path
    assert house.get("/api/kiosk/x", key=owner_key).status == 403


def test_a_revoked_key_and_an_altered_one_open_nothing(house: House, owner_key: str) -> None:
    altered = owner_key[:-1] + ("A" if owner_key[-1] != "A" else "B")
    assert house.get("/metrics", key=altered).status == 401
    assert house.get("/metrics", key=owner_key).status == 200
    house.keys.revoke(owner_key.split("_")[2])
    assert house.get("/metrics", key=owner_key).status == 401
    assert house.refused == ["wrong_key", "wrong_key"]


@pytest.mark.parametrize("shown", ["Basic {}", "{}", "Bearer", "Bearer ", "bearer\t{}"])
def test_a_key_is_shown_as_bearer_or_not_at_all(house: House, owner_key: str, shown: str) -> None:
    headers = {"authorization": shown.format(owner_key)}
    assert house.get("/metrics", headers=headers).status == 401


def test_two_keys_are_none(house: House, owner_key: str) -> None:
    headers = [("authorization", f"Bearer {owner_key}")]
    assert house.get("/metrics", headers=headers, key=owner_key).status == 401


def test_the_answer_tells_a_browser_to_keep_nothing(house: House) -> None:
    headers = house.get("/api/owner/x").headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"


def test_without_a_readable_file_of_keys_only_pages_open(house: House, owner_key: str) -> None:
    house.keys.path.chmod(0o644)
    assert house.get("/metrics", key=owner_key).status == 503
    assert house.get("/owner/").status == 200
    assert str(house.keys.path) not in str(house.get("/metrics", key=owner_key).body)
    house.keys.path.chmod(0o600)
    assert house.get("/metrics", key=owner_key).status == 200


# Sockets


def test_a_socket_takes_a_ticket_once(house: House, kiosk_key: str) -> None:
    caller = house.get("/api/tickets", method="POST", key=kiosk_key).caller
    assert caller is not None
    ticket = house.tickets.issue(caller, "kiosk").ticket
    answer = house.open(ticket=ticket, client=ELSEWHERE)
    assert (answer.status, answer.caller) == (0, caller)
    assert house.open(ticket=ticket, client=ELSEWHERE).status == 403
    assert house.refused == ["ticket"]


def test_a_key_opens_no_socket(house: House, kiosk_key: str, owner_key: str) -> None:
    for key in (kiosk_key, owner_key):
        assert house.open(key=key).status == 403
        assert house.open(ticket=key).status == 403


def test_a_socket_that_nobody_named_is_the_owners(
    house: House, kiosk_key: str, owner_key: str
) -> None:
    for path in ("/kiosk/other", "/owner/live", "/", "/api/kiosk/x"):
        callers = {}
        for scope, key in (("kiosk", kiosk_key), ("owner", owner_key)):
            caller = house.get("/api/tickets", method="POST", key=key).caller
            assert caller is not None
            ticket = house.tickets.issue(caller, scope).ticket  # type: ignore[arg-type]
            callers[scope] = house.open(path, ticket=ticket).status
        assert callers == {"kiosk": 403, "owner": 0}, path


def test_a_socket_is_closed_when_its_key_is_revoked(house: House, kiosk_key: str) -> None:
    sent: list[MutableMapping[str, Any]] = []
    seen: list[str] = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] != "websocket.disconnect":
            seen.append(message["type"])
            if message["type"] == "websocket.receive":
                house.keys.revoke(kiosk_key.split("_")[2])
        await send({"type": "websocket.send", "text": "too late"})

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "websocket.receive" if seen else "websocket.connect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    caller = house.get("/api/tickets", method="POST", key=kiosk_key).caller
    assert caller is not None
    offered = f"ticket.{house.tickets.issue(caller, 'kiosk').ticket}"
    headers = [(b"host", b"shop.example"), (b"sec-websocket-protocol", offered.encode())]
    scope = {"type": "websocket", "path": "/kiosk/socket", "headers": headers, "client": HERE}
    open_house = House(NETWORK, house.keys, app=app)
    asyncio.run(open_house.doors(scope, receive, send))
    assert seen == ["websocket.connect", "websocket.receive"]
    assert [message["type"] for message in sent] == ["websocket.close"]


# Wrong keys


def test_wrong_keys_are_soon_not_looked_at(keys: KeyRing) -> None:
    now_s = [0.0]
    house = House(NETWORK, keys, failures=FailedKeys(lambda: now_s[0]))
    _, right = keys.add("owner")
    _, other = keys.add("owner")
    assert house.get("/metrics", key=right, client=ELSEWHERE).status == 200
    wrong = [house.get("/metrics", key=f"x{i}", client=ELSEWHERE) for i in range(BURST + 5)]
    assert [answer.status for answer in wrong] == [401] * BURST + [429] * 5
    assert 0 < int(wrong[-1].headers["retry-after"]) <= 2 * EVERY_S
    # A guess that is right is not told from one that is wrong; who was here before is let in.
    assert house.get("/metrics", key=other, client=ELSEWHERE).status == 429
    assert house.get("/metrics", key=right, client=ELSEWHERE).status == 200
    assert house.get("/metrics", key=other, client=("192.168.1.45", 1)).status == 200
    now_s[0] += 2 * EVERY_S
    assert house.get("/metrics", key=other, client=ELSEWHERE).status == 200


def test_one_key_is_not_guessed_at_from_many_places(keys: KeyRing) -> None:
    house = House(NETWORK, keys, failures=FailedKeys(lambda: 0.0))
    key, right = keys.add("owner")
    guess = f"pho_owner_{key.id}_" + 43 * "A"
    statuses = [
        house.get("/metrics", key=guess, client=(f"10.0.0.{i}", 1)).status for i in range(20)
    ]
    assert statuses == [401] * BURST + [429] * 10
    assert house.get("/metrics", key=right, client=("10.0.1.1", 1)).status == 429
    assert set(house.refused) <= set(REASONS)


def test_the_neighbours_of_an_ipv6_network_are_one(keys: KeyRing) -> None:
    failures = FailedKeys(lambda: 0.0)
    for i in range(BURST):
        failures.failed(f"2001:db8::{i}", None)
    assert failures.wait_s("2001:db8::ffff", None) > 0
    assert failures.wait_s("2001:db8:0:1::1", None) == 0


@pytest.mark.parametrize(
    ("host", "is_here"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("127.9.9.9", True),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False),
        ("192.168.1.1", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_only_loopback_is_loopback(host: str, is_here: bool) -> None:
    assert is_loopback(host) is is_here
    assert DoorRules.of(host, 1).loopback is is_here
