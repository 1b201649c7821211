"""What `pho doctor` looks at where the log is on Kinesis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec

from connectors.aws_clients import AWS_CURE
from schemas.errors import PhoError
from serving.findings import Finding, ledger_finding
from serving.forgotten import without_erased
from serving.kinesis_opening import connect_kinesis, open_kinesis_log
from serving.ledger import read_ledger
from serving.settings import Settings

_WRONG_BY_MS = 2_000
"""Kinesis tells its time to the second; from so many ms on a clock is told to be wrong."""


def examine(settings: Settings) -> list[Finding]:
    """Look at client, streams, clock and ledger, as far as they can be reached; writes nothing."""
    if find_spec("boto3") is None:
        return [Finding("kinesis", "missing", "boto3 is not installed", AWS_CURE)]
    try:
        return list(_streams(settings))
    except PhoError as error:
        return [Finding("kinesis", "broken", error.problem, error.cure)]


def _streams(settings: Settings) -> Iterator[Finding]:
    from connectors.kinesis_clock import ServerClock
    from connectors.kinesis_streams import KINESIS_STREAMS, describe_streams

    client, address = connect_kinesis(settings)
    clock = ServerClock()
    found = describe_streams(client, address, clock=clock)
    missing = [address.stream_name(name) for name in KINESIS_STREAMS if name not in found]
    if missing:
        text = f"{address} lacks {', '.join(missing)}"
        yield Finding("kinesis", "missing", text, f"pho topics create --log {address}")
    else:
        shards = sum(one.shards for one in found.values())
        hours = min(one.retention_hours for one in found.values())
        text = f"{len(found)} streams at {address}, {shards} shards; records stay {hours} h"
        yield Finding("kinesis", "ok", text)
    low_ms, high_ms = clock.ahead_ms
    if low_ms > _WRONG_BY_MS or high_ms < -_WRONG_BY_MS:
        text = f"this machine is {-(low_ms + high_ms) / 2_000:+.1f} s off Kinesis"
        yield Finding("clock", "broken", text, "Let it be set by NTP")
    else:
        yield Finding("clock", "ok", f"within {(high_ms - low_ms) / 2_000:.1f} s of Kinesis'")
    if not missing:
        with closing(open_kinesis_log(settings)) as log:
            yield ledger_finding(read_ledger(without_erased(settings, log)))
