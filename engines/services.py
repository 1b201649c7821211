"""Makes what answers frames, from plain values: the same on every engine, here or on a worker."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from connectors.aws_clients import AwsClients
from connectors.guarding import CircuitBreaker, Spending, TokenBucket
from connectors.logs import Clock
from connectors.pictures import FolderPictures, PictureStore
from engines.analysis import FrameAnswerer, Scorer
from engines.service_settings import Services
from pipelines.analyze import Analyser
from pipelines.operators import Dataflow
from pipelines.topology import greeting_loop
from schemas.errors import SettingsError

_LOCAL_ANALYSER = "connectors.local_analyser:LocalAnalyser"
_OF_THE_ENGINES_LIMIT = 0.8
"""Share of the engine's time limit that Rekognition may use up: the rest is for the fallback."""


def open_pictures(services: Services) -> PictureStore:
    """Open the picture store.

    Raises
    ------
    SettingsError
        There is none.
    ResourceError
        The folder cannot be used, or boto3 is not installed.
    """
    if not services.have_pictures:
        problem = "no place for pictures is named"
        raise SettingsError(problem, "Name a folder or a bucket")
    if not services.bucket:
        return FolderPictures(Path(services.pictures))
    from connectors.s3_pictures import S3Pictures

    client = AwsClients(services.aws).client("s3")
    return S3Pictures(client, services.bucket, services.bucket_prefix)


def make_analyser(services: Services, clock: Clock) -> Analyser:
    """Make the analyser.

    Parameters
    ----------
    services : Services
        Name it.
    clock : callable
        Returns ms since 1970 UTC: the day of the budget.

    Raises
    ------
    ImportError
        Of the local one: OpenCV is not installed.
    ResourceError
        boto3 is not installed, a model is missing, or the spending cannot be read.
    """
    table = services.rekognition
    if table is None:
        return _of_this_machine(services)
    from connectors.rekognition import Patience, RekognitionAnalyser, make_client

    time_limit_ms = max(1, int(services.time_limit_ms * _OF_THE_ENGINES_LIMIT))
    patience = Patience(
        time_limit_ms,
        services.tries,
        labels=services.labels,
        max_labels=table.max_labels,
        min_label_confidence=table.min_label_confidence,
    )
    path = Path(services.spent) if services.spent else None
    return RekognitionAnalyser(
        make_client(AwsClients(services.aws), time_limit_ms, services.concurrency),
        # A fifth of a second's calls at once: enough for a group at the door, and no more.
        TokenBucket(table.calls_per_second, max(1.0, table.calls_per_second / 5.0)),
        CircuitBreaker(table.failures, table.pause_s),
        Spending(table.price_per_call, table.daily_budget, clock, path),
        _of_this_machine(services) if table.fallback == "local" else None,
        patience,
    )


def make_scorer(services: Services) -> Scorer | None:
    """Make what asks the endpoint for scores; None: there is no endpoint.

    Raises
    ------
    ResourceError
        boto3 is not installed.
    """
    table = services.endpoint
    if table is None or not table.name:
        return None
    from connectors.sagemaker_scores import EndpointScores, make_client

    return EndpointScores(
        make_client(AwsClients(services.aws), table.time_limit_ms, services.concurrency),
        table.name,
        TokenBucket(table.calls_per_second, max(1.0, table.calls_per_second / 5.0)),
        CircuitBreaker(table.failures, table.pause_s),
        table.time_limit_ms,
    )


def make_answerer(services: Services, pictures: PictureStore, clock: Clock) -> FrameAnswerer:
    """Make what answers frames: the analyser, and the endpoint where there is one.

    Raises
    ------
    ImportError, ResourceError
        As `make_analyser`.
    """
    analyser = make_analyser(services, clock)
    return FrameAnswerer(
        analyser, pictures, clock, services.picture_ttl_ms, scorer=make_scorer(services)
    )


def make_flow(services: Services) -> Dataflow:
    """Return the greeting loop with the limits of these services."""
    # Rekognition's analyser asks again by itself, within the one limit of a picture.
    tries = services.tries if services.rekognition is None else 1
    return greeting_loop(services.concurrency, services.time_limit_ms, tries)


def close_answerer(answerer: FrameAnswerer) -> None:
    """Write down what was spent, and wait until answered pictures are deleted."""
    spending = getattr(answerer.analyser, "spending", None)
    if spending is not None:
        spending.close()
    flush = getattr(answerer.pictures, "flush", None)
    if flush is not None:
        flush()


def modules(services: Services) -> tuple[str, ...]:
    """Return the modules that are imported only where these services want them."""
    table = services.rekognition
    wanted = {
        "connectors.rekognition": table is not None,
        _local_analyser(services)[0]: table is None or table.fallback == "local",
        "connectors.s3_pictures": bool(services.bucket),
        "connectors.sagemaker_scores": services.endpoint is not None,
    }
    return tuple(module for module, is_wanted in wanted.items() if is_wanted)


def _local_analyser(services: Services) -> tuple[str, str]:
    told = services.analyser if ":" in services.analyser else _LOCAL_ANALYSER
    module, _, name = told.partition(":")
    return module, name


def _of_this_machine(services: Services) -> Analyser:
    module, name = _local_analyser(services)
    make = getattr(import_module(module), name)
    analyser: Analyser = make(Path(services.models)) if services.models else make()
    return analyser
