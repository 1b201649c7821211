"""The kiosk page in a real Chromium, before a gateway that does what the test wants."""

from __future__ import annotations

from playwright.sync_api import Browser, Page

from chromium import Launch
from kiosk_pages import Wire, open_page, start, wait, wait_for_phase
from scripted_gateway import VISIT, ScriptedGateway

WELCOME = "Welcome. Nice to see you."


def test_the_notice_stands_before_start_and_no_picture_is_taken(
    opened: tuple[Page, Wire], gateway: ScriptedGateway
) -> None:
    page, _ = opened
    notice = "This kiosk estimates expressions from the camera. Pictures are not kept."
    assert page.inner_text("#start-notice") == notice
    assert "Not me, please" in page.inner_text("#start-objection")
    page.wait_for_timeout(600)
    assert gateway.heard == []
    assert page.evaluate("document.querySelector('#preview').srcObject") is None
    # One touch by key: Start is the first thing that Tab reaches.
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    (hello,) = gateway.wait_for("hello")
    assert (hello["notice"], hello["analysis"], hello["resume"]) == ("page", "gateway", None)
    wait_for_phase(page, "waiting")
    assert page.inner_text("#foot-notice") == notice
    assert page.is_visible("#object")


def test_a_greeting_is_shown_read_out_and_reported_when_it_stands_there(
    opened: tuple[Page, Wire], gateway: ScriptedGateway
) -> None:
    page, _ = opened
    start(page)
    gateway.wait_for("shot", 3)
    gateway.somebody("arriving")
    wait_for_phase(page, "arriving")
    gateway.begin()
    gateway.greet("<b>Hello</b> & welcome", "joyful")
    (shown,) = gateway.wait_for("shown")
    # As text, never as markup: what a greeting says comes from settings and from the network.
    assert page.inner_text("#caption") == "<b>Hello</b> & welcome"
    assert page.inner_text("[role=status]") == "<b>Hello</b> & welcome"
    assert (shown["decision_id"], shown["action_id"]) == (VISIT, "joyful")
    assert page.get_attribute("html", "data-mood") == "joyful"
    gateway.send("greeting", **{**shown, "type": "greeting"}, visit_id=VISIT, expires_in_ms=9)
    wait_for_phase(page, "after")
    gateway.nobody()
    gateway.send("visit", state="ended", visit_id=VISIT, reason="left")
    wait_for_phase(page, "waiting")
    assert len(gateway.of("shown")) == 1, "a visit is greeted once"


def test_at_most_two_pictures_wait_for_their_answer(browser: Browser) -> None:
    with ScriptedGateway() as gateway:
        page, _ = open_page(browser, gateway.address)
        start(page)
        gateway.wait_for("shot")
        page.wait_for_timeout(500)
        gateway.answers_shots = False
        taken = gateway.pictures
        wait(page, lambda: gateway.pictures - taken >= 1)
        page.wait_for_timeout(3_000)
        assert gateway.pictures - taken <= 2
        page.context.close()


def test_whoever_gets_no_greeting_in_time_gets_the_baseline(
    opened: tuple[Page, Wire], gateway: ScriptedGateway
) -> None:
    page, _ = opened
    start(page)
    gateway.begin()
    (shown,) = gateway.wait_for("shown")
    assert shown["fallback"] is True
    assert (shown["decision_id"], shown["action_id"]) == (VISIT, "welcome")
    assert page.inner_text("#caption") == WELCOME
    gateway.greet("Too late")
    page.wait_for_timeout(300)
    assert page.inner_text("#caption") == WELCOME


def test_a_gateway_that_dies_is_waited_for_and_loses_no_report(
    opened: tuple[Page, Wire], gateway: ScriptedGateway
) -> None:
    page, _ = opened
    start(page)
    gateway.acknowledges = False
    gateway.begin()
    gateway.greet("Good day")
    (shown,) = gateway.wait_for("shown")
    gateway.stop()
    page.wait_for_selector("#status[data-light=away]", state="attached")
    assert page.inner_text("#caption") == "Good day"
    gateway.acknowledges = True
    gateway.start()
    again = gateway.wait_for("shown", 2)[1]
    assert again == shown
    resume = gateway.of("hello")[1]["resume"]
    assert (resume["visit_id"], resume["shown_at_ms"]) == (VISIT, shown["shown_at_ms"])
    # The new gateway sends what it finds: this visitor was greeted already.
    gateway.greet("Good day again")
    page.wait_for_timeout(500)
    assert page.inner_text("#caption") == "Good day"
    wait(page, lambda: page.evaluate("localStorage.getItem('pho.reports')") == "[]")


def test_without_a_gateway_who_comes_gets_the_baseline(
    opened: tuple[Page, Wire], gateway: ScriptedGateway
) -> None:
    page, _ = opened
    start(page)
    gateway.wait_for("shot")
    page.context.set_offline(True)
    gateway.stop()
    page.wait_for_selector("#status[data-light=away]", state="attached")
    # The recording begins anew with nobody for 6 s; then its picture changes.
    wait_for_phase(page, "greeting", seconds=20)
    assert page.inner_text("#caption") == WELCOME
    gateway.start()
    page.context.set_offline(False)
    page.wait_for_selector("#status[data-light=good]", state="attached", timeout=15_000)
    assert gateway.of("shown") == [], "nobody decided this greeting: there is nothing to report"


def test_a_gateway_that_says_nothing_is_away(browser: Browser) -> None:
    with ScriptedGateway() as gateway:
        page, _ = open_page(browser, gateway.address)
        start(page)
        gateway.silent = True
        page.wait_for_selector("#status[data-light=away]", state="attached", timeout=20_000)
        gateway.silent = False
        page.wait_for_selector("#status[data-light=good]", state="attached", timeout=20_000)
        page.context.close()


def test_a_refused_camera_is_explained_and_asked_for_again(launch: Launch) -> None:
    browser = launch(allowed=False)
    with ScriptedGateway() as gateway:
        page, wire = open_page(browser, gateway.address)
        page.click("#start")
        wait_for_phase(page, "camera")
        assert "did not let me" in page.inner_text("#camera-why")
        assert gateway.wait_for("hello")
        page.context.grant_permissions(["camera"])
        page.click("#camera-again")
        wait_for_phase(page, "waiting")
        gateway.wait_for("shot")
        assert wire.complaints == []
    browser.close()


def test_a_camera_that_goes_away_is_told_and_comes_back(
    opened: tuple[Page, Wire], gateway: ScriptedGateway
) -> None:
    page, _ = opened
    start(page)
    gateway.wait_for("shot")
    track = "document.querySelector('#preview').srcObject.getVideoTracks()[0]"
    page.evaluate(f"{track}.dispatchEvent(new Event('ended'))")
    wait_for_phase(page, "camera")
    before = gateway.pictures
    wait_for_phase(page, "waiting")
    gateway.wait_for("shot", before + 1)


def test_who_objects_is_not_looked_at(opened: tuple[Page, Wire], gateway: ScriptedGateway) -> None:
    page, _ = opened
    start(page)
    gateway.wait_for("shot")
    gateway.begin()
    gateway.greet("Good day")
    gateway.wait_for("shown")
    page.click("#object")
    wait_for_phase(page, "objection")
    assert page.evaluate("document.querySelector('#preview').srcObject") is None
    assert gateway.wait_for("notice")[-1]["shown"] is False
    page.wait_for_timeout(400)
    before = gateway.pictures
    gateway.greet("Hello?", visit_id="kiosk-1-0a1b2c3d-2")
    page.wait_for_timeout(1_500)
    assert gateway.pictures == before
    assert page.get_attribute("html", "data-phase") == "objection"
    gateway.nobody()
    wait_for_phase(page, "waiting")  # by itself, for the next visitor
    gateway.wait_for("shot", before + 1)
    assert gateway.of("notice")[-1]["shown"] is True


def test_the_key_is_asked_for_once(browser: Browser) -> None:
    with ScriptedGateway(key="pho_k") as gateway:
        page, _ = open_page(browser, gateway.address)
        page.click("#start")
        wait_for_phase(page, "key")
        assert page.evaluate("document.activeElement.id") == "key"
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        wait(page, lambda: "does not know" in page.inner_text("#key-why"))
        page.fill("#key", "pho_k")
        page.keyboard.press("Enter")
        # Which kiosk it is, the key says.
        assert gateway.wait_for("hello")[0]["kiosk_id"] == "door-7"
        page.reload()
        start(page)
        assert page.get_attribute("html", "data-phase") != "key"
        assert "pho_k" not in page.url
        page.context.close()
