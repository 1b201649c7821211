"""Opens the log that the settings name: the file in the folder `data`, or topics on Kafka."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from connectors.clocks import WallClock
from connectors.embedded_log import FILE_NAME, EmbeddedLog
from connectors.kafka_address import KafkaAddress, KafkaSecurity
from connectors.kinesis_address import SCHEME as KINESIS
from connectors.logs import Log
from connectors.registry import RegistryFormat
from engines.job import StopFlag
from schemas.errors import LogUnavailable, ResourceError, UsageError
from serving.crashes import crash_steps
from serving.settings import Settings

if TYPE_CHECKING:
    from connectors.kafka_clients import ClientName, KafkaClient

KAFKA_CURE = "Install the extra: pip install 'pho[kafka]'"
_RETRY_S = 1.0
_HASTY_MS = 10_000
_ANSWER_MS = 3_000
_OTHER_TIME = {
    "LogAppendTime": "Topics that a bridge fills have the Ticks of their source, and no ticker",
    "CreateTime": "Bridge into topics of another prefix: pho topics create --bridged",
}
KAFKA_PACKAGES = {"kafka-python": "kafka", "confluent": "confluent_kafka"}
"""The module of each client."""


def open_log(settings: Settings, *, must_exist: bool = True) -> Log:
    """Open the log of these settings.

    Parameters
    ----------
    settings : Settings
        ``log.address`` names topics on Kafka, or streams on Kinesis; where it is empty, the folder
        `data` has the log.
    must_exist : bool
        True: looking must not make a folder's log, nor wait long for a broker that is away.
        Topics are never made here.

    Raises
    ------
    UsageError
        The folder holds no log, or the address is none.
    ResourceError
        The client for Kafka, or for Kinesis, is not installed.
    """
    if settings.log.address.startswith(KINESIS):
        from serving.kinesis_opening import open_kinesis_log

        return open_kinesis_log(settings, hasty=must_exist)
    if settings.log.address:
        from connectors.kafka_log import KafkaLog

        if must_exist:
            settings = hasty(settings)
        return KafkaLog(connect_kafka(settings), registry=registry_format(settings))
    if must_exist and not (settings.data / FILE_NAME).exists():
        problem = f"{settings.data} holds no log"
        cure = "Name its folder with --data, or its topics with --log; or make one: pho demo"
        raise UsageError(problem, cure)
    steps = crash_steps(settings.crash_at)
    return EmbeddedLog(settings.data, WallClock(), settings.log.synchronous, steps)


def connect_kafka(settings: Settings, client: ClientName | None = None) -> KafkaClient:
    """Return a client of the cluster that the settings name; it connects when first used.

    Parameters
    ----------
    settings : Settings
        The settings.
    client : str, optional
        Which one, instead of the one in [kafka].

    Raises
    ------
    UsageError
        The address is none, or no log on Kafka is named.
    ResourceError
        The client is not installed.
    """
    name = client or settings.kafka.client
    address = kafka_address(settings, name)
    from connectors.kafka_clients import connect

    return connect(address, security(settings), name, settings.kafka.delivery_timeout_ms)


def hasty(settings: Settings) -> Settings:
    """Return settings for whoever has nothing to lose by asking again: it waits 10 s at most."""
    timeout_ms = min(_HASTY_MS, settings.kafka.delivery_timeout_ms)
    kafka = msgspec.structs.replace(settings.kafka, delivery_timeout_ms=timeout_ms)
    return msgspec.structs.replace(settings, kafka=kafka)


def registry_format(settings: Settings) -> RegistryFormat | None:
    """Return the format of the schema registry; None: there is none.

    Raises
    ------
    UsageError
        Its address is none.
    """
    kafka = settings.kafka
    if not kafka.registry:
        return None
    ca_file = Path(kafka.ca_file) if kafka.ca_file else None
    user = (kafka.registry_username, kafka.registry_password)
    return RegistryFormat(kafka.registry, *user, ca_file)


def kafka_address(settings: Settings, client: ClientName = "kafka-python") -> KafkaAddress:
    """Return the cluster that the settings name, where its client is installed.

    Raises
    ------
    UsageError
        The address is none, or no log on Kafka is named.
    ResourceError
        The client is not installed.
    """
    if not settings.log.address:
        problem = "this command needs a log on Kafka"
        raise UsageError(problem, "Name it: --log kafka://HOST:9092/PREFIX")
    address = KafkaAddress.parse(settings.log.address)
    if find_spec(KAFKA_PACKAGES[client]) is None:
        problem = f"the Kafka client {client!r} is not installed"
        raise ResourceError(problem, KAFKA_CURE)
    return address


def security(settings: Settings) -> KafkaSecurity:
    """Return how a client proves who it is.

    Raises
    ------
    UsageError
        A file is not there, or parts do not belong together.
    """
    kafka = settings.kafka
    files = (kafka.ca_file, kafka.certificate_file, kafka.key_file)
    return KafkaSecurity(
        kafka.protocol,
        kafka.mechanism,
        kafka.username,
        kafka.password,
        *(Path(name) if name else None for name in files),
    )


def refuse_kafka(settings: Settings, command: str, cure: str) -> None:
    """Refuse a command that only works on a folder, where the log is elsewhere.

    Raises
    ------
    UsageError
        Says what to do instead.
    """
    if settings.log.address:
        problem = f"`pho {command}` works on a folder, and the log is {settings.log.address}"
        raise UsageError(problem, cure)


def wait_for_topics(
    settings: Settings,
    streams: Iterable[str],
    wanted: str,
    stop: StopFlag,
    say: Callable[[str], None],
) -> bool:
    """Wait until a broker answers, and see whose time its topics have.

    Parameters
    ----------
    settings : Settings
        Name the cluster.
    streams : iterable of str
        Whose topics are looked at.
    wanted : str
        ``LogAppendTime``: the broker's; ``CreateTime``: that of the one who writes (bridged).
    stop : StopFlag
        Ends the waiting.
    say : callable
        Told once that no broker answers.

    Returns
    -------
    bool
        False: it was stopped before a broker answered.

    Raises
    ------
    LogUnavailable
        A topic is missing.
    UsageError
        A topic has the other time.
    """
    from connectors.topic_settings import TIMESTAMP_TYPE, topic_settings

    address = kafka_address(settings)
    topics = [address.topic(stream) for stream in streams if stream != "ticks"]
    said = False
    while True:
        if stop.is_set():
            return False
        try:
            found = topic_settings(address, security(settings), topics, _ANSWER_MS)
            break
        except LogUnavailable as error:
            if not said:
                say(f"{error.problem}; waiting for it")
            said = True
            stop.wait(_RETRY_S)
    create = f"pho topics create {'--bridged ' * (wanted == 'CreateTime')}--log {address}"
    if missing := [topic for topic in topics if topic not in found]:
        problem = f"{address} has no topic {', '.join(missing)}"
        raise LogUnavailable(problem, f"Make them: {create}")
    if other := [topic for topic in topics if found[topic][TIMESTAMP_TYPE] != wanted]:
        has = found[other[0]][TIMESTAMP_TYPE]
        problem = f"{', '.join(other)}: the log time is {has}, not {wanted}"
        raise UsageError(problem, _OTHER_TIME[wanted])
    return True
