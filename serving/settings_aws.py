"""The table [aws]: where AWS is and how patiently it is spoken to; no credentials stand here."""

from __future__ import annotations

import re

import msgspec

from connectors.aws_clients import AwsAccess, check_endpoint
from schemas.errors import SettingsError, UsageError

_is_topic = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[\w.-]+").fullmatch
_is_prefix = re.compile(r"[\w.-]{1,200}", re.ASCII).fullmatch


class AwsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [aws]."""

    region: str
    endpoint: str
    endpoints: dict[str, str]
    profile: str
    connect_timeout_ms: int
    read_timeout_ms: int
    tries: int
    max_connections: int
    topic: str
    tables: str
    keep_days: int


def aws_access(settings: AwsSettings) -> AwsAccess:
    """Return what the connectors take."""
    return AwsAccess(
        settings.region,
        settings.endpoint,
        settings.endpoints,
        settings.profile,
        settings.connect_timeout_ms,
        settings.read_timeout_ms,
        settings.tries,
        settings.max_connections,
    )


def check_aws(settings: AwsSettings) -> None:
    """Refuse what no service could be reached with.

    Raises
    ------
    SettingsError
        Names the setting.
    """
    limits = {
        "connect_timeout_ms": 60_000,
        "read_timeout_ms": 600_000,
        "tries": 20,
        "max_connections": 1_000,
    }
    for name, most in limits.items():
        value = getattr(settings, name)
        if not 0 < value <= most:
            problem = f"aws.{name} is {value!r}"
            raise SettingsError(problem, f"It must be above 0 and at most {most}")
    if settings.topic and not _is_topic(settings.topic):
        problem = f"aws.topic is {settings.topic!r}"
        raise SettingsError(problem, "Give the topic's ARN: arn:aws:sns:REGION:ACCOUNT:NAME")
    if settings.tables and not _is_prefix(settings.tables):
        problem = f"aws.tables is {settings.tables!r}"
        cure = "It stands before the tables' names: 1 to 200 letters, digits, '.', '_' and '-'"
        raise SettingsError(problem, cure)
    if not 0 <= settings.keep_days <= 36_500:
        problem = f"aws.keep_days is {settings.keep_days!r}"
        raise SettingsError(problem, "It must lie in 0 (for ever) to 36500")
    for place, address in {"endpoint": settings.endpoint, **settings.endpoints}.items():
        try:
            if address:
                check_endpoint(address)
        except UsageError as error:
            problem = f"aws.{place} cannot be used: {error.problem}"
            raise SettingsError(problem, error.cure) from error
