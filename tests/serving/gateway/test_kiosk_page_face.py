"""How the kiosk page looks and speaks: avatar, voice, sizes, languages."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page

from kiosk_pages import VOICES, Wire, open_page, start, wait_for_phase
from scripted_gateway import ScriptedGateway

WELCOME = "Welcome. Nice to see you."

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


# What was heard of the speech goes by as told.
MARKED = """async (times) => {
    const { Mouth } = await import("/kiosk/mouth.js");
    const mouth = new Mouth();
    const visemes = [[100, "p"], [300, "o"], [500, "k"], [700, "sil"]];
    let heard = 0;
    const marks = visemes.map(([at_ms, value]) => ({ at_ms, value }));
    mouth.speak("Bock", { visemes: marks, clock: () => heard });
    mouth.word("Aaa");
    const shapes = times.map((ms) => { heard = ms; return mouth.shape(0); });
    const calm = times.map((ms) => { heard = ms; return mouth.shape(0, true); });
    mouth.hush();
    return [shapes, calm, mouth.shape(0, true)];
}"""

SIZES = [(320, 568), (360, 740), (740, 360), (1080, 1920), (1280, 720), (3840, 2160)]


@pytest.mark.parametrize(
    ("voices", "spoken"),
    [
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


def test_the_mouth_opens_with_the_word_and_closes_after_it(
    browser: Browser, gateway: ScriptedGateway
) -> None:
    page, _ = open_page(browser, gateway.address)
    assert max(page.evaluate(SPEAK, "")) == 0.0
    heights = page.evaluate(SPEAK, "Mama")
    assert max(heights) > 0.6
    assert heights[-1] < 0.05
    assert page.evaluate("import('/kiosk/mouth.js').then((it) => it.visemes('Mapo!'))") == [
        *("closed", "open", "closed", "round"),
    ]
    page.context.close()


def test_by_its_marks_the_mouth_is_there_a_moment_before_the_sound(
    browser: Browser, gateway: ScriptedGateway
) -> None:
    page, _ = open_page(browser, gateway.address)
    times = [0, 49, 60, 260, 460, 660, 9_000]
    assert page.evaluate(MARKED, times) == [
        ["rest", "rest", "closed", "round", "narrow", "rest", "rest"],
        ["half"] * len(times),
        "rest",
    ]
    page.context.close()


def test_a_frame_older_than_the_word_that_began_is_drawn_all_the_same(
    browser: Browser, gateway: ScriptedGateway
) -> None:
    page, _ = open_page(browser, gateway.address)
    shape = """async () => {
        const { Mouth } = await import("/kiosk/mouth.js");
        const mouth = new Mouth();
        mouth.word("Mama");
        return mouth.shape(performance.now() - 500);
    }"""
    assert page.evaluate(shape) == "closed"
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


def test_with_reduced_motion_nothing_sways(browser: Browser, gateway: ScriptedGateway) -> None:
    page, _ = open_page(browser, gateway.address, reduced_motion="reduce")
    page.wait_for_timeout(1_000)
    seen = set()
    for _ in range(10):
        seen.add(page.get_attribute("[data-part=body]", "transform"))
        page.wait_for_timeout(60)
    assert len(seen) == 1
    page.context.close()


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
