"""From an archive to its outcomes once more: what the join gave out live, made in parallel."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.portability.portable_runner import JobServiceHandle

from connectors import archive_tables
from connectors.archive import MANIFEST, ArchiveReader, Manifest
from connectors.archive_parts import FORMAT_VERSION, explained
from connectors.logs import Row
from engines.beam.shards import SHARD_ROWS, SHARDS, ReadPart, RunShard, Shard, read_shards
from pipelines.operators import Keyed
from pipelines.topology import greeting_loop
from schemas.codec import decode, released
from schemas.errors import LogUnavailable, UsageError

_OUTCOMES = tuple(head for head, entry in released().items() if entry.name == "OutcomeClosed")


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a backfill did."""

    rows: int
    """Records read, Ticks aside."""
    keys: int
    """Decision ids among them."""
    counts: dict[str, int]
    """Records written, by stream."""
    shards: int
    """Shards of keys."""
    seconds: float
    """How long it took."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Outcomes that were rebuilt, beside those the archive holds."""

    same: int
    """The very same bytes."""
    different: tuple[str, ...]
    """Decision ids whose outcomes differ."""
    missing: tuple[str, ...]
    """Decision ids with an archived outcome and no rebuilt one."""
    ahead: int
    """Rebuilt, not archived yet: at the end of a stretch the job was still at it."""

    @property
    def equal(self) -> bool:
        """Whether every archived outcome was rebuilt, byte by byte."""
        return not self.different and not self.missing


def backfill(
    archive: Path,
    out: Path,
    runner: str = "DirectRunner",
    workers: int = 1,
    *,
    tables: bool = True,
    options: Sequence[str] = (),
    part: Keyed | None = None,
) -> Rebuilt:
    """Rebuild the outcomes of an archive, with alarms and side outputs of the join.

    Parameters
    ----------
    archive : Path
        What `pho archive` wrote.
    out : Path
        Where to write; becomes an archive itself. All workers must reach both folders.
    runner : str
        A Beam runner; ``DirectRunner`` is this machine.
    workers : int
        Processes on this machine; other runners have options of their own.
    tables : bool
        False: no Parquet.
    options : sequence of str
        More options of Beam, such as ``--flink_master=host:8081``.
    part : Keyed, optional
        The operator; by default the greeting loop's join.

    Raises
    ------
    UsageError
        When `archive` holds none, or `out` holds something.
    LogUnavailable
        When the archive is not whole, or the runner failed.
    """
    began_s = time.monotonic()
    reader = ArchiveReader(archive)
    part = part or next(part for part in greeting_loop().keyed if part.name == "join")
    sources = [entry for entry in reader.manifest.parts if entry.stream in part.inputs]
    complete_ms = reader.complete_through_ms()
    shards = max(workers, 1 + sum(entry.rows for entry in sources) // SHARD_ROWS)
    with _prepared(out):
        with failures_explained(runner), pipeline_on(runner, workers, options) as pipeline:
            _ = (
                pipeline
                | "parts" >> beam.Create([entry.path for entry in sources])
                | "spread them" >> beam.Reshuffle()
                | "read" >> beam.ParDo(ReadPart(str(archive), part, shards))
                | "by shard" >> beam.GroupByKey()
                | "join"
                >> beam.ParDo(
                    RunShard(
                        str(out),
                        part,
                        complete_ms,
                        tables=tables and archive_tables.can_write(),
                    )
                )
            )
        done = publish(out, f"outcomes of {reader.name}", complete_ms)
    return _summary(done, shards, time.monotonic() - began_s)


def _summary(done: list[Shard], shards: int, seconds: float) -> Rebuilt:
    counts: dict[str, int] = {}
    for each in done:
        for part in each.parts:
            counts[part.stream] = counts.get(part.stream, 0) + part.rows
    rows, keys = sum(each.rows for each in done), sum(each.keys for each in done)
    return Rebuilt(rows, keys, counts, shards, seconds)


def pipeline_on(runner: str, workers: int = 1, options: Sequence[str] = ()) -> beam.Pipeline:
    """Return an empty pipeline: on this machine in this process, or in processes of its own.

    Parameters
    ----------
    runner : str
        A Beam runner.
    workers : int
        Processes, where the runner is ``DirectRunner``.
    options : sequence of str
        More options of Beam.
    """
    if runner != "DirectRunner":
        return beam.Pipeline(options=PipelineOptions([f"--runner={runner}", *options]))
    # In processes, never in threads, which share one interpreter lock and win nothing.
    mode = "in_memory" if workers == 1 else "multi_processing"
    told = PipelineOptions(
        [
            f"--direct_num_workers={workers}",
            f"--direct_running_mode={mode}",
            "--default_sdk_harness_log_level=ERROR",
            *options,
        ]
    )
    # Not by the name DirectRunner: in 2.77 that tries Prism first, a program which Beam fetches
    # from the network. This is what it falls back on, and it passes the options to its processes.
    encoded = JobServiceHandle.encode_pipeline_options(told.get_all_options())
    about = beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
    local = fn_runner.FnApiRunner(provision_info=fn_runner.ExtendedProvisionInfo(about))
    return beam.Pipeline(runner=local, options=told)


@contextmanager
def _prepared(out: Path) -> Iterator[None]:
    """Take an empty folder, or one where a backfill was interrupted."""
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
        held = {path.name for path in out.iterdir()}
        if MANIFEST in held or (held and SHARDS not in held):
            problem = f"{out} is not empty"
            raise UsageError(problem, "Name a new folder for what is rebuilt")
        for name in held:
            if name == SHARDS or name.startswith(("stream=", "record=")):
                shutil.rmtree(out / name)
        (out / SHARDS).mkdir()
    yield
    shutil.rmtree(out / SHARDS)


def publish(out: Path, source: str, complete_through_ms: int) -> list[Shard]:
    """Write the manifest over what the shards wrote; return what they say."""
    done = read_shards(out)
    parts = [part for each in done for part in each.parts]
    manifest = Manifest(FORMAT_VERSION, source, False, complete_through_ms, 0, ())
    manifest.after(parts).save(out)
    return done


@contextmanager
def failures_explained(runner: str) -> Iterator[None]:
    """Turn what a runner says of a failed worker into our error, which names the cause."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        problem = f"{runner} failed: {lines[-1] if lines else type(error).__name__}"
        cure = "Run it with --debug for all of it; start again, nothing half done was published"
        raise LogUnavailable(problem, cure) from error


def compare(archive: Path, out: Path) -> Compared:
    """Hold rebuilt outcomes against those in the archive, byte by byte."""
    live, rebuilt = ArchiveReader(archive), ArchiveReader(out)
    archived = {_digest(row) for row in _outcomes(live)}
    made = {_digest(row) for row in _outcomes(rebuilt)}
    missing = _ids(live, archived - made)
    more = _ids(rebuilt, made - archived)
    return Compared(
        same=len(made & archived),
        different=tuple(sorted(missing & more)),
        missing=tuple(sorted(missing - more)),
        ahead=len(more - missing),
    )


def _outcomes(reader: ArchiveReader) -> Iterator[Row]:
    return (row for row in reader.scan("outcomes") if row.value.startswith(_OUTCOMES))


def _digest(row: Row) -> bytes:
    # 16 bytes of each of a million outcomes fit where their own 600 do not.
    return blake2b(row.value, digest_size=16).digest()


def _ids(reader: ArchiveReader, wanted: set[bytes]) -> set[str]:
    if not wanted:
        return set()
    return {
        decode(row.value).choice.decision_id for row in _outcomes(reader) if _digest(row) in wanted
    }
