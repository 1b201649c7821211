"""Makes what the settings name: the picture store, the analyser, the clients of AWS."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from connectors.guarding import CircuitBreaker, Spending, TokenBucket
from connectors.logs import Clock
from connectors.pictures import PICTURES, FolderPictures, PictureStore
from engines.analysis import FrameAnswerer, Scorer
from pipelines.analyze import Analyser
from pipelines.operators import Dataflow
from pipelines.topology import greeting_loop
from schemas.errors import UsageError
from schemas.loops import LoopConfigured
from serving.console import require_vision
from serving.settings import Settings
from serving.settings_aws import aws_access

if TYPE_CHECKING:
    from connectors.aws_clients import AwsClients

SPENT = "rekognition-spent.json"
"""File of what Rekognition was asked, inside a data folder."""

_OF_THE_ENGINES_LIMIT = 0.8
"""Share of the engine's time limit that Rekognition may use up: the rest is for the fallback."""


def aws_clients(settings: Settings) -> AwsClients:
    """Return what makes clients of AWS.

    Raises
    ------
    ResourceError
        boto3 is not installed.
    """
    from connectors.aws_clients import AwsClients

    return AwsClients(aws_access(settings.aws))


def open_pictures(settings: Settings) -> PictureStore:
    """Open the picture store of these settings.

    Raises
    ------
    ResourceError
        The folder cannot be used, or boto3 is not installed.
    """
    table = settings.pictures
    if table.store == "folder":
        return FolderPictures(settings.data / PICTURES)
    from connectors.s3_pictures import S3Pictures

    return S3Pictures(aws_clients(settings).client("s3"), table.bucket, table.prefix)


def make_analyser(settings: Settings, clock: Clock, folder: Path | None = None) -> Analyser:
    """Make the analyser of these settings.

    Parameters
    ----------
    settings : Settings
        ``analysis.analyser`` names it.
    clock : callable
        Returns ms since 1970 UTC: the day of the budget.
    folder : Path, optional
        Where the spending is kept; None: it is forgotten when the process ends.

    Raises
    ------
    ResourceError
        An extra is not installed, a model is missing, or the spending cannot be read.
    """
    if settings.analysis.analyser == "local":
        return _local(settings)
    from connectors.rekognition import Patience, RekognitionAnalyser, make_client

    table, analysis = settings.rekognition, settings.analysis
    time_limit_ms = max(1, int(analysis.time_limit_ms * _OF_THE_ENGINES_LIMIT))
    patience = Patience(
        time_limit_ms,
        analysis.tries,
        labels=any(wants_labels(loop) for loop in settings.loops),
        max_labels=table.max_labels,
        min_label_confidence=table.min_label_confidence,
    )
    path = folder / SPENT if folder is not None else None
    return RekognitionAnalyser(
        make_client(aws_clients(settings), time_limit_ms, analysis.concurrency),
        # A fifth of a second's calls at once: enough for a group at the door, and no more.
        TokenBucket(table.calls_per_second, max(1.0, table.calls_per_second / 5.0)),
        CircuitBreaker(table.failures, table.pause_s),
        Spending(table.price_per_call, table.daily_budget, clock, path),
        _local(settings) if table.fallback == "local" else None,
        patience,
    )


def make_answerer(settings: Settings, pictures: PictureStore, clock: Clock) -> FrameAnswerer:
    """Make what answers frames: the analyser, and the endpoint where a policy wants one.

    Raises
    ------
    ResourceError
        As `make_analyser`.
    """
    analyser = make_analyser(settings, clock, settings.data)
    return FrameAnswerer(analyser, pictures, clock, scorer=make_scorer(settings))


def make_flow(settings: Settings) -> Dataflow:
    """Return the greeting loop with the limits of these settings."""
    analysis = settings.analysis
    # Rekognition's analyser asks again by itself, within the one limit of a picture.
    tries = analysis.tries if analysis.analyser == "local" else 1
    return greeting_loop(analysis.concurrency, analysis.time_limit_ms, tries)


def close_answerer(answerer: FrameAnswerer) -> None:
    """Write down what was spent, and wait until answered pictures are deleted."""
    spending = getattr(answerer.analyser, "spending", None)
    if spending is not None:
        spending.close()
    flush = getattr(answerer.pictures, "flush", None)
    if flush is not None:
        flush()


def make_scorer(settings: Settings) -> Scorer | None:
    """Make what asks the endpoint for scores; None: no loop has a policy that uses them."""
    from policies.endpoint import PREFIX

    asks = any(
        policy.algorithm.startswith(PREFIX) for loop in settings.loops for policy in loop.policies
    )
    if not asks or not settings.endpoint.name:
        return None
    from connectors.sagemaker_scores import EndpointScores, make_client

    table = settings.endpoint
    return EndpointScores(
        make_client(aws_clients(settings), table.time_limit_ms, settings.analysis.concurrency),
        table.name,
        TokenBucket(table.calls_per_second, max(1.0, table.calls_per_second / 5.0)),
        CircuitBreaker(table.failures, table.pause_s),
        table.time_limit_ms,
    )


def refuse_on_flink(settings: Settings) -> None:
    """Refuse to submit what the jobs on Flink would pass over in silence.

    Raises
    ------
    UsageError
        Names the setting.
    """
    told = {
        "analysis.analyser": (settings.analysis.analyser, "local"),
        "pictures.store": (settings.pictures.store, "folder"),
        "endpoint.name": (settings.endpoint.name, ""),
    }
    for name, (value, only) in told.items():
        if value != only:
            problem = f"{name} is {value!r}, which the jobs on Flink do not have yet"
            cure = f"Set it to {only!r}; or run the job with `pho run`, on a folder or on Kinesis"
            raise UsageError(problem, cure)


def wants_labels(loop: LoopConfigured) -> bool:
    """Whether a loop uses objects in the picture; scores of an endpoint are no objects."""
    from policies.endpoint import is_score

    names = {factor for name in loop.feature_names for factor in name.split(":")}
    used = {name for name in names if name.startswith("label.") and not is_score(name)}
    return bool(used or loop.labels)


def _local(settings: Settings) -> Analyser:
    require_vision()
    from connectors.local_analyser import LocalAnalyser

    return LocalAnalyser(settings.cache)
