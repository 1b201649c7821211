"""The kiosk page in a real Chromium, before a gateway that does what the test wants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from chromium import Launch, browsers, write_camera
from kiosk_pages import Wire, open_page, start, wait, wait_for_phase
from scripted_gateway import VISIT, ScriptedGateway

WELCOME = "Welcome. Nice to see you."
VOICES = """
    class Voice extends EventTarget {
      constructor() { super(); globalThis.spoken = []; }
      getVoices() { return %s; }
      cancel() {}
      speak(utterance) {
        if (!utterance.text.trim()) return;
        globalThis.spoken.push([utterance.voice.name, utterance.lang, utterance.text]);
        setTimeout(() => utterance.onstart?.({}), 20);
        for (const word of utterance.text.matchAll(/\\S+/g)) {
          const told = { name: "word", charIndex: word.index, charLength: word[0].length };
          setTimeout(() => utterance.onboundary?.(told), 50 + 60 * word.index);
        }
        setTimeout(() => utterance.onend?.({}), 100 + 60 * utterance.text.length);
      }
    }
    globalThis.SpeechSynthesisUtterance = class { constructor(text) { this.text = text; } };
    Object.defineProperty(globalThis, "speechSynthesis", { value: new Voice() });
"""
SIZES = [(320, 568), (360, 740), (740, 360), (1080, 1920), (1280, 720), (3840, 2160)]
COUNT_WORDS = """
    new MutationObserver((changes) => {
      said += changes.filter(({ target }) => target.classList.contains("said")).length;
    }).observe(document.body, { subtree: true, attributeFilter: ["class"] })
"""
# Its time goes by as told: how many frames a second a busy machine draws does not matter.
SPEAK = """async (word) => {
    globalThis.requestAnimationFrame = () => 0;
    const { Avatar } = await import("/kiosk/avatar.js");
    const avatar = new Avatar(document.getElementById("avatar"));
    const heights = [];
    const begun = performance.now();
    avatar.last = begun;
    if (word) avatar.word(word);
    for (let ms = 33; ms < 900; ms += 33) {
      avatar.tick(begun + ms);
      heights.push(avatar.mouth.open.value);
    }
    return heights;
}"""


@pytest.fixture(scope="module")
def launch() -> Iterator[Launch]:
    with browsers() as started:
        yield started


@pytest.fixture(scope="module")
def browser(launch: Launch, tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """Return a Chromium before whose camera nobody stands for 6 s, then somebody who smiles."""
    camera = tmp_path_factory.mktemp("camera") / "camera.y4m"
    return launch(write_camera(camera, [("empty", 6), ("woman/smile", 4)]))


@pytest.fixture
def gateway() -> Iterator[ScriptedGateway]:
    with ScriptedGateway(objection_ms=5_000) as running:
        yield running


@pytest.fixture
def opened(browser: Browser, gateway: ScriptedGateway) -> Iterator[tuple[Page, Wire]]:
    page, wire = open_page(browser, gateway.address)
    yield page, wire
    page.context.close()
    assert wire.complaints == []


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
        gateway.answers_shots = False
        taken = gateway.pictures
        page.wait_for_timeout(1_500)
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


@pytest.mark.parametrize(
    ("voices", "spoken"),
    [
        ("[]", []),
        ("[{ name: 'Cloud', lang: 'en-US', localService: false }]", []),
        (
            "[{ name: 'Cloud', lang: 'en-US', localService: false },"
            " { name: 'Anna', lang: 'de-DE', localService: true },"
            " { name: 'Here', lang: 'en-GB', localService: true }]",
            [["Here", "en-GB", WELCOME]],
        ),
    ],
)
def test_only_a_voice_of_this_machine_speaks_and_captions_never_wait(
    browser: Browser, gateway: ScriptedGateway, voices: str, spoken: list[list[str]]
) -> None:
    context = browser.new_context()
    context.add_init_script(VOICES % voices)
    page = context.new_page()
    page.goto(gateway.address)
    start(page)
    page.evaluate("globalThis.said = 0")
    page.evaluate(COUNT_WORDS)
    gateway.begin()
    gateway.greet(WELCOME)
    gateway.wait_for("shown")
    assert page.inner_text("#caption") == WELCOME
    wait_for_phase(page, "after")
    assert page.evaluate("spoken") == spoken
    assert (page.evaluate("said") > 0) == bool(spoken)
    if not spoken:
        assert "captions alone" in (page.text_content("#status-words") or "")
    context.close()


def test_at_the_edge_numbers_leave_the_page_and_no_pixel(
    launch: Launch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    browser = launch(write_camera(tmp_path / "camera.y4m", [("woman/smile", 4)]))
    with ScriptedGateway(analysis="edge") as gateway:
        page, wire = open_page(browser, gateway.address)
        start(page)
        looks = [look for look in gateway.wait_for("look", 4, 60) if look["faces"]]
        assert gateway.of("hello")[0]["analysis"] == "edge"
        assert looks, "a face stands before the camera"
        (face,) = looks[-1]["faces"]
        assert face["emotions"]["happy"] > 0.8
        assert set(face["emotions"]) == {
            *("neutral", "happy", "sad", "angry", "fear", "disgust", "surprise"),
        }
        assert 0.2 < face["box"]["height"] < 1.0
        assert (looks[-1]["analyser"], looks[-1]["analyser_version"]) == ("face-api", "1.7.15")
        assert (gateway.pictures, wire.sent_bytes) == (0, [])
        assert max(len(text) for text in wire.sent) < 2_000, "numbers are short"
        assert "on this device" in (page.text_content("#status-words") or "")
        assert wire.complaints == []
        times = [look["at_ms"] for look in gateway.wait_for("look", 12, 30)[4:]]
        with capsys.disabled():
            mean_ms = (times[-1] - times[0]) / (len(times) - 1)
            print(f"\n  edge: a look every {mean_ms:.0f} ms; happy {face['emotions']['happy']:.2f}")  # noqa: T201
    browser.close()


def test_everything_fits_on_every_screen(browser: Browser, gateway: ScriptedGateway) -> None:
    page, _ = open_page(browser, gateway.address)
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        _assert_inside(page, width, height, "#start", "#start-notice")
    start(page)
    gateway.begin()
    gateway.greet("There you are! The room just got a little brighter.", "joyful")
    wait_for_phase(page, "greeting", "after")
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(100)
        _assert_inside(page, width, height, "#caption", "#foot-notice", "#object", "#preview")
        _assert_apart(page, "#caption", "#foot-notice")
        _assert_apart(page, "#foot-notice", "#preview")
        _assert_apart(page, "#object", "#preview-toggle")
    page.context.close()


def _assert_apart(page: Page, one: str, other: str) -> None:
    boxes = [page.locator(name).bounding_box() for name in (one, other)]
    (left, right) = (box for box in boxes if box is not None)
    apart = left["x"] + left["width"] <= right["x"] or left["y"] + left["height"] <= right["y"]
    assert apart, f"{one} and {other} overlap at {page.viewport_size}: {boxes}"


def _assert_inside(page: Page, width: int, height: int, *names: str) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for name in names:
        box = page.locator(name).bounding_box()
        assert box is not None, name
        assert box["x"] >= 0, name
        assert box["x"] + box["width"] <= width + 1, name
        assert box["y"] + box["height"] <= height + 1, name


def test_the_page_speaks_the_kiosks_language_and_the_shops_words(browser: Browser) -> None:
    words = {"notice": {"de": "Kamera! Fragen? An der Kasse."}, "objection": {}}
    with ScriptedGateway(language="de", words=words) as gateway:
        page, _ = open_page(browser, gateway.address, locale="fr")
        assert page.get_attribute("html", "lang") == "de"
        assert page.inner_text("#start-notice") == "Kamera! Fragen? An der Kasse."
        assert "Bitte nicht" in page.inner_text("#start-objection")
        start(page)
        assert gateway.of("hello")[0]["language"] == "de"
        page.context.close()


def test_with_reduced_motion_nothing_sways(browser: Browser, gateway: ScriptedGateway) -> None:
    page, _ = open_page(browser, gateway.address, reduced_motion="reduce")
    page.wait_for_timeout(1_000)
    seen = set()
    for _ in range(10):
        seen.add(page.get_attribute("[data-part=body]", "transform"))
        page.wait_for_timeout(60)
    assert len(seen) == 1
    page.context.close()


def test_the_avatar_looks_at_the_visitor(
    opened: tuple[Page, Wire], gateway: ScriptedGateway
) -> None:
    page, _ = opened
    start(page)
    places = []
    for left in (0.0, 0.7):
        gateway.somebody("present", left)
        page.wait_for_timeout(1_500)
        transform = page.get_attribute("[data-part=left-iris]", "transform") or ""
        places.append(float(transform.split("(")[1].split()[0]))
    # Left in the camera's picture is right for whoever stands before the screen.
    assert places[0] > 3
    assert places[1] < -3


def test_the_mouth_opens_with_the_word_and_closes_after_it(
    browser: Browser, gateway: ScriptedGateway
) -> None:
    page, _ = open_page(browser, gateway.address)
    assert max(page.evaluate(SPEAK, "")) == 0.0
    heights = page.evaluate(SPEAK, "Mama")
    assert max(heights) > 0.6
    assert heights[-1] < 0.05
    assert page.evaluate("import('/kiosk/avatar.js').then((it) => it.visemes('Mapo!'))") == [
        *("closed", "open", "closed", "round"),
    ]
    page.context.close()
