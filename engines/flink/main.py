"""What Flink runs: `python -m engines.flink.main loop --settings job.json`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec
from pyflink.common import Configuration
from pyflink.datastream import CheckpointingMode, StreamExecutionEnvironment

from connectors.logs import Row
from engines.flink.graph import analyze_job, loop_job
from engines.flink.kafka import open_log
from engines.flink.settings import JobSettings, checkpoint_folder, job_name, read_settings
from engines.flink.wire import registry_of, topics
from pipelines.topology import greeting_loop
from schemas.codec import current, decode, encode
from schemas.errors import PhoError
from schemas.operations import Tick
from schemas.streams import STREAMS

JOBS = {"analyze": analyze_job, "loop": loop_job}
"""The jobs: what is asked outside must not stop the loop when it does not answer."""


def environment(
    settings: JobSettings, options: dict[str, str] | None = None
) -> StreamExecutionEnvironment:
    """Return an environment with checkpoints and restarts as the settings say."""
    configuration = Configuration()
    if settings.restart_attempts == 0:
        configuration.set_string("restart-strategy.type", "none")
    else:
        configuration.set_string("restart-strategy.type", "exponential-delay")
        configuration.set_string("restart-strategy.exponential-delay.initial-backoff", "200 ms")
        configuration.set_string("restart-strategy.exponential-delay.max-backoff", "10 s")
    configuration.set_string(
        "execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION"
    )
    # Buffers wait 5 ms at most: the default of 100 would stand in every greeting's latency.
    configuration.set_string("execution.buffer-timeout.interval", "5 ms")
    # Python in the JVM's own process: the keyed operators are several times faster so.
    configuration.set_string("python.execution-mode", "thread")
    for name, value in (options or {}).items():
        configuration.set_string(name, value)
    env = StreamExecutionEnvironment.get_execution_environment(configuration)
    env.set_parallelism(settings.parallelism)
    # Keys fall into so many groups for ever: it bounds the parallelism a savepoint can go to.
    env.set_max_parallelism(128)
    # State and positions agree exactly; only what is written out may be written again.
    env.enable_checkpointing(settings.checkpoint_interval_ms, CheckpointingMode.EXACTLY_ONCE)
    # Without a pause the checkpoints that were missed while one was slow follow each other at once:
    # 45 in 6 s were seen, on a machine that was full already.
    pause_ms = settings.checkpoint_interval_ms // 2
    env.get_checkpoint_config().set_min_pause_between_checkpoints(pause_ms)
    return env


def with_initial(settings: JobSettings) -> JobSettings:
    """Return settings with the newest shared records, read to their present end."""
    if settings.initial:
        return settings
    log = open_log(settings)
    broadcasts = {broadcast.stream: broadcast for broadcast in greeting_loop().broadcasts}
    newest: dict[tuple[str, str], tuple[Any, Row]] = {}
    try:
        for row in log.scan(*broadcasts):
            try:
                value = decode(row.value)
            except PhoError:
                continue  # the job reads it too, and makes a dead letter of it
            broadcast = broadcasts[row.stream]
            if isinstance(value, STREAMS[row.stream].records):
                place = (row.stream, broadcast.key(value))
                if place not in newest or broadcast.newer(newest[place][0], value):
                    newest[place] = value, row
    finally:
        log.close()
    initial = tuple(
        (row.stream, row.key, row.partition, row.position, row.log_time_ms, row.value.hex())
        for _, row in newest.values()
    )
    return msgspec.structs.replace(settings, initial=initial, tick_headers=_tick_headers(settings))


def _tick_headers(settings: JobSettings) -> tuple[str, ...]:
    """Return how a Tick's bytes may begin: ours, and what a registry calls it in each topic."""
    headers = {current("Tick").header.hex()}
    registry = registry_of(settings)
    if registry is not None:
        tick = encode(Tick(0, "header"))
        size = len(tick) - len(current("Tick").header)
        headers |= {
            registry.to_wire(topic, tick)[:-size].hex() for topic in topics(settings.prefix)
        }
    return tuple(sorted(headers))


def main() -> None:
    """Build a job and hand it to the cluster that runs this."""
    parser = argparse.ArgumentParser(prog="python -m engines.flink.main", description=__doc__)
    parser.add_argument("job", choices=sorted(JOBS))
    parser.add_argument("--settings", type=Path, required=True)
    arguments = parser.parse_args()
    settings = with_initial(read_settings(arguments.settings))
    options = {}
    if settings.checkpoints:
        folder = checkpoint_folder(settings.checkpoints, arguments.job, settings.prefix)
        options["execution.checkpointing.dir"] = folder
    env = environment(settings, options)
    JOBS[arguments.job](env, settings)
    env.execute_async(job_name(arguments.job, settings.prefix))


if __name__ == "__main__":
    main()
