"""The owner's page in a real Chromium, before a real gateway on a log that grows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from chromium import browsers
from connectors.logs import Row
from owner_shops import rows_of, simulated, write
from running_gateways import free_port, running_gateway

VISITS = 120
WAIT_MS = 30_000
SIZES = [(320, 640), (390, 844), (768, 1024), (1280, 900), (2560, 1440)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsers() as launch:
        yield launch()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated(tmp_path_factory.mktemp("page") / "shop", VISITS)


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[Row]:
    return rows_of(folder)


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with running_gateway(folder) as shop:
        yield address_of(shop.settings.gateway.port)


def address_of(port: int) -> str:
    return f"http://127.0.0.1:{port}/owner/"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Return a page; whatever it complains of in the console fails the test."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, reduced_motion="reduce", locale="en-GB"
    )
    context.set_default_timeout(WAIT_MS)
    opened = context.new_page()
    said: list[str] = []
    opened.on("console", lambda told: said.append(f"{told.type}: {told.text}"))
    opened.on("pageerror", lambda error: said.append(f"error: {error}"))
    yield opened
    context.close()
    # What a browser says of an answer that did not come is no fault of the page.
    assert [each for each in said if "Failed to load resource" not in each] == []


def ready(page: Page, address: str) -> None:
    """Open the page and wait until it has read the log."""
    page.goto(address)
    page.wait_for_selector("html[data-read=all]")


def fact(page: Page, name: str) -> str:
    found = page.locator("#facts > div", has_text=name).locator("dd")
    return found.inner_text()


def test_the_page_tells_what_the_api_says(page: Page, address: str) -> None:
    ready(page, address)
    told = page.request.get(address.replace("/owner/", "/api/owner/summary")).json()
    assert fact(page, "greeted") == str(VISITS)
    assert fact(page, "the ledger") == "adds up"
    title = page.locator("#answer-title").inner_text()
    assert ("Too early to say" in title) == (told["smile"]["verdict"] == "early")
    learned = round(100 * told["smile"]["learned"]["value"])
    more = page.inner_text("#answer-more")
    assert f"{learned} in 100 smile after a greeting that PHO chose" in more
    page.click("#greetings-table >> xpath=../summary")
    rows = page.locator("#greetings-table tbody tr")
    assert rows.count() == len(told["greetings"])
    values = [each["smile"]["value"] for each in told["greetings"] if each["smile"]]
    shown = [int(text) for text in rows.locator("td:nth-of-type(2)").all_inner_texts() if text]
    assert shown == [round(100 * value) for value in sorted(values, reverse=True)]
    ledger = page.locator("#ledger").inner_text()
    assert f"{VISITS} decisions" in ledger.replace("\n", " ")


def test_pictures_are_drawn_and_each_is_told_in_words(page: Page, address: str) -> None:
    ready(page, address)
    for name in ("hour", "greetings", "course"):
        chart = page.locator(f"#{name}-chart")
        expect(chart.locator("canvas")).to_be_visible()
        assert chart.get_attribute("role") == "img"
        assert len(chart.get_attribute("aria-label") or "") > 20
    assert page.locator("#groups table.heat tbody tr").count() >= 6


def test_the_page_moves_when_visitors_come(page: Page, rows: list[Row], tmp_path: Path) -> None:
    middle = len(rows) // 2
    write(tmp_path / "shop", rows[:middle])
    with running_gateway(tmp_path / "shop") as shop:
        ready(page, address_of(shop.settings.gateway.port))
        before = int(fact(page, "greeted"))
        assert before < VISITS
        oldest = page.locator("#newest button").last
        oldest.focus()
        write(tmp_path / "shop", rows[middle:])
        expect(page.locator("#facts > div", has_text="greeted").locator("dd")).to_have_text(
            str(VISITS), timeout=WAIT_MS
        )
        assert page.locator("#newest li").count() == 12
        page.click("#older")
        expect(page.locator("#newest button.decision")).to_have_count(37)
        page.goto("about:blank")  # lets go of the stream before the gateway ends


def test_a_receipt_opens_and_closes_by_keyboard(page: Page, address: str) -> None:
    ready(page, address)
    first = page.locator("#newest button").first
    first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#receipt .story")
    steps = page.locator("#receipt .story > li > h3").all_inner_texts()
    assert steps == [
        "What was seen", "The odds", "The greeting", "The reaction", "What was learned",
    ]  # fmt: skip
    shares = page.locator("#receipt .odds .number").all_inner_texts()
    assert len(shares) == 8
    assert "#receipt=visit-1-" in page.url
    page.keyboard.press("Escape")
    expect(page.locator("#receipt")).not_to_be_visible()
    assert "#" not in page.url
    assert first.evaluate("element => element === document.activeElement")


def test_an_address_opens_a_receipt_or_says_why_not(page: Page, address: str) -> None:
    ready(page, f"{address}#receipt=visit-1-0000007")
    page.wait_for_selector("#receipt .story")
    assert "visit-1-0000007" in page.inner_text("#receipt-story")
    page.goto("about:blank")
    ready(page, f"{address}#receipt=nobody")
    expect(page.locator("#receipt-story [role=alert]")).to_contain_text("has no decision nobody")
    expect(page.locator("#receipt-story [role=alert]")).to_contain_text("pho topics decisions")


def test_what_is_counted_and_for_whom_can_be_chosen(page: Page, address: str) -> None:
    ready(page, address)
    page.click("[data-measure=reward]")
    assert page.get_attribute("[data-measure=reward]", "aria-pressed") == "true"
    assert "happiness" in page.inner_text("#answer-title")
    assert "happiness after less happiness before" in page.inner_text("#greetings-more")
    page.select_option("#by", "kiosk")
    heads = page.locator("#groups thead th").all_inner_texts()
    assert "kiosk-1" in heads
    assert len(heads) == 20


def test_before_the_first_visitor_the_page_says_what_to_do(page: Page, tmp_path: Path) -> None:
    with running_gateway(tmp_path / "shop") as shop:
        ready(page, address_of(shop.settings.gateway.port))
        assert page.inner_text("#answer-title") == "Nobody was greeted yet"
        assert "touch Start" in page.inner_text("#answer-more")
        assert "appears here by itself" in page.inner_text("#newest")
        page.goto("about:blank")


def test_a_gateway_that_is_away_is_told_and_comes_back(
    page: Page, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "shop")
    port = free_port()
    with running_gateway(tmp_path / "shop", port=port):
        ready(page, address_of(port))
    expect(page.locator("#away")).to_contain_text("The gateway does not answer")
    assert page.locator("#board").is_visible()  # what was known stays to be read
    assert page.get_attribute("html", "data-state") == "away"
    with running_gateway(tmp_path / "shop", port=port):
        expect(page.locator("#away")).to_be_hidden(timeout=WAIT_MS)
        assert page.inner_text("#pulse-words").startswith("Live")
        page.goto("about:blank")


def test_the_key_is_asked_for_and_stays_in_the_tab(
    page: Page, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "shop")
    with running_gateway(tmp_path / "shop") as shop:
        _, key = shop.keys.add("owner")
        page.goto(address_of(shop.settings.gateway.port))
        page.wait_for_selector("#key-panel:not([hidden])")
        assert not page.locator("#board").is_visible()
        page.fill("#key", "pho_owner_wrong")
        page.click("#key-panel button")
        expect(page.locator("#key-why")).to_contain_text("key")
        page.fill("#key", key)
        page.click("#key-panel button")
        page.wait_for_selector("html[data-read=all]")
        assert page.evaluate("sessionStorage.getItem('pho.owner.key')") == key
        assert key not in page.evaluate("JSON.stringify(localStorage) + document.cookie")
        assert key not in page.url
        page.locator("#newest button").first.click()
        page.wait_for_selector("#receipt .story")
        page.goto("about:blank")


def test_without_the_library_tables_stand_alone(page: Page, address: str) -> None:
    page.route("**/static/vendor/**", lambda route: route.abort())
    ready(page, address)
    expect(page.locator("#aside")).to_contain_text("pho doctor --fetch-pages")
    assert page.locator("canvas").count() == 0
    assert page.locator("#greetings-table table").is_visible()


def test_no_size_scrolls_sideways(page: Page, address: str) -> None:
    ready(page, address)
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("document.documentElement.scrollWidth") == width
        page.locator("#newest button").first.click()
        page.wait_for_selector("#receipt .story")
        assert page.evaluate("document.getElementById('receipt').scrollWidth") <= width
        page.keyboard.press("Escape")


def test_pictures_change_colour_with_the_room(page: Page, address: str) -> None:
    page.emulate_media(color_scheme="light")
    ready(page, address)
    chart = page.locator("#greetings-chart canvas")
    light = chart.screenshot()
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(300)
    assert chart.screenshot() != light
