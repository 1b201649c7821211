"""`pho submit`: the streaming jobs to a Flink cluster, and off it again."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec.structs import replace
from rich.markup import escape
from rich.table import Table

from connectors.java import java_command
from engines.job import configure
from schemas.errors import ResourceError, UsageError
from serving.console import AsJson, Config, Data, LogAddress, as_flag, err, out, print_json
from serving.job_topics import filled_by_a_bridge, partitions_of
from serving.opening import kafka_address, open_log, security
from serving.services import services_of
from serving.settings import Settings, load

if TYPE_CHECKING:
    from engines.flink.rest import FlinkRest
    from engines.flink.settings import JobSettings

JOBS = ("loop", "analyze")
"""The loop first: it is there when the first answer comes."""

Bridged = Annotated[
    str | None,
    typer.Option(help="Streams that a running `pho bridge --follow` fills, with commas."),
]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(submit)


def submit(
    job: Annotated[
        str | None, typer.Argument(help="analyze or loop; both where none is named.")
    ] = None,
    log: LogAddress = None,
    jobmanager: Annotated[
        str | None, typer.Option(help="REST address of the cluster, HOST:PORT.")
    ] = None,
    parallelism: Annotated[
        int | None, typer.Option(min=1, help="Instances of each operator.")
    ] = None,
    from_savepoint: Annotated[
        str | None, typer.Option(help="Go on from this savepoint or checkpoint; name the job.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint, where there is one.")
    ] = False,
    stop_with_savepoint: Annotated[
        bool, typer.Option("--stop-with-savepoint", help="Stop the jobs, and say where they stood.")
    ] = False,
    bridged: Bridged = None,
    write_settings: Annotated[
        Path | None,
        typer.Option(help="Only write what the job is told, for application mode; name the job."),
    ] = None,
    data: Data = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Submit the streaming jobs to a Flink cluster, or stop them.

    It ships PHO itself as a wheel and what it needs of Java, appends configurations that changed,
    and prints where the jobs can be seen. Topics that keep their writer's time (made with
    --bridged) are refused, unless --bridged names their streams.

    Example: pho submit --log kafka://localhost:9092/shop --jobmanager localhost:8081
    """
    flags = {
        "data": as_flag(data),
        "log.address": log,
        "flink.jobmanager": jobmanager,
        "flink.parallelism": parallelism,
    }
    settings = load(config, flags)
    jobs = _chosen(job, one=bool(from_savepoint or write_settings))
    if from_savepoint and resume:
        problem = "--resume looks for a checkpoint, --from-savepoint names one"
        raise UsageError(problem, "Give one of the two")
    filled = filled_by_a_bridge(bridged)
    address = kafka_address(settings)
    _require_flink()
    from engines.flink.rest import FlinkRest

    rest = FlinkRest(f"http://{settings.flink.jobmanager}")
    if stop_with_savepoint:
        told = [_stop(rest, name, address.prefix) for name in jobs]
    else:
        job_settings = prepared(settings, filled)
        if write_settings is not None:
            _write(job_settings, jobs[0], write_settings)
            return
        told = [
            _submit(settings, job_settings, rest, name, from_savepoint, resume=resume)
            for name in jobs
        ]
    if as_json:
        print_json(told)
    else:
        _show(told)


def _show(told: list[dict[str, Any]]) -> None:
    table = Table()
    for name in told[0]:
        table.add_column(name.replace("_", " "), overflow="fold")
    for each in told:
        table.add_row(*(escape(str(value or "")) for value in each.values()))
    out.print(table)


def _chosen(job: str | None, *, one: bool) -> tuple[str, ...]:
    if job is None and one:
        problem = "a savepoint, and a file of settings, belong to one job"
        raise UsageError(problem, "Name it: pho submit loop …")
    if job is None:
        return JOBS
    if job not in JOBS:
        problem = f"there is no job {job!r}"
        raise UsageError(problem, f"There are {' and '.join(JOBS)}")
    return (job,)


def _require_flink() -> None:
    from engines.flink.local_cluster import flink_home

    flink_home()  # says which extra is missing, and that it wants an environment of its own


def prepared(settings: Settings, bridged: Collection[str] = ()) -> JobSettings:
    """Look at the log, append what changed, and return what the jobs are told.

    Parameters
    ----------
    settings : Settings
        Name the log and the cluster.
    bridged : collection of str
        Streams that a running bridge fills, with the log times of its source.

    Raises
    ------
    ResourceError
        A topic is missing.
    UsageError
        A topic has its writers' time, or there are more instances than partitions.
    """
    from engines.flink.main import with_initial
    from engines.flink.settings import JobSettings

    address = kafka_address(settings)
    fewest = partitions_of(settings, bridged)
    parallelism = settings.flink.parallelism
    if parallelism > fewest:
        # An instance without a partition has no watermark, and holds every timer back.
        problem = f"{parallelism} instances would share {fewest} partitions"
        raise UsageError(problem, f"Use --parallelism {fewest}, or topics with more partitions")
    with closing(open_log(settings)) as opened:
        for loop_id in configure(opened, settings.loops):
            err.print(f"loop {loop_id}: configured", highlight=False)
    flink = settings.flink
    return with_initial(
        JobSettings(
            servers=address.bootstrap,
            prefix=address.prefix,
            security=security(settings),
            registry=settings.kafka.registry,
            registry_username=settings.kafka.registry_username,
            registry_password=settings.kafka.registry_password,
            parallelism=parallelism,
            checkpoint_interval_ms=flink.checkpoint_interval_ms,
            checkpoints=flink.checkpoints,
            # A worker may have no such folder, and several instances no file in common.
            services=replace(services_of(settings), spent=""),
        )
    )


def _write(prepared: JobSettings, job: str, path: Path) -> None:
    from engines.flink.settings import write_settings

    write_settings(prepared, path)
    err.print(f"{path}: what the job {job} is told; readable by you alone", highlight=False)


def _submit(
    settings: Settings,
    told: JobSettings,
    rest: FlinkRest,
    job: str,
    savepoint: str | None,
    *,
    resume: bool,
) -> dict[str, Any]:
    from engines.flink.jar import connector_jar, loop_jar
    from engines.flink.submitting import newest_checkpoint, running

    known = running(rest, job, told.prefix)
    if known is not None:
        problem = f"the job {job} runs already: {rest.address}/#/job/{known}/overview"
        raise UsageError(problem, "Stop it first: pho submit --stop-with-savepoint")
    if resume:
        savepoint = newest_checkpoint(_checkpoints(settings), job, told.prefix)
    java = java_command(None, settings.cache)
    if java is None:
        problem = "no Java 17 is on this machine"
        raise ResourceError(problem, "Debian: apt-get install openjdk-17-jre-headless")
    folder = settings.data / "flink"
    jars = (connector_jar(settings.cache), loop_jar(java, folder, settings.cache))
    variables = {"JAVA_HOME": str(Path(java).resolve().parent.parent)}
    job_id = submitted(settings, told, job, savepoint, jars, variables)
    return {
        "job": job,
        "id": job_id,
        "from": savepoint,
        "address": f"{rest.address}/#/job/{job_id}/overview",
    }


def submitted(
    settings: Settings,
    told: JobSettings,
    job: str,
    savepoint: str | None,
    jars: tuple[Path, ...],
    variables: Mapping[str, str],
) -> str:
    """Hand one job to the cluster of the settings; return its id once it runs."""
    from engines.flink.submitting import Submission, submit

    submission = Submission(
        job,
        told,
        settings.flink.jobmanager,
        tuple(jar.resolve() for jar in jars),
        settings.flink.python or sys.executable,
        savepoint,
        variables,
    )
    return submit(submission, settings.data / "flink")


def _checkpoints(settings: Settings) -> str:
    if not settings.flink.checkpoints:
        problem = "where checkpoints are kept is not known"
        raise UsageError(problem, "Set [flink] checkpoints, or name one: --from-savepoint")
    return settings.flink.checkpoints


def _stop(rest: FlinkRest, job: str, prefix: str) -> dict[str, Any]:
    from engines.flink.submitting import running

    job_id = running(rest, job, prefix)
    if job_id is None:
        return {"job": job, "id": None, "savepoint": "it does not run"}
    return {"job": job, "id": job_id, "savepoint": rest.stop_with_savepoint(job_id, None)}
