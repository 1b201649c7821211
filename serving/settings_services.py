"""The tables of what may stand in the cloud: pictures, uploads, Rekognition, an endpoint, Polly."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from connectors.s3_pictures import check_prefix
from engines.service_settings import EndpointSettings, RekognitionSettings
from schemas.errors import SettingsError


class PicturesSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [pictures]."""

    store: Literal["folder", "s3"]
    bucket: str
    prefix: str


class UploadsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [uploads]."""

    queue: str
    bucket: str
    prefix: str
    visibility_s: int


class PollySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [polly]."""

    on: bool
    engine: Literal["standard", "neural", "long-form", "generative"]
    voices: dict[str, str]
    time_limit_ms: int
    cache_mb: float


class ServiceTables(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """These tables, as the file and the settings have them."""

    pictures: PicturesSettings
    """Where pictures in flight are kept."""
    uploads: UploadsSettings
    """Where cameras that only upload put theirs."""
    rekognition: RekognitionSettings
    """How Rekognition is asked."""
    endpoint: EndpointSettings
    """Who gives scores to a policy of the kind ``endpoint:``."""
    polly: PollySettings
    """Who speaks for the avatar."""


def service_tables(tables: ServiceTables) -> dict[str, Any]:
    """Return these tables by name."""
    return {name: getattr(tables, name) for name in ServiceTables.__struct_fields__}


def check_services(tables: ServiceTables) -> None:
    """Refuse what could not work.

    Raises
    ------
    SettingsError
        Names the setting, and what it must be.
    """
    pictures, uploads, rekognition = tables.pictures, tables.uploads, tables.rekognition
    endpoint, polly = tables.endpoint, tables.polly
    check_prefix("pictures.prefix", pictures.prefix)
    check_prefix("uploads.prefix", uploads.prefix)
    if pictures.store == "s3" and not pictures.bucket:
        problem = "pictures.store is 's3', and pictures.bucket is empty"
        raise SettingsError(problem, "Name the bucket that deploy/aws made")
    if uploads.queue and not uploads.bucket:
        problem = "uploads.queue is set, and uploads.bucket is empty"
        raise SettingsError(problem, "Name the one bucket whose uploads are taken")
    if uploads.queue and not uploads.queue.startswith(("http://", "https://")):
        problem = f"uploads.queue is {uploads.queue!r}"
        raise SettingsError(problem, "Give the queue's URL, not its name")
    one = uploads.bucket == pictures.bucket and pictures.store == "s3"
    shorter, longer = sorted((pictures.prefix, uploads.prefix), key=len)
    if one and uploads.bucket and longer.startswith(shorter):
        problem = f"uploads.prefix {uploads.prefix!r} and pictures.prefix {pictures.prefix!r}"
        raise SettingsError(problem, "In one bucket neither may stand under the other")
    _in_range("uploads.visibility_s", uploads.visibility_s, 5, 43_200)
    _in_range("rekognition.calls_per_second", rekognition.calls_per_second, 0.01, 10_000)
    _in_range("rekognition.price_per_call", rekognition.price_per_call, 0, 1_000)
    _in_range("rekognition.daily_budget", rekognition.daily_budget, 0, 1e9)
    _in_range("rekognition.failures", rekognition.failures, 1, 1_000)
    _in_range("rekognition.pause_s", rekognition.pause_s, 0.1, 3_600)
    _in_range("rekognition.max_labels", rekognition.max_labels, 1, 1_000)
    _in_range("rekognition.min_label_confidence", rekognition.min_label_confidence, 0, 1)
    if rekognition.daily_budget and not rekognition.price_per_call:
        problem = "rekognition.daily_budget is set, and rekognition.price_per_call is 0"
        raise SettingsError(problem, "Fill in the price of one call: without it nothing adds up")
    _in_range("endpoint.time_limit_ms", endpoint.time_limit_ms, 1, 60_000)
    _in_range("endpoint.calls_per_second", endpoint.calls_per_second, 0.01, 10_000)
    _in_range("endpoint.failures", endpoint.failures, 1, 1_000)
    _in_range("endpoint.pause_s", endpoint.pause_s, 0.1, 3_600)
    _in_range("polly.time_limit_ms", polly.time_limit_ms, 1, 60_000)
    _in_range("polly.cache_mb", polly.cache_mb, 1, 100_000)


def _in_range(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        problem = f"{name} is {value!r}"
        raise SettingsError(problem, f"It must lie in {least:g} to {most:g}")
