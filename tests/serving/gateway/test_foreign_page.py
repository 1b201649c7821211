"""A real foreign web page in a real browser knocks at a real gateway: it gets nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from needs import need
from running_gateways import running_gateway
from serving.gateway.shop import Shop

pytestmark = pytest.mark.timeout(120)

# What a page can try without its visitor's help, each told as what the page learned from it.
ATTACK = """
async (gateway) => {
  const http = `http://${gateway}`;
  const told = {};
  const socket = (name, protocols) => new Promise((done) => {
    const open = new WebSocket(`ws://${gateway}/kiosk/socket`, protocols);
    open.onopen = () => { told[name] = "open"; open.close(); done(); };
    open.onerror = () => { told[name] = "refused"; done(); };
  });
  const read = async (name, path, options) => {
    try {
      const answer = await fetch(http + path, options);
      told[name] = answer.type === "opaque" ? "opaque" : await answer.text();
    } catch (error) { told[name] = "refused"; }
  };
  const load = (name, tag, path) => new Promise((done) => {
    const element = document.createElement(tag);
    element.onload = () => { told[name] = "loaded"; done(); };
    element.onerror = () => { told[name] = "refused"; done(); };
    element.src = http + path;
    document.body.append(element);
  });
  await socket("socket", ["pho.kiosk.v1"]);
  await socket("socket with a word", ["pho.kiosk.v1", "ticket.x"]);
  await read("metrics", "/metrics");
  await read("owner", "/api/owner/summary");
  await read("blind", "/api/owner/summary", {mode: "no-cors"});
  const body = '{"scope":"kiosk"}';
  await read("ticket", "/api/tickets", {method: "POST", body, mode: "no-cors"});
  const headers = {"content-type": "application/json"};
  await read("asked first", "/api/tickets", {method: "POST", body, headers});
  await load("script", "script", "/metrics");
  await load("image", "img", "/api/owner/summary");
  return told;
}
"""


class _Foreign(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>foreign</title><body>")

    def log_message(self, *_arguments: Any) -> None:
        pass


@contextmanager
def foreign_server() -> Iterator[int]:
    """Serve a page that is none of ours, and return its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Foreign) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = str(need("chromium"))
    # By DNS rebinding a foreign name comes to lead to this machine.
    rebound = "--host-resolver-rules=MAP evil.example 127.0.0.1"
    # Newer browsers ask before a page of outside may talk to loopback; we hold without them.
    alone = "--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", rebound, alone]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    yield page
    page.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Return a gateway on loopback where no key was made: whoever is of this machine may in."""
    with running_gateway(tmp_path_factory.mktemp("foreign")) as shop:
        yield shop


def refusals(shop: Shop) -> dict[str, float]:
    """Return how often the doors refused, by reason."""
    (family,) = (
        each
        for each in shop.metrics.registry.collect()
        if each.name == "pho_gateway_refused_requests"
    )
    return {
        each.labels["reason"]: each.value for each in family.samples if each.name.endswith("_total")
    }


def attack(page: Page, shop: Shop, address: str, gateway: str) -> tuple[dict[str, str], float]:
    """Open a page, let it try everything, and count what the doors refused meanwhile."""
    page.goto(address)
    before = sum(refusals(shop).values())
    told: dict[str, str] = page.evaluate(ATTACK, gateway)
    return told, sum(refusals(shop).values()) - before


def test_our_own_page_gets_everything_the_foreign_one_tries(page: Page, shop: Shop) -> None:
    # Else the tests below would pass with a gateway that answers nobody.
    gateway = f"127.0.0.1:{shop.settings.gateway.port}"
    told, refused = attack(page, shop, f"http://{gateway}/health", gateway)
    assert refused == 0
    assert (told["socket"], told["socket with a word"]) == ("open", "open")
    assert "pho_gateway" in told["metrics"]
    assert '"ticket"' in told["asked first"]


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_page_of_another_port_or_name_gets_nothing(page: Page, shop: Shop, name: str) -> None:
    gateway = f"127.0.0.1:{shop.settings.gateway.port}"
    with foreign_server() as port:
        told, refused = attack(page, shop, f"http://{name}:{port}/", gateway)
    assert {what for each, what in told.items() if each not in ("blind", "ticket")} == {"refused"}
    assert {told["blind"], told["ticket"]} <= {"opaque", "refused"}
    assert refused >= len(told) - 1, "each came to the doors; the browser alone kept none away"
    assert refusals(shop)["origin"] >= refused


def test_a_name_rebound_to_this_machine_gets_nothing(page: Page, shop: Shop) -> None:
    gateway = f"evil.example:{shop.settings.gateway.port}"
    # The page came while the name led to the attacker; all it asks now comes to us, and to its
    # browser page and gateway are of one origin.
    page.route(
        f"http://{gateway}/attack",
        lambda route: route.fulfill(content_type="text/html", body="<body>"),
    )
    before = refusals(shop)["host"]
    told, refused = attack(page, shop, f"http://{gateway}/attack", gateway)
    assert refusals(shop)["host"] - before == refused >= len(told)
    assert {told[name] for name in ("socket", "socket with a word", "script", "image")} == {
        "refused"
    }
    for name in ("metrics", "owner", "blind", "ticket", "asked first"):
        assert "is not called" in told[name]


def test_the_gateway_itself_refuses_a_rebound_name(page: Page, shop: Shop) -> None:
    answer = page.goto(f"http://evil.example:{shop.settings.gateway.port}/kiosk/")
    assert answer is not None
    assert answer.status == 421


def test_no_foreign_page_frames_ours(page: Page, shop: Shop) -> None:
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    with foreign_server() as port:
        page.goto(f"http://127.0.0.1:{port}/")
        page.evaluate(
            """(source) => new Promise((done) => {
                const frame = document.createElement("iframe");
                frame.onload = done;
                frame.src = source;
                document.body.append(frame);
            })""",
            f"http://127.0.0.1:{shop.settings.gateway.port}/trust",
        )
    assert any("frame-ancestors" in line or "X-Frame-Options" in line for line in said)


def test_no_script_runs_that_is_not_a_file_of_ours(page: Page, shop: Shop) -> None:
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(f"http://127.0.0.1:{shop.settings.gateway.port}/trust")
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "document.title = 'taken over'";
            document.body.append(script);
        }"""
    )
    assert page.title() != "taken over"
    assert any("Content Security Policy" in line for line in said)
