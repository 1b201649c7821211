"""The kiosk page in a real Chromium, before a scripted gateway or a real one."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, WebSocket

from waiting import wait_until

READY_S = 40.0
"""How long a gateway may take to answer, on a machine that does much else."""

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
"""Script of a browser whose voices are as told; `spoken` holds what they said."""


@dataclass
class Wire:
    """What went over a page's sockets, as Chromium saw it."""

    sent_bytes: list[bytes] = field(default_factory=list)
    """Binary messages of the page."""
    sent: list[str] = field(default_factory=list)
    """Text messages of the page."""
    received: list[str] = field(default_factory=list)
    """Messages of the gateway."""
    complaints: list[str] = field(default_factory=list)
    """Errors of the page, and what its policy forbade."""

    def watch(self, page: Page) -> None:
        """Note what goes over the page's sockets from now on."""
        page.on("websocket", self._socket)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._said)

    def _said(self, message: ConsoleMessage) -> None:
        # A gateway that is away is an error to Chromium; here it is what is tested.
        if message.type == "error" and "net::ERR" not in message.text:
            self.complaints.append(message.text)

    def _socket(self, wire: WebSocket) -> None:
        wire.on("framesent", self._sent)
        wire.on("framereceived", lambda data: self.received.append(str(data)))

    def _sent(self, data: str | bytes) -> None:
        if isinstance(data, bytes):
            self.sent_bytes.append(data)
        else:
            self.sent.append(data)


def open_page(browser: Browser, address: str, **options: Any) -> tuple[Page, Wire]:
    """Open the kiosk page in a context of its own; close ``page.context`` at the end."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 720}, **options})
    page = context.new_page()
    wire = Wire()
    wire.watch(page)
    page.goto(address)
    page.wait_for_selector("#start:enabled")
    return page, wire


def start(page: Page) -> None:
    """Press Start and wait for the gateway's welcome."""
    page.click("#start")
    page.wait_for_selector("#status[data-light=good]", state="attached", timeout=20_000)


def wait_for_phase(page: Page, *phases: str, seconds: float = 30.0) -> None:
    """Wait until the page shows one of some phases."""
    wanted = ", ".join(f"html[data-phase={phase}]" for phase in phases)
    page.wait_for_selector(wanted, timeout=seconds * 1000)


def wait(page: Page, done: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until something is so, and let the page's events come in meanwhile.

    Raises
    ------
    AssertionError
        It was not within that time.
    """
    wait_until(done, seconds, pause=lambda: page.wait_for_timeout(50))


class RealGateway:
    """`pho gateway` and `pho run` on a folder, each a process that can be killed. Use as a context.

    Parameters
    ----------
    data : Path
        The folder.
    """

    def __init__(self, data: Path) -> None:
        self.data = data
        self.port = _free_port()
        self._gateway: subprocess.Popen[bytes] | None = None
        self._job: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """The kiosk page's address."""
        return f"http://localhost:{self.port}/kiosk/"

    def __enter__(self) -> RealGateway:
        self.data.mkdir(parents=True)
        self._job = self._run("run")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._gateway, self._job):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in (self._gateway, self._job):
            if process is not None:
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def start(self) -> None:
        """Start the gateway, and wait until it answers."""
        self._gateway = self._run("gateway", "--port", str(self.port))
        wait_until(self._answers, READY_S)

    def kill(self) -> None:
        """Kill the gateway as a power cut would."""
        assert self._gateway is not None
        self._gateway.kill()
        self._gateway.wait()

    def _answers(self) -> bool:
        assert self._gateway is not None
        if self._gateway.poll() is not None:
            raise AssertionError((self.data / "gateway.txt").read_text())
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def _run(self, command: str, *arguments: str) -> subprocess.Popen[bytes]:
        pho = str(Path(sys.executable).with_name("pho"))
        with (self.data / f"{command}.txt").open("ab") as told:
            return subprocess.Popen(
                [pho, command, "--data", str(self.data), *arguments],
                cwd=self.data,
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
            )


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
