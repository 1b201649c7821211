"""The table [kinesis]: how streams are made there, and how fast they are read."""

from __future__ import annotations

import msgspec

from schemas.errors import SettingsError


class KinesisSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [kinesis]."""

    shards: int
    on_demand: bool
    reads_per_second: float
    delivery_timeout_ms: int


def check_kinesis(settings: KinesisSettings) -> None:
    """Refuse what Kinesis would refuse, or never answer.

    Raises
    ------
    SettingsError
        Names the setting.
    """
    limits = {"shards": 10_000, "reads_per_second": 1_000, "delivery_timeout_ms": 3_600_000}
    for name, most in limits.items():
        value = getattr(settings, name)
        if not 0 < value <= most:
            problem = f"kinesis.{name} is {value!r}"
            raise SettingsError(problem, f"It must be above 0 and at most {most}")
