"""Opens the log on Kinesis that the settings name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from connectors.aws_clients import AwsClients
from connectors.clocks import WallClock
from connectors.kinesis_address import SCHEME, KinesisAddress
from engines.job import StopFlag
from schemas.errors import LogUnavailable, UsageError
from serving.settings import Settings
from serving.settings_aws import aws_access

if TYPE_CHECKING:
    from connectors.kinesis_log import KinesisLog
    from connectors.logs import Clock

IN_ITS_FOLDER = "Do it on the folder of `pho run`: --data DIR, without --log"
_RETRY_S = 1.0
_HASTY_MS = 10_000
T = TypeVar("T")


def is_on_kinesis(settings: Settings) -> bool:
    """Whether the log is there."""
    return settings.log.address.startswith(SCHEME)


def refuse_kinesis(settings: Settings, command: str, cure: str) -> None:
    """Refuse a command that does not work on Kinesis.

    Raises
    ------
    UsageError
        Says what to do instead.
    """
    if is_on_kinesis(settings):
        problem = f"`pho {command}` does not work on {settings.log.address}"
        raise UsageError(problem, cure)


def connect_kinesis(settings: Settings, tries: int | None = None) -> tuple[Any, KinesisAddress]:
    """Return a client, and the address of the log.

    Parameters
    ----------
    settings : Settings
        The settings.
    tries : int, optional
        Calls of one request, instead of those in [aws].

    Raises
    ------
    UsageError
        The address is none.
    ResourceError
        boto3 is not installed.
    """
    address = KinesisAddress.parse(settings.log.address)
    access = address.access(aws_access(settings.aws))
    if tries is not None:
        access = replace(access, tries=tries)
    return AwsClients(access).client("kinesis"), address


def open_kinesis_log(
    settings: Settings, *, hasty: bool = True, clock: Clock | None = None
) -> KinesisLog:
    """Open it.

    Parameters
    ----------
    settings : Settings
        The settings.
    hasty : bool
        True: an append waits 10 s at most, for whoever has nothing to lose by asking again.
    clock : callable, optional
        The estimate of Kinesis' clock; None: this machine's.
    """
    from connectors.kinesis_intake import INTAKE_STREAMS
    from connectors.kinesis_log import KinesisLog

    client, address = connect_kinesis(settings)
    table = settings.kinesis
    timeout_ms = min(_HASTY_MS, table.delivery_timeout_ms) if hasty else table.delivery_timeout_ms
    return KinesisLog(
        client,
        address,
        clock or WallClock(),
        timeout_ms,
        table.reads_per_second,
        INTAKE_STREAMS,
    )


def wait_for_kinesis(
    settings: Settings, stop: StopFlag, say: Callable[[str], None]
) -> KinesisLog | None:
    """Open it as soon as Kinesis answers; None: it was stopped before.

    Raises
    ------
    LogUnavailable
        A stream is missing, or a permission: waiting would not help.
    """
    from connectors.kinesis_clock import ServerClock
    from connectors.kinesis_streams import KINESIS_STREAMS, describe_streams, streams_missing

    client, address = connect_kinesis(settings)
    clock = ServerClock()
    found = patiently(lambda: describe_streams(client, address, clock=clock), stop, say)
    if found is None:
        return None
    if missing := [name for name in KINESIS_STREAMS if name not in found]:
        raise streams_missing(address, map(address.stream_name, missing))
    return open_kinesis_log(settings, clock=clock)


def patiently(make: Callable[[], T], stop: StopFlag, say: Callable[[str], None]) -> T | None:
    """Make what asks Kinesis when it is made; None: it was stopped before Kinesis answered.

    Raises
    ------
    LogUnavailable
        Waiting would not help, as of a missing permission.
    """
    said = False
    while not stop.is_set():
        try:
            return make()
        except LogUnavailable as error:
            if getattr(error.__cause__, "action", "stop") != "retry":
                raise
            if not said:
                say(f"{error.problem}; waiting for it")
            said = True
            stop.wait(_RETRY_S)
    return None


def create_kinesis_streams(settings: Settings) -> dict[str, Any]:
    """Make the streams, and return what is there, as `pho topics create --json` prints it."""
    from connectors.kinesis_streams import create_streams

    client, address = connect_kinesis(settings)
    report = create_streams(
        client, address, settings.kinesis.shards, on_demand=settings.kinesis.on_demand
    )
    told: dict[str, Any] = msgspec.to_builtins(report)
    return told
