"""The gateway's voice on the kiosk page, in a real Chromium, before a stand-in for Polly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from http_servers import serving
from kiosk_pages import VOICES, Wire, start, wait, wait_for_phase
from polly_server import OPEN_MS, SPEECH_MS, PollyServer, silent_mp3
from scripted_gateway import VISIT, ScriptedGateway
from served_shops import quick_settings, serving_gateway
from serving.gateway.keys import FILE_NAME, KeyRing
from serving.settings import Settings, load

WELCOME = "Welcome. Nice to see you."
OURS = "[{ name: 'Here', lang: 'en-GB', localService: true }]"
LOCALLY = [["Here", "en-GB", WELCOME]]
JOKE = "I practised my smile all night. You go first."

# Notes each sound that begins, and the mouth at every frame until it ends.
LISTEN = """
    globalThis.heard = [];
    const { start } = AudioBufferSourceNode.prototype;
    AudioBufferSourceNode.prototype.start = function (...told) {
      const { context, buffer } = this;
      const caption = document.getElementById("caption").textContent;
      const peak = buffer.getChannelData(0).reduce((most, value) => Math.max(most, value), 0);
      const sound = { ms: buffer.duration * 1000, state: context.state, peak, caption };
      Object.assign(sound, { at: performance.now(), ended: false, mouth: [], said: 0 });
      heard.push(sound);
      this.addEventListener("ended", () => { sound.ended = true; });
      start.apply(this, told);
      const begun = context.currentTime;
      const look = () => {
        const height = document.querySelector("[data-part=mouth-line]").getBBox().height;
        sound.mouth.push([(context.currentTime - begun) * 1000, height]);
        sound.said = Math.max(sound.said, document.querySelectorAll(".said").length);
        if (!sound.ended) requestAnimationFrame(look);
      };
      look();
    };
"""

# Notes the marks by which the mouth moves.
WATCH = """async () => {
    const { Mouth } = await import("/kiosk/mouth.js");
    const { speak } = Mouth.prototype;
    globalThis.mouths = [];
    Mouth.prototype.speak = function (text, told) {
      mouths.push(told.visemes.map(({ at_ms, value }) => [at_ms, value]));
      speak.call(this, text, told);
    };
}"""


@pytest.fixture
def polly() -> Iterator[PollyServer]:
    with serving(PollyServer()) as server:
        yield server


@pytest.fixture
def settings(polly: PollyServer, tmp_path: Path) -> Settings:
    return settings_of(polly, tmp_path)


def settings_of(polly: PollyServer, tmp_path: Path, **flags: Any) -> Settings:
    told = {"data": str(tmp_path / "shop"), "polly.on": True, "polly.time_limit_ms": 20_000}
    aws = {"aws.endpoint": polly.endpoint, "aws.region": "eu-central-1"}
    return load(None, {**told, **aws, **flags}, {})


@contextmanager
def listening(browser: Browser, address: str, voices: str = OURS, **options: Any) -> Iterator[Page]:
    """Open the page with ears; nothing may complain but what the gateway refuses."""
    context = browser.new_context(**options)
    context.add_init_script(VOICES % voices)
    context.add_init_script(LISTEN)
    page, wire = context.new_page(), Wire()
    wire.watch(page)
    page.goto(address)
    page.wait_for_selector("#start:enabled")
    yield page
    context.close()
    assert [each for each in wire.complaints if "Failed to load resource" not in each] == []


def greeted(
    gateway: ScriptedGateway, number: int = 1, text: str = WELCOME, action_id: str = "welcome"
) -> None:
    visit_id = f"{VISIT[:-1]}{number}"
    gateway.begin(visit_id)
    gateway.greet(text, visit_id=visit_id, action_id=action_id)
    gateway.wait_for("shown", number)


def heard(page: Page) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = page.evaluate("heard")
    return told


def ended(page: Page, count: int = 1) -> Callable[[], bool]:
    return lambda: [each["ended"] for each in heard(page)] == [True] * count


def test_the_gateways_voice_speaks_and_the_mouth_moves_by_its_marks(
    browser: Browser, settings: Settings, polly: PollyServer
) -> None:
    with ScriptedGateway(settings=settings) as gateway, listening(browser, gateway.address) as page:
        page.evaluate(WATCH)
        start(page)
        greeted(gateway)
        wait(page, ended(page))
        (sound,) = heard(page)
        assert (sound["caption"], sound["state"]) == (WELCOME, "running")
        assert sound["ms"] == pytest.approx(SPEECH_MS, abs=5)
        assert sound["peak"] > 0.2, "it is to be heard"
        assert sound["said"] == 5, "the caption goes along with the words"
        assert page.evaluate("spoken") == [], "one voice at a time"
        opened, shut = [[from_ms, "a"] for from_ms, _ in OPEN_MS], [[ms, "p"] for _, ms in OPEN_MS]
        (told,) = page.evaluate("mouths")
        assert told == sorted([*opened, *shut, [SPEECH_MS - 20, "sil"]])
        wide, closed = _mouth(sound)
        assert wide > 1.15 * closed
        page.wait_for_function("!document.querySelector('#caption.spoken-along')")
        # Said once more, nobody is asked: neither Polly nor the gateway.
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        greeted(gateway, 2)
        wait(page, ended(page, 2))
        assert (asked, polly.texts) == ([], [WELCOME])


def _mouth(sound: dict[str, Any]) -> tuple[float, float]:
    """Return the mean height of the mouth where its marks say that it is open, and where closed."""
    settle_ms = 250  # the spring, a frame, and the latency of the sound
    (_, closes_ms), (opens_ms, ends_ms) = OPEN_MS
    spans = ((settle_ms, closes_ms), (opens_ms + settle_ms, ends_ms))
    wide = [h for ms, h in sound["mouth"] if any(a < ms < b - 60 for a, b in spans)]
    closed = [h for ms, h in sound["mouth"] if closes_ms + settle_ms < ms < opens_ms - 60]
    assert wide, sound["mouth"]
    assert closed, sound["mouth"]
    return mean(wide), mean(closed)


def test_a_voice_that_is_late_lets_the_own_one_speak_and_is_there_for_the_next(
    browser: Browser, polly: PollyServer, tmp_path: Path
) -> None:
    settings = settings_of(polly, tmp_path, **{"polly.time_limit_ms": 3_500})
    with ScriptedGateway(settings=settings) as gateway, listening(browser, gateway.address) as page:
        start(page)
        wait(page, lambda: polly.answered == 2)
        polly.delay_s = 2.2  # for the sound, and once more for the marks
        greeted(gateway, text=JOKE, action_id="joke")
        assert page.inner_text("#caption") == JOKE
        assert polly.answered == 2, "the caption waits for no voice"
        wait(page, lambda: page.evaluate("spoken") == [["Here", "en-GB", JOKE]])
        wait(page, lambda: polly.answered == 4)
        page.wait_for_timeout(1_000)
        assert heard(page) == [], "nobody speaks into the own voice"
        greeted(gateway, 2, JOKE, "joke")
        wait(page, lambda: len(heard(page)) == 1)
        assert len(page.evaluate("spoken")) == 1


def test_without_polly_the_own_voice_speaks_at_once(
    browser: Browser, settings: Settings, polly: PollyServer
) -> None:
    polly.status = 500
    with ScriptedGateway(settings=settings) as gateway, listening(browser, gateway.address) as page:
        start(page)
        wait(page, lambda: polly.answered == 1)
        greeted(gateway)
        wait(page, lambda: page.evaluate("spoken") == LOCALLY)
        # Well again, before it was left alone for a while (three failures).
        polly.status = 200
        greeted(gateway, 2)
        wait(page, lambda: len(heard(page)) == 1)
        assert page.evaluate("spoken") == LOCALLY


def test_with_no_voice_at_all_the_caption_stands_and_the_mouth_is_still(
    browser: Browser, settings: Settings, polly: PollyServer
) -> None:
    polly.status = 500
    with (
        ScriptedGateway(settings=settings) as gateway,
        listening(browser, gateway.address, "[]") as page,
    ):
        start(page)
        greeted(gateway)
        wait_for_phase(page, "after")
        assert page.inner_text("#caption") == WELCOME
        assert (heard(page), page.evaluate("spoken")) == ([], [])


def test_the_baseline_is_fetched_ahead_and_spoken_while_the_gateway_is_away(
    browser: Browser, settings: Settings, polly: PollyServer
) -> None:
    with ScriptedGateway(settings=settings) as gateway, listening(browser, gateway.address) as page:
        start(page)
        wait(page, lambda: polly.answered == 2)
        page.wait_for_timeout(500)
        gateway.stop()
        page.context.set_offline(True)
        page.wait_for_selector("#status[data-light=away]", state="attached")
        # Before the camera nobody stands for 6 s, then somebody.
        wait_for_phase(page, "greeting", seconds=20)
        wait(page, lambda: len(heard(page)) == 1)
        assert page.evaluate("spoken") == []


def test_other_words_than_those_on_the_screen_are_never_heard(
    browser: Browser, settings: Settings
) -> None:
    other = "Welcome! The shop was given new words."
    with ScriptedGateway(settings=settings) as gateway, listening(browser, gateway.address) as page:
        start(page)
        greeted(gateway, text=other)
        wait(page, lambda: page.evaluate("spoken") == [["Here", "en-GB", other]])
        assert heard(page) == []


def test_the_real_gateway_tells_its_page_of_the_voice_and_wants_its_key(
    browser: Browser, polly: PollyServer, tmp_path: Path
) -> None:
    aws = {"aws.endpoint": polly.endpoint, "aws.region": "eu-central-1", "polly.on": True}
    settings = quick_settings(tmp_path / "shop", **aws, **{"polly.time_limit_ms": 20_000})
    _, key = KeyRing(settings.data / FILE_NAME).add("kiosk", "door-1")
    address = f"http://localhost:{settings.gateway.port}/kiosk/"
    with serving_gateway(settings), listening(browser, address) as page:
        page.click("#start")
        wait_for_phase(page, "key")
        page.fill("#key", key)
        page.keyboard.press("Enter")
        page.wait_for_selector("#status[data-light=good]", state="attached", timeout=20_000)
        wait(page, lambda: polly.texts == [WELCOME])
        path = "/api/kiosk/speech/greeting/welcome/en"
        assert page.evaluate(f"fetch('{path}').then((answer) => answer.status)") == 401


def test_where_polly_is_off_nobody_asks_for_it(browser: Browser) -> None:
    with ScriptedGateway() as gateway, listening(browser, gateway.address) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        start(page)
        greeted(gateway)
        wait(page, lambda: page.evaluate("spoken") == LOCALLY)
        assert [url for url in asked if "speech" in url] == []


def test_a_kiosk_whose_voice_is_off_is_silent_and_has_nothing_spoken(
    browser: Browser, settings: Settings, polly: PollyServer
) -> None:
    with ScriptedGateway(settings=settings) as gateway:
        with listening(browser, f"{gateway.address}?voice=off") as page:
            start(page)
            greeted(gateway)
            wait_for_phase(page, "after")
            assert (heard(page), page.evaluate("spoken"), polly.asked) == ([], [], [])
            assert "switched off" in (page.text_content("#status-words") or "")


def test_who_objects_is_not_spoken_to_any_longer(browser: Browser, settings: Settings) -> None:
    with ScriptedGateway(settings=settings) as gateway, listening(browser, gateway.address) as page:
        start(page)
        greeted(gateway)
        wait(page, lambda: len(heard(page)) == 1)
        page.click("#object")
        wait_for_phase(page, "objection")
        wait(page, ended(page))
        (sound,) = heard(page)
        assert sound["mouth"][-1][0] < sound["ms"] - 200, "it fell silent in the middle"


def test_with_reduced_motion_the_mouth_opens_once(browser: Browser, settings: Settings) -> None:
    with (
        ScriptedGateway(settings=settings) as gateway,
        listening(browser, gateway.address, reduced_motion="reduce") as page,
    ):
        start(page)
        greeted(gateway)
        wait(page, ended(page))
        (sound,) = heard(page)
        wide, closed = _mouth(sound)
        assert closed == pytest.approx(wide, rel=0.05)


def test_without_a_touch_it_is_silent_and_after_one_it_speaks(
    browser: Browser, settings: Settings
) -> None:
    # As a browser does that lets no page sound before somebody touched it.
    forbid = """
        const { resume } = AudioContext.prototype;
        AudioContext.prototype.resume = function () {
          return navigator.userActivation.hasBeenActive ? resume.call(this) : new Promise(() => 0);
        };
    """
    with ScriptedGateway(settings=settings) as gateway:
        with listening(browser, gateway.address) as page:
            page.add_init_script(forbid)
            page.goto(f"{gateway.address}?start=auto")
            page.wait_for_selector("#status[data-light=good]", state="attached")
            greeted(gateway)
            wait(page, lambda: page.evaluate("spoken") == LOCALLY)
            assert heard(page) == []
            page.mouse.click(300, 300)
            greeted(gateway, 2)
            wait(page, lambda: len(heard(page)) == 1)


def test_the_sound_that_polly_really_sends_is_one_that_the_page_plays(
    browser: Browser, settings: Settings, polly: PollyServer
) -> None:
    polly.audio, polly.marks = silent_mp3(), b""
    with ScriptedGateway(settings=settings) as gateway, listening(browser, gateway.address) as page:
        start(page)
        greeted(gateway)
        wait(page, ended(page))
        (sound,) = heard(page)
        assert 1_000 < sound["ms"] <= 1_250
        # A voice without marks: the mouth moves in the rhythm of the letters.
        heights = [height for _, height in sound["mouth"]]
        assert max(heights) > 1.4 * min(heights)
        assert page.evaluate("spoken") == []


def test_what_is_no_sound_lets_the_own_voice_speak(
    browser: Browser, settings: Settings, polly: PollyServer
) -> None:
    polly.audio = b"<html>a proxy's page</html>"
    with ScriptedGateway(settings=settings) as gateway, listening(browser, gateway.address) as page:
        start(page)
        greeted(gateway)
        wait(page, lambda: page.evaluate("spoken") == LOCALLY)
        assert heard(page) == []
