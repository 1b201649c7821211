"""How fast outcomes are rebuilt from an archive, beside the live join over the same visits.

Run ``.venv-beam/bin/python benchmarks/backfill.py`` from the repository; ``--visits 1000000`` takes
some minutes and 3 GB of disk. A few thousand visits are joined live by the embedded engine and
archived; the archive is then multiplied: the same records under other ids, at the same log times.
So the million has the sizes and the ways to end of the real ones, but their days are one, and its
records compress better than those of a million strangers.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a clone, not installed

from benchmarks.parts import join_alone, visits
from benchmarks.parts.stopwatch import Meter
from benchmarks.parts.whole_loop import FOLDER
from connectors.archive import ArchiveReader, Manifest
from connectors.archive_parts import FORMAT_VERSION, Part, PartWriter
from connectors.archive_sources import until_ms
from connectors.archive_writer import Archiver
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from connectors.logs import Row
from engines.embedded import EmbeddedEngine
from pipelines.topology import greeting_loop

SOURCE_VISITS = 4_000
Tell = Callable[[str], None]


def main() -> int:
    """Measure and print."""
    if find_spec("apache_beam") is None:
        print("not measured: Beam is not installed here; use .venv-beam/bin/python")
        return 0
    logging.getLogger().setLevel(logging.ERROR)
    options = _options()
    tell: Tell = (lambda _line: None) if options.json else print
    tell(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(dir=options.folder or FOLDER) as folder:
        found = _measure(Path(folder), options, tell)
    if options.json:
        print(json.dumps(found, indent=2))
    return 0 if found["equal"] else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--visits", type=int, default=40_000, help="visits in the archive")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="processes")
    parser.add_argument("--tables", action="store_true", help="write Parquet, too")
    parser.add_argument("--folder", type=Path, help="where there is room; default: memory")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


def _measure(folder: Path, options: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    from engines.beam.backfill import backfill, compare

    live = _live(folder / "log", folder / "source")
    rate_live = live["events"] / live["wall_s"]
    tell(f"live, embedded join, {SOURCE_VISITS:,} visits: {rate_live:,.0f} events/s")
    began_s = time.monotonic()
    archive = folder / "archive"
    copies = max(1, options.visits // SOURCE_VISITS)
    rows = _multiply(ArchiveReader(folder / "source"), archive, copies)
    size_mb = sum(path.stat().st_size for path in archive.rglob("*.avro")) / 1e6
    tell(
        f"archive: {copies * SOURCE_VISITS:,} visits, {rows:,} rows, {size_mb:,.0f} MB, "
        f"made in {time.monotonic() - began_s:.0f} s"
    )
    found: dict[str, Any] = {"live_events_per_second": rate_live, "visits": copies * SOURCE_VISITS}
    equal = True
    for workers in options.workers:
        out = folder / f"out-{workers}"
        done = backfill(archive, out, workers=workers, tables=options.tables)
        rate = done.rows / done.seconds
        memory = _memory_mb()
        found[f"workers_{workers}"] = {
            "seconds": done.seconds,
            "events_per_second": rate,
            "ratio_to_live": rate / rate_live,
            "shards": done.shards,
            "memory_mb": memory,
        }
        tell(
            f"backfill, {workers} process{'es' * (workers > 1)}: {done.seconds:.1f} s for "
            f"{done.rows:,} events, {rate:,.0f} events/s, {rate / rate_live:.2f} of live; peak "
            f"{memory['runner']:.0f} MB, largest worker {memory['worker']:.0f} MB"
        )
        check = compare(archive, out)
        equal = equal and check.equal and check.same == done.counts["outcomes"]
        tell(
            f"  {check.same:,} outcomes the same, {len(check.different)} other, "
            f"{len(check.missing)} missing, {check.ahead} more"
        )
    found["equal"] = equal
    found["microseconds_per_event"] = _where(folder / "source", folder / "where", tell)
    return found


def _live(log_folder: Path, archive: Path) -> dict[str, float]:
    """Join a few visits live, and archive them."""
    events, last_ms = join_alone.fill(log_folder, SOURCE_VISITS)
    log = EmbeddedLog(log_folder, SetClock(last_ms + 1))
    engine = EmbeddedEngine(log, greeting_loop().only("join"), None)
    meter = Meter()
    with meter:
        engine.run_to_rest()
    engine.close()
    Archiver(log, archive, tables=False).run(until_ms("now", log))
    log.close()
    return {"events": events, "wall_s": meter.spent.wall_s}


def _multiply(source: ArchiveReader, archive: Path, copies: int) -> int:
    """Write the same rows under other ids: ids are as long, so their bytes can be exchanged."""
    parts: list[Part] = []
    rows = 0
    for stream in ("decisions", "impressions", "analyses", "visits", "outcomes", "ticks"):
        writer: PartWriter | None = None
        for position, row in enumerate(_copied(source, stream, copies), 1):
            placed = row._replace(position=position)
            if writer is None or writer.is_full:
                parts += _closed(writer)
                writer = PartWriter(archive, placed)
            writer.write(placed)
            rows += 1
        parts += _closed(writer)
    complete_ms = source.complete_through_ms()
    Manifest(FORMAT_VERSION, "multiplied", False, complete_ms, 0, ()).after(parts).save(archive)
    return rows


def _copied(source: ArchiveReader, stream: str, copies: int) -> Iterator[Row]:
    for row in source.scan(stream):
        start = row.value.find(b"visit-")
        if start < 0:
            yield row
            continue
        mine = row.value[start : start + len(visits.name(0))]
        number = int(mine[6:])
        # Copy by copy of each row: log times must not go back in a partition.
        for copy in range(copies):
            name = visits.name(number + copy * SOURCE_VISITS)
            key = name if row.key.startswith("visit-") else row.key
            yield row._replace(key=key, value=row.value.replace(mine, name.encode()))


def _closed(writer: PartWriter | None) -> list[Part]:
    if writer is None:
        return []
    part = writer.close()
    writer.publish()
    return [part]


def _memory_mb() -> dict[str, float]:
    """Return the largest resident memory so far: of this process, and of any that ended."""
    own, children = (
        resource.getrusage(who).ru_maxrss / 1024
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return {"runner": own, "worker": children}


def _where(archive: Path, out: Path, tell: Tell) -> dict[str, float]:
    """Do what the workers do, without Beam, on what was joined live."""
    from engines.beam.per_key import run_keys
    from engines.beam.shards import spread, unpacked, write_given

    part = next(part for part in greeting_loop().keyed if part.name == "join")
    reader = ArchiveReader(archive)
    clocks = {name: Meter() for name in ("read", "pack", "unpack", "join", "write", "tables")}
    with clocks["read"]:
        read = list(reader.scan(*part.inputs))
    with clocks["pack"]:
        chunks = list(spread(part, read, 1))
    with clocks["unpack"]:
        rows = [row for _, chunk in chunks for row in unpacked(chunk)]
    with clocks["join"]:
        given = list(run_keys(part, rows, reader.complete_through_ms()))
    with clocks["write"]:
        list(write_given(out, 0, given, tables=False))
    with clocks["tables"]:
        list(write_given(out, 1, given, tables=True))
    clocks["tables"].wall_s -= clocks["write"].wall_s
    found = {name: 1e6 * meter.spent.wall_s / len(rows) for name, meter in clocks.items()}
    tell(f"\nWhere the time goes, without Beam: microseconds of an event ({len(rows):,} of them)")
    for name, microseconds in found.items():
        tell(f"  {name:8s} {microseconds:6.1f}")
    return found


if __name__ == "__main__":
    sys.exit(main())
