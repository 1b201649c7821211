"""What Flink runs: `python -m engines.flink.main loop --settings job.json`."""

from __future__ import annotations

import argparse
from pathlib import Path

from pyflink.common import Configuration
from pyflink.datastream import CheckpointingMode, StreamExecutionEnvironment

from engines.flink.graph import loop_job
from engines.flink.settings import JobSettings, read_settings

JOBS = {"loop": loop_job}


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
    # Buffers wait 10 ms at most: the default of 100 would stand in every greeting's latency.
    configuration.set_string("execution.buffer-timeout.interval", "10 ms")
    for name, value in (options or {}).items():
        configuration.set_string(name, value)
    env = StreamExecutionEnvironment.get_execution_environment(configuration)
    env.set_parallelism(settings.parallelism)
    # Keys fall into so many groups for ever: it bounds the parallelism a savepoint can go to.
    env.set_max_parallelism(128)
    # State and positions agree exactly; only what is written out may be written again.
    env.enable_checkpointing(settings.checkpoint_interval_ms, CheckpointingMode.EXACTLY_ONCE)
    return env


def main() -> None:
    """Build a job and hand it to the cluster that runs this."""
    parser = argparse.ArgumentParser(prog="python -m engines.flink.main", description=__doc__)
    parser.add_argument("job", choices=sorted(JOBS))
    parser.add_argument("--settings", type=Path, required=True)
    arguments = parser.parse_args()
    settings = read_settings(arguments.settings)
    env = environment(settings)
    JOBS[arguments.job](env, settings)
    env.execute_async(f"pho {arguments.job} {settings.prefix}".strip())


if __name__ == "__main__":
    main()
