"""The jobs the benchmark submits; Flink's client runs this file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pyflink.datastream import StreamExecutionEnvironment

import engines.flink.graph as graphs
from benchmarks.parts import flink_minimal, flink_profile
from engines.flink.functions import BYTES
from engines.flink.main import JOBS, environment, with_initial
from engines.flink.settings import JobSettings, checkpoint_folder, job_name, read_settings
from pipelines.topology import greeting_loop


class _But:
    """A package of the JVM as a graph sees it, but for one name."""

    def __init__(self, inner: Any, name: str, instead: Any) -> None:
        self._inner = inner
        setattr(self, name, instead)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class StampingGraph(graphs.Graph):
    """Builds a job whose outputs have the log time of what caused them."""

    def __init__(self, env: StreamExecutionEnvironment, settings: JobSettings) -> None:
        super().__init__(env, settings)
        jvm = self._jvm
        self._jvm = _But(jvm, "pho", _But(jvm.pho, "Emitted", jvm.bench.Stamped))


def minimal_job(env: StreamExecutionEnvironment, settings: JobSettings) -> None:
    """Count the records of each key, of what the join reads."""
    graph = StampingGraph(env, settings)
    streams = next(part for part in greeting_loop().keyed if part.name == "join").inputs
    rows = graph.keyed(graph.source("minimal", streams))
    counted = rows.process(flink_minimal.Count(), BYTES).name("minimal").uid("minimal")
    graph.sink("minimal", counted)


def main() -> None:
    """Build a job and hand it to the cluster."""
    parser = argparse.ArgumentParser()
    parser.add_argument("job", choices=("minimal", *JOBS))
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--profile", action="store_true")
    told = parser.parse_args()
    settings = with_initial(read_settings(told.settings))
    folder = checkpoint_folder(settings.checkpoints, told.job, settings.prefix)
    env = environment(settings, {"execution.checkpointing.dir": folder})
    graphs.Graph = StampingGraph  # type: ignore[misc]
    if told.profile:
        for name, kind in flink_profile.INSTEAD_OF.items():
            setattr(graphs, name, kind)
    {"minimal": minimal_job, **JOBS}[told.job](env, settings)
    env.execute_async(job_name(told.job, settings.prefix))


if __name__ == "__main__":
    main()
