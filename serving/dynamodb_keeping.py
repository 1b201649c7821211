"""Keeps decisions and outcomes in DynamoDB: `pho tables --to dynamodb`."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict
from typing import Any

from rich.markup import escape

from connectors.logs import Log
from engines.job import StopFlag
from schemas.errors import CloudError, UsageError
from serving.console import err
from serving.forgotten import erased_in
from serving.opening import open_log
from serving.services import aws_clients
from serving.settings import Settings

_WAIT_S = 0.5
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0


def keep_dynamodb(settings: Settings, stop: StopFlag | None) -> dict[str, Any]:
    """Bring the tables up to date, and keep them so until it is told to stop.

    Parameters
    ----------
    settings : Settings
        ``aws.tables`` names them, ``aws.keep_days`` says how long they keep an item.
    stop : StopFlag or None
        None: once.

    Returns
    -------
    dict
        What was done: ``place``, ``new``, ``held``, ``erased``, ``unreadable``.

    Raises
    ------
    CloudError
        DynamoDB refuses, and no other try will help before somebody changed something.
    UsageError
        No tables are named.
    """
    if not settings.aws.tables:
        problem = "no tables of DynamoDB are named"
        raise UsageError(problem, "Set aws.tables to what their names begin with")
    with closing(open_log(settings)) as log:
        return _keep(settings, log, stop)


def _keep(settings: Settings, log: Log, stop: StopFlag | None) -> dict[str, Any]:
    from connectors.dynamodb_feed import STREAMS, DynamoFeed
    from connectors.dynamodb_tables import DynamoTables

    tables = DynamoTables(aws_clients(settings).client("dynamodb"), settings.aws.tables)
    feed = DynamoFeed(
        log, tables, settings.aws.keep_days, lambda: erased_in(settings, log), name=log.name
    )
    place = f"dynamodb {tables.prefix}-decisions, {tables.prefix}-outcomes"
    if stop is None:
        feed.run_once()
        return {"place": place, **asdict(feed.fed)}
    err.print(escape(f"keeping {place}; stop it with Ctrl-C"), highlight=False, soft_wrap=True)
    # Opened first, or what is appended during the pass would be seen by neither.
    with closing(log.tail(*STREAMS)) as tail:
        _run(feed, stop)
        while not stop.is_set():
            if tail.poll(_WAIT_S):
                _run(feed, stop)
    return {"place": place, **asdict(feed.fed)}


def _run(feed: Any, stop: StopFlag) -> None:
    """Take what there is; where DynamoDB is away, say so and try again until it is back."""
    pause_s = _FIRST_PAUSE_S
    while not stop.is_set():
        try:
            feed.run_once()
        except CloudError as error:
            if error.action != "retry":
                raise
            err.print(f"[yellow]{escape(error.problem)}[/]; trying again", highlight=False)
            until_s = time.monotonic() + pause_s
            while time.monotonic() < until_s and not stop.is_set():
                time.sleep(_WAIT_S)
            pause_s = min(_LONGEST_PAUSE_S, 2.0 * pause_s)
        else:
            return
