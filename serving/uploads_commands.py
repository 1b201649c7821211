"""`pho uploads`: frames from cameras that can do nothing but upload to S3."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer
from rich.markup import escape

from engines.job import StopFlag
from schemas.errors import CloudError, LogFull, LogUnavailable, PhoError, UsageError
from serving.console import AsJson, Config, Data, LogAddress, as_flag, err, out, print_json
from serving.opening import open_log
from serving.services import aws_clients, open_pictures
from serving.settings import Settings, load
from serving.stopping import stop_on_signals

_WAIT_S = 2
_PAUSE_S = 2.0


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(uploads)


def uploads(
    queue: Annotated[
        str | None, typer.Option(help="URL of the queue that S3 tells of uploads.")
    ] = None,
    bucket: Annotated[str | None, typer.Option(help="The one bucket that is read.")] = None,
    notice: Annotated[
        str | None, typer.Option(help="Where visitors read of the camera: posted, or none.")
    ] = None,
    data: Data = None,
    log: LogAddress = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after so long.")] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Make a frame of each picture that a camera uploads to S3.

    A camera uploads PREFIX/KIOSK/SESSION/SEQUENCE-PHASE.jpg, such as
    uploads/door-1/20260105-0915/0-pre.jpg; the upload is deleted when its frame is in the log.

    Example: pho uploads --notice posted --data shop
    """
    flags = {
        "data": as_flag(data),
        "log.address": log,
        "uploads.queue": queue,
        "uploads.bucket": bucket,
        "kiosk.notice": notice,
    }
    settings = load(config, flags)
    if not settings.uploads.queue:
        problem = "no queue of uploads is named"
        raise UsageError(problem, "Set uploads.queue in pho.toml, or give --queue and --bucket")
    if settings.kiosk.notice == "page":
        problem = "the notice stands on a page, and these cameras show none"
        raise UsageError(problem, "Post it beside them, and say so: --notice posted")
    if settings.kiosk.notice == "none":
        err.print("[yellow]no notice is shown, so nobody is analysed[/]; see --notice")
    told = run_uploads(settings, stop_on_signals(seconds))
    if as_json:
        print_json(told)
    else:
        out.print(
            ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in told.items() if n)
            or "nothing came"
        )


def run_uploads(settings: Settings, stop: StopFlag) -> dict[str, int]:
    """Take uploads until it is stopped; return what happened, by name.

    Raises
    ------
    CloudError
        Of a kind that waiting cannot mend: no such queue or bucket, no permission.
    """
    from connectors.sqs_frames import SqsFrames, UploadSettings

    table, kiosk = settings.uploads, settings.kiosk
    clients = aws_clients(settings)
    told = UploadSettings(
        table.queue,
        table.bucket,
        table.prefix,
        kiosk.loop,
        kiosk.notice,
        kiosk.utc_offset_minutes,
        kiosk.language,
        table.visibility_s,
    )
    sqs = clients.fresh("sqs", read_timeout=_WAIT_S + settings.aws.read_timeout_ms / 1_000)
    with closing(sqs), closing(clients), closing(open_log(settings, must_exist=False)) as opened:
        pictures = open_pictures(settings)
        source = SqsFrames(sqs, clients.client("s3"), pictures, opened, told)
        with closing(source):
            err.print(f"uploads to {table.bucket} become frames; stop with Ctrl-C", highlight=False)
            while not stop.is_set():
                try:
                    source.step(_WAIT_S)
                except (LogFull, LogUnavailable) as error:
                    _wait(error, stop)
                except CloudError as error:
                    if error.action == "stop":
                        raise
                    _wait(error, stop)
            pictures.flush()
    counters = source.counters
    return {name: getattr(counters, name) for name in counters.__slots__}


def _wait(error: PhoError, stop: StopFlag) -> None:
    """Say what is wrong and wait: the messages stay in the queue."""
    err.print(f"[red]{escape(str(error))}[/]", highlight=False, soft_wrap=True)
    stop.wait(_PAUSE_S)
