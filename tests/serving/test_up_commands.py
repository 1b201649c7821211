"""`pho up` and `pho gateway`: what they refuse at once, what they start, and how long they try."""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import ResourceError, UsageError
from serving import supervising
from serving.settings import load
from serving.supervising import Part, Supervisor
from serving.up_commands import address_of, parts_of


@pytest.mark.parametrize("command", ["up", "gateway"])
def test_a_port_that_is_taken_is_said(pho: Any, tmp_path: Path, command: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = pho(command, "--data", tmp_path / "shop", "--port", port)
    assert ran.status == 3
    assert f"port {port} cannot be listened on: Address already in use" in " ".join(ran.err.split())
    assert "--port" in ran.err


@pytest.mark.parametrize("command", ["up", "gateway"])
def test_a_folder_that_is_none_is_said(pho: Any, tmp_path: Path, command: str) -> None:
    file = tmp_path / "file"
    file.write_text("no folder")
    ran = pho(command, "--data", file)
    assert (ran.status, "do: " in ran.err, "Traceback" in ran.err) == (3, True, False)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--host", "no.such.host.invalid"), "no address of this machine"),
        (("--host", ""), "gateway.host is empty"),
        (("--port", "0"), "gateway.port"),
        (("--port", "70000"), "gateway.port"),
        (("--tls", "perhaps"), "tls"),
        (("--tls", "files"), "two files"),
        (("--notice", "nowhere"), "notice"),
        (("--log", "kafka://"), "kafka"),
    ],
)
def test_what_cannot_be_is_wrong_usage(
    pho: Any, tmp_path: Path, options: tuple[str, str], says: str
) -> None:
    for command in ("up", "gateway"):
        ran = pho(command, "--data", tmp_path / "shop", *options)
        assert ran.status == 2, ran.err
        assert says in ran.err


def test_models_that_are_not_fetched_are_said(
    pho: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHO_CACHE", str(tmp_path / "empty"))
    ran = pho("up", "--data", tmp_path / "shop")
    assert (ran.status, "doctor --fetch" in ran.err) == (3, True)


def test_what_is_not_installed_is_said(
    pho: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.up_commands._PACKAGES", ("no_such_package",))
    ran = pho("up", "--data", tmp_path / "shop")
    assert ran.status == 3
    assert "pho[gateway]" in ran.err


def test_the_job_and_the_gateway_run_side_by_side_on_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(None, {"data": "shop"}, {})
    common = {"data": "shop", "log": None, "notice": "posted", "config": None}
    serves = {"host": None, "port": 8080, "tls": None}
    assert parts_of(settings, "visitors.mp4", common, serves) == [
        Part("job", ("run", "--watch", "--data", "shop")),
        Part(
            "gateway",
            ("gateway", "--data", "shop", "--notice", "posted", "--port", "8080"),
        ),
        Part(
            "camera",
            ("camera", "visitors.mp4", "--data", "shop", "--notice", "posted"),
            may_end=True,
        ),
    ]
    elsewhere = load(None, {"log.address": "kafka://localhost:9092/shop"}, {})
    assert [part.name for part in parts_of(elsewhere, None, common, serves)] == ["gateway"]


def test_an_address_is_one_a_browser_here_can_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = {
        host: address_of(load(None, {"gateway.host": host, "gateway.tls": "auto"}, {}), "/owner/")
        for host in ("127.0.0.1", "0.0.0.0", "::1", "192.168.1.7")  # noqa: S104
    }
    assert list(told.values()) == [
        "https://localhost:8750/owner/",
        "https://localhost:8750/owner/",
        "https://[::1]:8750/owner/",
        "https://192.168.1.7:8750/owner/",
    ]


PYTHON = (sys.executable, "-c")


def test_a_part_that_dies_at_once_again_and_again_ends_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervising, "FIRST_PAUSE_S", 0.01)
    said: list[str] = []
    parts = [Part("good", ("import time; time.sleep(60)",)), Part("bad", ("print(7); exit(3)",))]
    supervisor = Supervisor(parts, said.append, PYTHON)
    with pytest.raises(ResourceError, match="bad died at once 5 times in a row"):
        supervisor.run(threading.Event())
    assert said.count("bad: 7") == 5
    assert len([line for line in said if line.startswith("bad ended with status 3")]) == 4
    assert supervisor.processes == {}, "the good one is stopped too"


def test_a_part_that_does_not_understand_is_not_started_again() -> None:
    said: list[str] = []
    with pytest.raises(UsageError, match="bad cannot be started"):
        Supervisor([Part("bad", ("exit(2)",))], said.append, PYTHON).run(threading.Event())


def test_a_film_that_is_over_is_done_and_a_job_that_ends_is_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervising, "FIRST_PAUSE_S", 0.01)
    said: list[str] = []
    film = Part("film", ("pass",), may_end=True)
    Supervisor([film], said.append, PYTHON).run(threading.Event())
    assert said == ["film is done"]
    with pytest.raises(ResourceError):
        Supervisor([Part("job", ("pass",))], said.append, PYTHON).run(threading.Event())


def test_a_part_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "PATIENCE_S", 0.2)
    stop = threading.Event()
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if line == "deaf: ready":
            stop.set()

    deaf = "import signal, time; signal.signal(15, lambda *_: None)\n"
    deaf += "print('ready', flush=True)\nwhile True: time.sleep(1)"
    Supervisor([Part("deaf", (deaf,))], say, PYTHON).run(stop)
    assert said == ["deaf: ready", "deaf does not stop; it is killed"]
