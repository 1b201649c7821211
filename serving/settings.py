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
from policies.registry import prior
from producers.tracker import TrackerSettings
from schemas.checks import PPB, check_id, check_range
from schemas.decisions import RewardRules
from schemas.errors import InvalidRecord, PhoError, SettingsError
from schemas.features import check_feature_names, features_hash
from schemas.loops import (
    ActionConfigured,
    LoopConfigured,
    Parameter,
    PolicyConfigured,
    Role,
    Wording,
    with_hash,
)
from serving.settings_aws import AwsSettings, check_aws
from serving.settings_gateway import GatewaySettings, check_gateway
from serving.settings_kafka import KafkaSettings, check_kafka
from serving.settings_kinesis import KinesisSettings, check_kinesis
from serving.settings_kiosk_page import KioskPageSettings, check_kiosk_page
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


class KioskSettings(_Strict, frozen=True):
    """The table [kiosk]."""

    id: str
    loop: str
    notice: Literal["page", "posted", "none"]
    language: str
    utc_offset_minutes: int


class CameraSettings(_Strict, frozen=True):
    """The table [camera]."""

    source: str
    shots_per_second: float


class TrackerTable(_Strict, frozen=True):
    """The table [tracker]."""

    min_face_height: float
    stand_still_ms: int
    bridge_ms: int
    post_delays_ms: tuple[int, ...]
    visit_max_ms: int


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


class _Policy(_Strict, frozen=True):
    id: str
    algorithm: str
    parameters: dict[str, float] = {}


class _Action(_Strict, frozen=True):
    id: str
    text: dict[str, str]
    mood: str = ""
    voice: str = ""
    enabled: bool = True


class _Loop(_Strict, frozen=True):
    baseline: str
    default_language: str
    seed: int
    control_share: float
    floor: float
    features: tuple[str, ...]
    policy: _Policy
    rules: RewardRules
    actions: tuple[_Action, ...]
    labels: tuple[str, ...] = ()
    shadows: tuple[_Policy, ...] = ()


class _File(ServiceTables, frozen=True, kw_only=True):
    data: str
    kiosk: KioskSettings
    camera: CameraSettings
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
    loops: dict[str, _Loop]


class Settings(ServiceTables, frozen=True, kw_only=True):
    """Everything PHO was told, checked."""

    data: Path
    """Folder of the pictures in flight, and of the embedded log with what was learned."""
    kiosk: KioskSettings
    """This kiosk."""
    camera: CameraSettings
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
    loops = tuple(_loop(name, loop) for name, loop in file.loops.items())
    _check_place(file, loops)
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


def _check_place(file: _File, loops: tuple[LoopConfigured, ...]) -> None:
    """Refuse a kiosk or a tracker that would fail later, at its first visitor."""
    table = file.tracker
    try:
        check_id("kiosk.id", file.kiosk.id)
        check_range("kiosk.utc_offset_minutes", file.kiosk.utc_offset_minutes, -1_080, 1_080)
        TrackerSettings(
            min_face_height=table.min_face_height,
            stand_still_ms=table.stand_still_ms,
            bridge_ms=table.bridge_ms,
            post_delays_ms=table.post_delays_ms,
            visit_max_ms=table.visit_max_ms,
        )
    except InvalidRecord as error:
        problem = f"[kiosk] or [tracker] cannot be used: {error.problem}"
        raise SettingsError(problem, error.cure) from error
    names = [loop.loop_id for loop in loops]
    if file.kiosk.loop not in names:
        problem = f"kiosk.loop is {file.kiosk.loop!r}, which is not configured"
        cure = f"There is {', '.join(names)}; or add [loops.{file.kiosk.loop}]"
        raise SettingsError(problem, cure)


def _positive(name: str, value: float, most: float) -> None:
    if not 0 < value <= most:
        problem = f"{name} is {value!r}"
        raise SettingsError(problem, f"It must be above 0 and at most {most!r}")


def _ppb(name: str, share: float) -> int:
    if not 0.0 <= share <= 1.0:
        problem = f"{name} is {share!r}"
        raise SettingsError(problem, "It is a share: 0 to 1")
    return round(share * PPB)


def _policy(policy: _Policy, role: Role) -> PolicyConfigured:
    parameters = tuple(Parameter(*pair) for pair in policy.parameters.items())
    return PolicyConfigured(policy.id, policy.algorithm, role, parameters)


def _check_policies(config: LoopConfigured) -> None:
    """Refuse policies that could not be made, or told apart."""
    ids = [policy.policy_id for policy in config.policies]
    if len(set(ids)) < len(ids):
        problem = f"loop {config.loop_id!r} has the policies {ids}"
        raise SettingsError(problem, "Give each an id of its own; shadows too")
    for policy in config.policies:
        check_id("policy id", policy.policy_id)
        prior(config, policy)
        if policy.algorithm.startswith("river:") and not config.floor_ppb:
            problem = f"loop {config.loop_id!r} hosts {policy.algorithm} with floor = 0"
            cure = "Give it a floor above 0: a guest always takes what it thinks best"
            raise SettingsError(problem, cure)


def _loop(name: str, loop: _Loop) -> LoopConfigured:
    check_feature_names(loop.features)
    try:
        config = LoopConfigured(
            loop_id=name,
            config_hash="",
            features_hash=features_hash(loop.features),
            feature_names=loop.features,
            actions=tuple(
                ActionConfigured(
                    action.id,
                    tuple(Wording(tag, text, action.voice) for tag, text in action.text.items()),
                    action.mood,
                    action.enabled,
                )
                for action in loop.actions
            ),
            baseline_id=loop.baseline,
            default_language=loop.default_language,
            seed=loop.seed,
            mode="online",
            control_share_ppb=_ppb(f"loops.{name}.control_share", loop.control_share),
            floor_ppb=_ppb(f"loops.{name}.floor", loop.floor),
            rules=loop.rules,
            policies=(
                _policy(loop.policy, "serving"),
                *(_policy(shadow, "shadow") for shadow in loop.shadows),
            ),
            labels=loop.labels,
        )
        _check_policies(config)
    except SettingsError:
        raise
    except PhoError as error:
        problem = f"loop {name!r} cannot be used: {error}"
        raise SettingsError(problem, "See docs/settings.md") from error
    return with_hash(config)
