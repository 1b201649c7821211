"""The topics that jobs on Flink work on: all of them there, and their log time the broker's."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from connectors.kafka_address import KafkaAddress
from schemas.errors import ResourceError, UsageError
from serving.opening import kafka_address, security
from serving.settings import Settings
from serving.topic_commands import chosen

FILLED = ("frames", "impressions", "rewards", "visits")
"""What the jobs read and never write: a bridge may fill these in front of them."""


def filled_by_a_bridge(streams: str | None) -> tuple[str, ...]:
    """Return the streams that a flag says a bridge fills.

    Raises
    ------
    UsageError
        One is none, or the jobs write it themselves.
    """
    named = () if streams is None else chosen(streams, "--bridged")
    if own := [stream for stream in named if stream not in FILLED]:
        problem = f"--bridged names {', '.join(own)}: no bridge in front of the jobs fills that"
        raise UsageError(problem, f"It may name {', '.join(FILLED)}; the others are the jobs' own")
    return named


def partitions_of(settings: Settings, bridged: Collection[str] = ()) -> int:
    """Look at the topics, and return how many partitions the fewest of the event streams has.

    Parameters
    ----------
    settings : Settings
        Name the log.
    bridged : collection of str
        Streams that a running bridge fills, with the log times of its source.

    Raises
    ------
    ResourceError
        A topic is missing.
    UsageError
        The log time of an event stream is its writers'.
    LogUnavailable
        The cluster does not answer.
    """
    from connectors.kafka_log import TICKED_STREAMS, TOPIC_STREAMS
    from connectors.topic_settings import TIMESTAMP_TYPE, topic_settings

    address = kafka_address(settings)
    found = topic_settings(address, security(settings), map(address.topic, TOPIC_STREAMS))
    missing = [stream for stream in TOPIC_STREAMS if address.topic(stream) not in found]
    if missing:
        problem = f"{address} has no topic for {', '.join(missing)}"
        raise ResourceError(problem, f"Make them: pho topics create --log {address}")
    topics = {stream: found[address.topic(stream)] for stream in TICKED_STREAMS}
    foreign = [s for s, topic in topics.items() if topic[TIMESTAMP_TYPE] != "LogAppendTime"]
    if refused := [stream for stream in foreign if stream not in bridged]:
        # Log time closes windows: a kiosk whose clock is ahead would close everybody's.
        raise _foreign_time(address, refused)
    return min(int(topic["partitions"]) for topic in topics.values())


def _foreign_time(address: KafkaAddress, streams: Sequence[str]) -> UsageError:
    names = ",".join(streams)
    problem = f"{', '.join(streams)}: the log time is CreateTime, the writers', not LogAppendTime"
    cure = f"Where no bridge writes any more: pho topics create --mend --streams {names} "
    cure += f"--log {address}"
    if set(streams) <= set(FILLED):
        cure += f"; where `pho bridge --follow` does, on purpose: pho submit --bridged {names}"
    return UsageError(problem, cure)
