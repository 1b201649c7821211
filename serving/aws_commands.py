"""Commands for AWS: the demo there, and alarms to a topic."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from connectors.embedded_log import FILE_NAME
from schemas.errors import ResourceError, UsageError
from serving.console import (
    AsJson,
    Config,
    Data,
    LogAddress,
    as_flag,
    bar,
    err,
    out,
    print_json,
    require_vision,
)
from serving.opening import open_log
from serving.report import document, read_report, show
from serving.settings import Settings, load
from serving.stopping import stop_on_signals

if TYPE_CHECKING:
    from connectors.sns_alarms import Notice
    from serving.aws_demo import CloudReport

_WAIT_S = 0.5


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command("demo-aws")(demo_aws)
    app.command()(alarms)


def demo_aws(
    data: Data = None,
    visits: Annotated[int, typer.Option(min=1, help="Recorded visitors.")] = 40,
    seed: Annotated[int, typer.Option(help="Who comes, and how each reacts.")] = 1,
    compare: Annotated[
        bool, typer.Option(help="Play the plain demo too, and compare every outcome.")
    ] = True,
    reshape: Annotated[
        bool, typer.Option(help="Split and merge a shard while visitors come.")
    ] = True,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Play the loop on recorded visitors by way of S3, SQS, Kinesis, Rekognition, DynamoDB.

    Servers on this machine stand for AWS; where aws.endpoint names some, those are used. Leaves
    with 1 where an outcome differs, or anything is missing, doubled or left behind.

    Example: pho demo-aws --visits 40 --seed 1 --data build/demo-aws
    """
    base = load(config, {"data": as_flag(data), "loops.greeting.control_share": 0.15})
    if base.log.address:
        problem = f"the demo makes its own log, and log.address is {base.log.address}"
        raise UsageError(problem, "Leave log.address empty")
    if not base.aws.endpoint and (base.data / FILE_NAME).exists():
        problem = f"{base.data} holds a log, and what stood for AWS then is gone"
        raise UsageError(problem, "Name a new folder with --data")
    require_vision()
    _require_aws()
    from serving import aws_demo
    from serving.demo import Play

    play = Play("recorded", seed, visits)
    with ExitStack() as stack:
        servers = None
        endpoint, endpoints = base.aws.endpoint, base.aws.endpoints
        if not endpoint:
            if not as_json:
                err.print("starting what stands for AWS here", highlight=False)
            servers = stack.enter_context(aws_demo.local_servers(base))
            endpoint, endpoints = servers.aws.endpoint, servers.endpoints
        settings = aws_demo.cloud_settings(base, endpoint, endpoints)
        the_demo = aws_demo.AwsDemo(settings, play, reshape=reshape)
        stack.callback(the_demo.log.close)
        with bar("visitors", quiet=as_json) as progress:
            the_demo.run(progress)
        cloud = the_demo.report(servers.rekognition if servers else None)
        same = _same_as_plain(base, play, the_demo, quiet=as_json) if compare else None
        report = read_report(the_demo.log, the_demo.pictures_left)
    told = {**document(report), "aws": {**cloud.document(), "same_outcomes": same}}
    if as_json:
        print_json(told)
    else:
        show(report, out)
        _show_cloud(cloud, same)
    if not cloud.good or same is False or not told["balanced"]:
        raise typer.Exit(1)


def _require_aws() -> None:
    try:
        import boto3  # noqa: F401 - whether it is there
        import moto  # noqa: F401
    except ImportError as error:
        problem = f"the demo on AWS needs {error.name}, which is not installed"
        cure = "Install the extras: pip install 'pho[aws,vision,dev]'"
        raise ResourceError(problem, cure) from error


def _same_as_plain(base: Settings, play: Any, the_demo: Any, *, quiet: bool) -> bool:
    from serving.aws_demo import outcomes_of
    from serving.demo import Demo

    with TemporaryDirectory(prefix="pho-plain-") as folder:
        plain = Demo(msgspec.structs.replace(base, data=Path(folder)), play)
        with bar("the same without AWS", quiet=quiet) as progress:
            plain.run(progress)
        wanted = outcomes_of(plain.log)
        plain.log.close()
    return wanted == outcomes_of(the_demo.log)


def _show_cloud(cloud: CloudReport, same: bool | None) -> None:
    told, travelled = cloud.document(), cloud.travelled
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    table.add_row("S3", f"{cloud.pictures_in_bucket} pictures left in the bucket")
    table.add_row("SQS", f"{travelled.notices} notices of new pictures")
    sent = f"{travelled.sent} records there, {travelled.read} read, {travelled.repeats} repeats"
    table.add_row("Kinesis", f"{sent}; {travelled.published} of the job")
    for line in cloud.reshaped:
        table.add_row("", line)
    looked = cloud.rekognition_calls
    table.add_row("Rekognition", f"{looked} pictures" if looked >= 0 else "elsewhere")
    table.add_row("DynamoDB", f"{cloud.items} items, {_equal(cloud.tables_equal)} the log")
    table.add_row("outcomes", f"on Kinesis {_equal(cloud.on_kinesis_equal)} the log")
    if same is not None:
        table.add_row("", "the same as without AWS" if same else "[red]not those without AWS[/]")
    table.add_row(
        "all in all", "good" if told["good"] and same is not False else "[red]not good[/]"
    )
    out.print(table)


def _equal(equal: bool) -> str:
    return "equal to" if equal else "[red]not equal to[/]"


def alarms(
    to: Annotated[str, typer.Option("--to", help="sns: the topic of aws.topic.")],
    once: Annotated[bool, typer.Option("--once", help="Send what there is, then leave.")] = False,
    seconds: Annotated[float | None, typer.Option(help="Stop after so long.")] = None,
    data: Data = None,
    log: LogAddress = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Send alarms and dead letters to a topic, each once.

    Example: pho alarms --to sns --data shop
    """
    settings = load(config, {"data": as_flag(data), "log.address": log})
    if to != "sns":
        problem = f"there is no place {to!r} for alarms"
        raise UsageError(problem, "Use --to sns")
    if not settings.aws.topic:
        problem = "no topic is named"
        raise UsageError(problem, "Set aws.topic to its ARN; deploy/aws makes one")
    if settings.log.address.startswith("kinesis://"):
        problem = "Kinesis has no place to note which alarms were sent"
        raise UsageError(problem, "Run it on the job's folder: --data DIR, without --log")
    from connectors.sns_alarms import STREAMS, SnsAlarms
    from serving.services import aws_clients

    opened = open_log(settings)
    sent: list[Notice] = []

    def tell(notice: Notice) -> None:
        sent.append(notice)
        if not as_json:
            out.print(escape(f"sent {notice.alarm_id}: {notice.subject}"), highlight=False)

    client = aws_clients(settings).client("sns")
    sender = SnsAlarms(opened, client, settings.aws.topic, tell)
    stop = None if once else stop_on_signals(seconds)
    if stop is None:
        sender.run_once()
    else:
        err.print(f"sending to {settings.aws.topic}; stop it with Ctrl-C", highlight=False)
        # Opened first, or what is appended during the pass would be seen by neither.
        tail = opened.tail(*STREAMS)
        try:
            _patiently(sender.run_once, stop)
            while not stop.is_set():
                if tail.poll(_WAIT_S):
                    _patiently(sender.run_once, stop)
        finally:
            tail.close()
    if as_json:
        print_json([{**notice.body, "subject": notice.subject} for notice in sent])
    elif once and not sent:
        out.print("nothing new", highlight=False)


def _patiently(send: Any, stop: Any) -> None:
    """Send; where the service cannot take it now, say so, wait, and send again."""
    from schemas.errors import CloudError

    pause_s = 1.0
    while not stop.is_set():
        try:
            send()
        except CloudError as error:
            if error.action != "retry":
                raise
            err.print(f"[yellow]{escape(error.problem)}[/]; tried again", highlight=False)
            stop.wait(pause_s)
            pause_s = min(60.0, 2.0 * pause_s)
        else:
            return
