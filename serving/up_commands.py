"""Commands that serve pages and kiosks: up, gateway."""

from __future__ import annotations

import webbrowser
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from connectors.assets import FETCH_CURE, missing_assets
from schemas.errors import ModelError, ResourceError
from serving.console import Config, Data, LogAddress, as_flag, err, require_vision
from serving.kinesis_opening import is_on_kinesis
from serving.opening import kafka_address, open_log
from serving.settings import Settings, load
from serving.stopping import stop_on_signals
from serving.supervising import Part, Supervisor

# What needs the extra is imported where it is used: the core installs without it.

GATEWAY_CURE = "Install the extra: pip install 'pho[gateway]'"
_PACKAGES = ("fastapi", "uvicorn", "websockets", "prometheus_client", "cryptography")

Host = Annotated[
    str | None, typer.Option("--host", help="Address to listen on.", show_default="127.0.0.1")
]
Port = Annotated[int | None, typer.Option("--port", help="Its port.", show_default="8750")]
Tls = Annotated[str | None, typer.Option("--tls", help="off, auto (own certificate) or files.")]
Notice = Annotated[
    str | None,
    typer.Option(help="posted: visitors read of the camera on the wall, not only on the page."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command()(up)
    app.command()(gateway)


def require_gateway() -> None:
    """Refuse a command that serves pages where what it needs is not installed.

    Raises
    ------
    ResourceError
        Names the extra to install.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        problem = f"this command serves pages, and {missing[0]} is not installed"
        raise ResourceError(problem, GATEWAY_CURE)
    require_vision()


def up(
    data: Data = None,
    camera: Annotated[
        str | None,
        typer.Option(
            help="A camera of this machine beside the browsers': device number, FILE, FOLDER, "
            "RTSP address, recorded.",
            show_default="none",
        ),
    ] = None,
    notice: Notice = None,
    log: LogAddress = None,
    host: Host = None,
    port: Port = None,
    tls: Tls = None,
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the owner's page in this machine's browser.")
    ] = False,
    seconds: Annotated[float | None, typer.Option(help="Stop after so long.")] = None,
    config: Config = None,
) -> None:
    """Serve everything on this machine: job, gateway and pages, until it is stopped.

    What dies is started again. With --log on Kafka it is the gateway alone: Flink runs the job.

    Example: pho up --data shop
    """
    flags = {"data": as_flag(data), "log": log, "notice": notice}
    serves = {"host": host, "port": port, "tls": tls}
    settings = settings_of(config, **flags, **serves)
    require_gateway()
    check_place(settings)
    parts = parts_of(
        settings, None if camera == "none" else camera, {**flags, "config": config}, serves
    )
    stop = stop_on_signals(seconds)
    told = False

    def say(line: str) -> None:
        nonlocal told
        _say(line)
        if not told and line.startswith("gateway: the gateway answers"):
            told = True
            _tell_addresses(settings, open_page=open_page)

    Supervisor(parts, say).run(stop)
    _say("stopped")


def gateway(
    data: Data = None,
    log: LogAddress = None,
    host: Host = None,
    port: Port = None,
    tls: Tls = None,
    notice: Notice = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after so long.")] = None,
    config: Config = None,
) -> None:
    """Serve the pages and the kiosks, beside a job that runs elsewhere.

    Several may stand side by side on one log on Kafka.

    Example: pho gateway --data shop --port 8750
    """
    settings = settings_of(
        config, data=as_flag(data), log=log, host=host, port=port, tls=tls, notice=notice
    )
    require_gateway()
    from serving.gateway.server import serve
    from serving.gateway.shop import open_shop

    stop = stop_on_signals(seconds)
    shop = open_shop(settings, stop, _say)
    if shop is None:
        return
    try:
        serve(shop, stop, lambda: _say_started(settings))
    finally:
        shop.close()
    _say("the gateway stopped; visits go on when their pages find another")


def check_place(settings: Settings) -> None:
    """Refuse what no start, however often repeated, would bring up.

    Raises
    ------
    ResourceError
        The port is taken, the folder cannot be written, or a model is missing.
    UsageError
        The address of the log or of the gateway is none.
    """
    from serving.gateway.server import bound_socket, certificate_of

    if settings.log.address:
        # Whether a broker answers is waited for; whether one could be asked is known now.
        if not is_on_kinesis(settings):
            kafka_address(settings, settings.kafka.client)
    else:
        # It says what is wrong with the folder or the file; and the parts find it made.
        open_log(settings, must_exist=False).close()
    if missing := missing_assets(settings.cache):
        problem = f"the model {missing[0]} is missing"
        raise ModelError(problem, FETCH_CURE)
    certificate_of(settings)
    bound_socket(settings.gateway).close()


def parts_of(
    settings: Settings,
    camera: str | None,
    common: Mapping[str, object],
    serves: Mapping[str, object],
) -> list[Part]:
    """Return what runs side by side.

    Parameters
    ----------
    settings : Settings
        The settings.
    camera : str or None
        Source of a camera of this machine.
    common : mapping
        Options that every part takes, as they were given; None: not given.
    serves : mapping
        Options of the gateway.
    """
    # On Kafka Flink runs it; in a folder and on Kinesis this machine does.
    here = not settings.log.address or is_on_kinesis(settings)
    of_job = {name: common[name] for name in ("config", "data", "log")}
    parts = [Part("job", ("run", "--watch", *_options(of_job)))] if here else []
    parts.append(Part("gateway", ("gateway", *_options({**common, **serves}))))
    if camera is not None:
        # A FILE or FOLDER is shown once; a device that went away is tried again.
        ends = not (camera.isdecimal() or "://" in camera or camera == "recorded")
        parts.append(Part("camera", ("camera", camera, *_options(common)), may_end=ends))
    return parts


def _options(given: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(
        word
        for name, value in given.items()
        if value is not None
        for word in (f"--{name}", str(value))
    )


def _tell_addresses(settings: Settings, *, open_page: bool) -> None:
    owner = address_of(settings, "/owner/")
    _say(f"kiosk's page: {address_of(settings, '/kiosk/')}")
    _say(f"owner's page: {owner}")
    if not settings.gateway.on_loopback:
        _say("other machines call it by this one's name, and need a key: pho keys add")
    _say("stop with Ctrl-C")
    if open_page:
        webbrowser.open(owner)


def settings_of(config: Path | None, **flags: object) -> Settings:
    """Return the settings with the flags that both commands take."""
    names = {
        "data": "data",
        "log": "log.address",
        "host": "gateway.host",
        "port": "gateway.port",
        "tls": "gateway.tls",
        "notice": "kiosk.notice",
    }
    return load(config, {names[name]: value for name, value in flags.items()})


def address_of(settings: Settings, path: str = "/") -> str:
    """Return an address of the gateway to open in a browser on this machine."""
    table = settings.gateway
    host = "localhost" if table.host in ("0.0.0.0", "::", "127.0.0.1") else table.host  # noqa: S104
    name = f"[{host}]" if ":" in host else host
    return f"{table.scheme}://{name}:{table.port}{path}"


def _say_started(settings: Settings) -> None:
    from serving.gateway.door_words import door_words

    _say(f"the gateway answers: {address_of(settings)}")
    for line in door_words(settings):
        _say(line)


def _say(line: str) -> None:
    err.print(escape(line), highlight=False, soft_wrap=True)
