"""Settings: pho.toml, then PHO_ variables, then flags; read once, frozen, checked together.

This is the only module that reads the environment.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import msgspec

from pipelines.topology import PICTURE_TTL_MS
from schemas.errors import PhoError, SettingsError
from schemas.loops import LoopConfigured
from serving.settings_aws import AwsSettings, check_aws
from serving.settings_gateway import GatewaySettings, check_gateway
from serving.settings_kafka import KafkaSettings, check_kafka
from serving.settings_kinesis import KinesisSettings, check_kinesis
from serving.settings_kiosk import CameraTable, KioskTable, TrackerTable, check_kiosk
from serving.settings_kiosk_page import KioskPageSettings, check_kiosk_page
from serving.settings_loops import LoopTable, configured
from serving.settings_services import ServiceTables, check_services, service_tables
from serving.settings_tables import TablesSettings, check_tables

FILE_NAME = "pho.toml"
PREFIX = "PHO_"
# Read by hand in `from_environment`, not settings of the file: where models are kept, and where a
# crash test ends the process.
OUTSIDE_THE_FILE = ("PHO_CACHE", "PHO_CRASH_AT")
# Taken from a variable as they stand: a password such as 12345 or "x" is no number and no string.
_TEXTS = (
    *(["kafka", each] for each in ("username", "password", "registry_username")),
    ["kafka", "registry_password"],
    ["tables", "postgres"],
)


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file: a key it does not know is an error, not a silence."""


class AnalysisSettings(_Strict, frozen=True):
    """The table [analysis]."""

    concurrency: int
    time_limit_ms: int
    tries: int
    analyser: Literal["local", "rekognition"]


class LogSettings(_Strict, frozen=True):
    """The table [log]."""

    address: str
    synchronous: Literal["FULL", "NORMAL"]
    erasure_key: str


class FlinkSettings(_Strict, frozen=True):
    """The table [flink]."""

    jobmanager: str
    parallelism: int
    python: str
    checkpoints: str
    checkpoint_interval_ms: int


class _File(ServiceTables, frozen=True, kw_only=True):
    data: str
    kiosk: KioskTable
    camera: CameraTable
    tracker: TrackerTable
    analysis: AnalysisSettings
    log: LogSettings
    kafka: KafkaSettings
    flink: FlinkSettings
    aws: AwsSettings
    kinesis: KinesisSettings
    gateway: GatewaySettings
    kiosk_page: KioskPageSettings
    tables: TablesSettings
    loops: dict[str, LoopTable]


class Settings(ServiceTables, frozen=True, kw_only=True):
    """Everything PHO was told, checked."""

    data: Path
    """Folder of the pictures in flight, and of the embedded log with what was learned."""
    kiosk: KioskTable
    """This kiosk."""
    camera: CameraTable
    """Its camera."""
    tracker: TrackerTable
    """When a visit starts and ends."""
    analysis: AnalysisSettings
    """How pictures are analysed."""
    log: LogSettings
    """Where the log is, and how durable."""
    kafka: KafkaSettings
    """How Kafka is spoken to, and how topics are made."""
    flink: FlinkSettings
    """Where the jobs run."""
    aws: AwsSettings
    """Where AWS is."""
    kinesis: KinesisSettings
    """How streams on Kinesis are made and read."""
    kiosk_page: KioskPageSettings
    """What the kiosk page does and says."""
    gateway: GatewaySettings
    """Where pages and kiosks are served."""
    tables: TablesSettings
    """Where the tables for analysts are kept."""
    loops: tuple[LoopConfigured, ...]
    """The loops."""
    cache: Path | None = None
    """Folder of models and recordings; None: the user's cache."""
    crash_at: str = ""
    """Crash tests end the process there; empty: nowhere."""

    def loop(self, loop_id: str) -> LoopConfigured:
        """Return the loop of that name.

        Raises
        ------
        SettingsError
            When there is none.
        """
        for loop in self.loops:
            if loop.loop_id == loop_id:
                return loop
        names = ", ".join(loop.loop_id for loop in self.loops)
        problem = f"no loop {loop_id!r} is configured"
        raise SettingsError(
            problem, f"There is {names}; name it in [kiosk] or add [loops.{loop_id}]"
        )


def load(
    config: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Read the settings once.

    Parameters
    ----------
    config : Path, optional
        The file; by default `pho.toml` in this folder, where there is one.
    flags : mapping, optional
        Values given on the command line, by dotted name (``kiosk.notice``); None: not given.
    environment : mapping, optional
        Stands for the process's environment.

    Raises
    ------
    SettingsError
        With the setting's place and what it must be.
    """
    environment = os.environ if environment is None else environment
    tree = tomllib.loads(defaults_text())
    shipped = tree["loops"]["greeting"]["policy"]
    algorithm, numbers = shipped["algorithm"], shipped["parameters"]
    shipped["parameters"] = {}
    path = config or Path(FILE_NAME)
    if config is not None or path.exists():
        _merge(tree, _read(path))
    for name, text in sorted(environment.items()):
        if name.startswith(PREFIX) and name not in OUTSIDE_THE_FILE:
            path_of_name = name.removeprefix(PREFIX).lower().split("__")
            value = text if path_of_name in _TEXTS else _parsed(text)
            _set(tree, path_of_name, value, name)
    for name, value in (flags or {}).items():
        if value is not None:
            _set(tree, name.split("."), value, name)
    if shipped["algorithm"] == algorithm and isinstance(shipped["parameters"], dict):
        # Another algorithm may not know the shipped one's numbers: it has its own defaults.
        shipped["parameters"] = numbers | shipped["parameters"]
    try:
        file = msgspec.convert(tree, _File, strict=True)
    except (msgspec.ValidationError, PhoError) as error:
        problem = f"the settings cannot be used: {error}"
        raise SettingsError(problem, "See docs/settings.md for every setting") from error
    cache = environment.get("PHO_CACHE")
    return _checked(file, Path(cache) if cache else None, environment.get("PHO_CRASH_AT", ""))


def defaults_text() -> str:
    """Return the packaged pho.toml: every setting with its default."""
    return resources.files("serving").joinpath(FILE_NAME).read_text(encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror}"
        raise SettingsError(problem, "Name another file with --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problem = f"{path} is not TOML: {error}"
        raise SettingsError(problem, "Mend that line") from error


def _merge(tree: dict[str, Any], more: dict[str, Any]) -> None:
    # A loop's list of actions replaces the shipped one whole: greetings are said or not said.
    for name, value in more.items():
        if isinstance(value, dict) and isinstance(tree.get(name), dict):
            _merge(tree[name], value)
        else:
            tree[name] = value


def _set(tree: dict[str, Any], path: list[str], value: Any, name: str) -> None:
    *tables, last = path
    for table in tables:
        if not isinstance(tree.get(table), dict):
            problem = f"{name} names no setting"
            raise SettingsError(
                problem, "See docs/settings.md; tables are parted by two underscores"
            )
        tree = tree[table]
    tree[last] = value


def _parsed(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _checked(file: _File, cache: Path | None, crash_at: str) -> Settings:
    _positive("camera.shots_per_second", file.camera.shots_per_second, 60.0)
    _positive("analysis.concurrency", file.analysis.concurrency, 1_000)
    _positive("analysis.time_limit_ms", file.analysis.time_limit_ms, PICTURE_TTL_MS)
    _positive("analysis.tries", file.analysis.tries, 10)
    check_kafka(file.kafka)
    check_gateway(file.gateway)
    check_tables(file.tables)
    check_kiosk_page(file.kiosk_page)
    check_aws(file.aws)
    check_kinesis(file.kinesis)
    check_services(file)
    _positive("flink.parallelism", file.flink.parallelism, 128)
    _positive("flink.checkpoint_interval_ms", file.flink.checkpoint_interval_ms, 3_600_000)
    loops = tuple(configured(name, loop) for name, loop in file.loops.items())
    check_kiosk(file.kiosk, file.tracker, [loop.loop_id for loop in loops])
    for loop in loops:
        window_ms = loop.rules.reward_window_ms
        latest_ms = max(file.tracker.post_delays_ms, default=0)
        if latest_ms > window_ms:
            problem = f"tracker.post_delays_ms asks for a picture after {latest_ms} ms"
            cure = f"The reward window of loop {loop.loop_id!r} ends after {window_ms} ms"
            raise SettingsError(problem, cure)
    return Settings(
        data=Path(file.data),
        kiosk=file.kiosk,
        camera=file.camera,
        tracker=file.tracker,
        analysis=file.analysis,
        log=file.log,
        kafka=file.kafka,
        flink=file.flink,
        aws=file.aws,
        kinesis=file.kinesis,
        **service_tables(file),
        gateway=file.gateway,
        kiosk_page=file.kiosk_page,
        tables=file.tables,
        loops=loops,
        cache=cache,
        crash_at=crash_at,
    )


def _positive(name: str, value: float, most: float) -> None:
    if not 0 < value <= most:
        problem = f"{name} is {value!r}"
        raise SettingsError(problem, f"It must be above 0 and at most {most!r}")
