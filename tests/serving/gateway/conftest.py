"""What the tests of the pages share: a Chromium for each module, a scripted gateway."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from chromium import Launch, browsers, write_camera
from kiosk_pages import Wire, open_page
from scripted_gateway import ScriptedGateway

# Five seconds are too few beside much other work.
expect.set_options(timeout=30_000)


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
