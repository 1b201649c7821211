"""Makes what the settings name: the picture store, the analyser, the clients of AWS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from connectors.logs import Clock
from connectors.pictures import PICTURES, PictureStore
from engines import services
from engines.analysis import FrameAnswerer
from engines.service_settings import Services
from pipelines.analyze import Analyser
from pipelines.operators import Dataflow
from schemas.loops import LoopConfigured
from serving.console import require_vision
from serving.settings import Settings
from serving.settings_aws import aws_access

if TYPE_CHECKING:
    from connectors.aws_clients import AwsClients

SPENT = "rekognition-spent.json"
"""File of what Rekognition was asked, inside a data folder."""


def aws_clients(settings: Settings) -> AwsClients:
    """Return what makes clients of AWS.

    Raises
    ------
    ResourceError
        boto3 is not installed.
    """
    from connectors.aws_clients import AwsClients

    return AwsClients(aws_access(settings.aws))


def services_of(settings: Settings) -> Services:
    """Return who answers frames, in the words every engine knows."""
    table, analysis, endpoint = settings.pictures, settings.analysis, settings.endpoint
    on_s3, asked = table.store == "s3", analysis.analyser == "rekognition"
    return Services(
        concurrency=analysis.concurrency,
        time_limit_ms=analysis.time_limit_ms,
        tries=analysis.tries,
        models=str(settings.cache or ""),
        pictures="" if on_s3 else str((settings.data / PICTURES).resolve()),
        bucket=table.bucket if on_s3 else "",
        bucket_prefix=table.prefix,
        rekognition=settings.rekognition if asked else None,
        labels=any(wants_labels(loop) for loop in settings.loops),
        spent=str((settings.data / SPENT).resolve()) if asked else "",
        endpoint=endpoint if endpoint.name and _asks_an_endpoint(settings) else None,
        aws=aws_access(settings.aws),
    )


def open_pictures(settings: Settings) -> PictureStore:
    """Open the picture store of these settings.

    Raises
    ------
    ResourceError
        The folder cannot be used, or boto3 is not installed.
    """
    return services.open_pictures(services_of(settings))


def make_analyser(settings: Settings, clock: Clock) -> Analyser:
    """Make the analyser of these settings, which forgets what it has spent when it ends.

    Parameters
    ----------
    settings : Settings
        ``analysis.analyser`` names it.
    clock : callable
        Returns ms since 1970 UTC: the day of the budget.

    Raises
    ------
    ResourceError
        An extra is not installed, or a model is missing.
    """
    _require_models(settings)
    return services.make_analyser(replace(services_of(settings), spent=""), clock)


def make_answerer(settings: Settings, pictures: PictureStore, clock: Clock) -> FrameAnswerer:
    """Make what answers frames: the analyser, and the endpoint where a policy wants one.

    Raises
    ------
    ResourceError
        As `make_analyser`; or the spending cannot be read.
    """
    _require_models(settings)
    return services.make_answerer(services_of(settings), pictures, clock)


def make_flow(settings: Settings) -> Dataflow:
    """Return the greeting loop with the limits of these settings."""
    return services.make_flow(services_of(settings))


def wants_labels(loop: LoopConfigured) -> bool:
    """Whether a loop uses objects in the picture; scores of an endpoint are no objects."""
    from policies.endpoint import is_score

    names = {factor for name in loop.feature_names for factor in name.split(":")}
    used = {name for name in names if name.startswith("label.") and not is_score(name)}
    return bool(used or loop.labels)


def _asks_an_endpoint(settings: Settings) -> bool:
    from policies.endpoint import PREFIX

    policies = (policy for loop in settings.loops for policy in loop.policies)
    return any(policy.algorithm.startswith(PREFIX) for policy in policies)


def _require_models(settings: Settings) -> None:
    asked, fallback = settings.analysis.analyser == "rekognition", settings.rekognition.fallback
    if not asked or fallback == "local":
        require_vision()
