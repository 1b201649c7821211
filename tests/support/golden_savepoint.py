"""Golden savepoints: the loop's job stopped in the middle of its work, kept for every release.

From the repository root, ``.venv-flink/bin/python tests/support/golden_savepoint.py v2`` lays down
the next one, to be done when a release changes what a job keeps. It never writes one again: what a
release left behind stays what every later release must go on from.

Each is a folder: ``savepoint`` as Flink wrote it, and ``logs.json`` with the records the job reads,
how many of them it had read, and what it had given out by then. The records are kept, not their
seed: another release of hypothesis would draw others, at which the savepoint's offsets point then.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from pyflink.java_gateway import get_gateway

from connectors.kafka_clients import Outgoing
from connectors.logs import Row
from corpora import Log, Said, corpus, rows_of
from flink_runs import Topics, running
from join_scripts import Entry
from operator_logs import LOGS, ended_by_ticks
from schemas.codec import decode, encode
from schemas.operations import Tick
from schemas.streams import key_of
from worlds import START_MS, decided, loop, outcome

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "flink_savepoint"
COUNT = 6
"""Logs for each operator, of up to four visits each."""
LONG, LONG_LEAD_MS = 120, 66
"""Outcomes in one more log for learn: more than its tail of 64 are read when it is stopped."""
TICK_AT, STOP_AT = 0.4, 0.5
"""Shares of the records: up to the Tick time is complete, and what follows it waits."""
_REPEAT_FROM = 9_000
"""Places in a log that stand for repeats, which the reference does not see."""


class Part(msgspec.Struct, frozen=True):
    """What one operator reads and has given out."""

    rows: list[Row]
    """All it reads, in the order of log time; a position is 10,000 times its log and its place."""
    read: int
    """So many of them were read when the job was stopped."""
    given_out: list[tuple[str, str, bytes]]
    """What it had given out by then: stream, key, bytes."""

    @property
    def logs(self) -> list[Log]:
        """The logs, as the reference takes them."""
        entries: dict[int, list[tuple[int, Entry]]] = {}
        for row in self.rows:
            number, place = divmod(row.position, 10_000)
            if place < _REPEAT_FROM:
                entry = Entry(row.log_time_ms, row.stream, decode(row.value))
                entries.setdefault(number, []).append((place, entry))
        return [
            Log(number, [entry for _, entry in sorted(found, key=lambda pair: pair[0])])
            for number, found in sorted(entries.items())
        ]


class Golden(msgspec.Struct, frozen=True):
    """A savepoint's records."""

    config: bytes
    """The loop that decide knows: the only record of its shared streams, read before all others."""
    parts: dict[str, Part]
    """By operator."""

    def logs(self, name: str) -> list[Log]:
        """Return the logs of an operator, with the shared record where it reads one."""
        logs = self.parts[name].logs
        if name == "decide":
            first = Entry(START_MS, "loops", decode(self.config))
            return [Log(log.number, [first, *log.entries]) for log in logs]
        return logs


def read_golden(folder: Path) -> Golden:
    """Return the records of a golden savepoint."""
    return msgspec.json.decode((folder / "logs.json").read_bytes(), type=Golden)


def golden_topics() -> dict[str, Topics]:
    """Return empty topics of the names that golden savepoints hold, one set for each operator."""
    return {name: Topics(f"golden-{name}") for name in LOGS}


def share_config(topics: dict[str, Topics], config: bytes) -> None:
    """Write the loop that decide looks at, at the offset where the job found it."""
    topic = topics["decide"].address.topic("loops")
    key = key_of(decode(config), "loops").encode()
    topics["decide"].client.produce([Outgoing(topic, key, config, START_MS)])


def together(before: Iterable[Said], after: Counter[Said]) -> Counter[Said]:
    """Return what two runs gave out, of policies the last; in the bytes of the present release."""
    newest: dict[str, Said] = {}
    told: Counter[Said] = Counter()
    for stream, key, data in (*before, *after.elements()):
        each = stream, key, encode(decode(data))
        if stream == "policies":
            newest[key] = each
        else:
            told[each] += 1
    return told + Counter(newest.values())


def states_of(savepoint: Path) -> dict[str, set[str]]:
    """Return the names of the keyed states of each operator, by the hash of its uid."""
    jvm: Any = get_gateway().jvm
    loader = jvm.Thread.currentThread().getContextClassLoader()
    file = jvm.java.io.FileInputStream(str(savepoint / "_metadata"))
    listed = jvm.java.util.ArrayList
    metadata = jvm.org.apache.flink.runtime.checkpoint.Checkpoints.loadCheckpointMetadata(
        jvm.java.io.DataInputStream(file), loader, savepoint.as_uri()
    )
    file.close()
    found: dict[str, set[str]] = {}
    for operator in listed(metadata.getOperatorStates()):
        for task in listed(operator.getStates()):
            for handle in listed(task.getManagedKeyedState()):
                names = found.setdefault(operator.getOperatorID().toString(), set())
                names.update(_keyed_states(jvm, loader, handle))
    return found


def _keyed_states(jvm: Any, loader: Any, handle: Any) -> set[str]:
    """Return the names at the head of a keyed state."""
    runtime = jvm.org.apache.flink.runtime.state
    head = runtime.KeyedBackendSerializationProxy(loader)
    stream = handle.openInputStream()
    head.read(jvm.org.apache.flink.core.memory.DataInputViewStreamWrapper(stream))
    stream.close()
    return {str(state.getName()) for state in head.getStateMetaInfoSnapshots()}


def _rows(name: str) -> tuple[list[Row], int]:
    """Return what an operator reads, and how many of them before it is stopped."""
    logs = corpus(name, COUNT, stretch_ms=0)
    if name == "learn":
        logs.append(_long_log(len(logs)))
    rows = rows_of(name, logs)
    # Else time is complete only through the slowest partition, and no window would be open.
    place = int(TICK_AT * len(rows))
    tick_ms = rows[place].log_time_ms
    tick = encode(Tick(tick_ms, "test"))
    rows.insert(place, Row(_REPEAT_FROM, "ticks", "test", tick_ms, tick))
    read = int(STOP_AT * len(rows))
    if name == "learn":
        repeats = [row for row in rows[:read] if row.stream == "outcomes"][:: LONG // 8]
        at_ms = rows[read - 1].log_time_ms
        rows[read:read] = [
            row._replace(position=row.position + _REPEAT_FROM, log_time_ms=at_ms)
            for row in repeats
            if type(decode(row.value)).__name__ == "OutcomeClosed"
        ]
    return rows, read


def _long_log(number: int) -> Log:
    config = loop(loop_id=f"log{number}")
    values: list[Any] = [config]
    for visit in range(LONG):
        made = decided(f"log{number}.v{visit}", START_MS, config, happy=visit % 10 / 10)
        values.append(outcome(made, (-1.0, 0.25, 1.0)[visit % 3]))
    first_ms = START_MS - LONG_LEAD_MS
    entries = [Entry(first_ms + place, "outcomes", value) for place, value in enumerate(values)]
    return Log(number, ended_by_ticks(entries))


def _make(folder: Path) -> None:
    """Run the job through the first half, and keep what it leaves behind."""
    planned = {name: _rows(name) for name in LOGS}
    topics = golden_topics()
    config = encode(loop())
    share_config(topics, config)
    parts = {}
    with (
        tempfile.TemporaryDirectory() as made,
        running(
            *(topics[name].settings(name) for name in LOGS),
            # Everything in one file: as it is, Flink moves only what is above 20 kB into others.
            options={"execution.checkpointing.data-inline-threshold": "1 mb"},
        ) as job,
    ):
        job.wait_until(lambda: _knows_loop(topics["decide"]), "decide knows its loop")
        for name, (rows, read) in planned.items():
            topics[name].bridge(name, rows[:read])
        for name in LOGS:
            job.wait_for(name, topics[name])
        savepoint = Path(job.stop_with_savepoint(Path(made)).removeprefix("file:"))
        shutil.copytree(savepoint, folder / "savepoint")
    for name, (rows, read) in planned.items():
        given_out = sorted(topics[name].given_out(name).elements())
        parts[name] = Part(rows, read, given_out)
        topics[name].close()
    text = msgspec.json.format(msgspec.json.encode(Golden(config, parts)), indent=1)
    (folder / "logs.json").write_bytes(text + b"\n")


def _knows_loop(topics: Topics) -> bool:
    done = topics.groups.committed(f"pho.{topics.prefix}.decide.shared")
    return done.get((topics.address.topic("loops"), 0), 0) >= 1


def main() -> None:
    """Lay down one that is not there yet."""
    folder = GOLDEN / sys.argv[1]
    if folder.exists():
        sys.exit(f"{folder.relative_to(GOLDEN)} is there already, and stays: name the next one")
    with tempfile.TemporaryDirectory() as made:
        _make(Path(made))
        shutil.copytree(made, folder)
        folder.chmod(0o755)
    for path in sorted(folder.rglob("*")):
        sys.stdout.write(f"{path.relative_to(GOLDEN)} {path.stat().st_size}\n")


if __name__ == "__main__":
    main()
