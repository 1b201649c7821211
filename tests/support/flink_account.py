"""What must hold of a log however often anything was killed, and what the kills cost.

Everything is read back from the topics; what should stand there is worked out by the reference.
"""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from connectors.kafka_log import JOINED_STREAMS, KafkaLog
from connectors.logs import Row
from engines.memory import MemoryEngine
from engines.one_key import Memory, OneKey, RawRecord
from pipelines.topology import greeting_loop
from schemas.codec import decode, encode
from schemas.outcomes import OutcomeClosed, PolicySnapshot
from serving.ledger import Ledger, read_ledger

OUTPUTS = ("analyses", "decisions", "greetings", "outcomes", "policies")
"""What the jobs write, and may write twice."""
JOINED_AGAIN_MAX = 40_000
"""Decisions whose join is worked out again: their records are held in memory, 10 kB each."""
_SETTLED_S = 60.0


class Kill(NamedTuple):
    """One kill."""

    what: str
    """What was killed."""
    at_ms: int
    """When, ms."""
    back_ms: int
    """When its process, and what had to be started anew with it, was there again, ms."""


class Gap(NamedTuple):
    """The longest silence of a stream around a kill."""

    after_ms: int
    """From the kill to the first record behind the silence, ms."""
    silent_ms: int
    """From the last record before it to that one, ms."""


@dataclass
class Account:
    """All that a log says, as far as the checks need it."""

    frames: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Decision and phase of each frame that is durable."""
    statuses: dict[str, str] = field(default_factory=dict)
    """How the first answer to each frame reads."""
    decided: dict[str, bytes] = field(default_factory=dict)
    """The first decision of each id."""
    outcomes: dict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    """The different outcomes of each decision: there must be one."""
    first_outcomes: list[tuple[int, bytes]] = field(default_factory=list)
    """The learning log without repeats: log time and bytes."""
    greetings: dict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    """The different greetings of each decision: there must be one."""
    written: Counter[str] = field(default_factory=Counter)
    """Records of each stream."""
    repeats: Counter[str] = field(default_factory=Counter)
    """Records of each stream that say again what one before them said."""
    differing: Counter[str] = field(default_factory=Counter)
    """Repeats that say it in other bytes."""
    asides: Counter[str] = field(default_factory=Counter)
    """Records put aside, by stream and reason."""
    examples: dict[str, str] = field(default_factory=dict)
    """One error of each of them."""
    policy: PolicySnapshot | None = None
    """The newest."""
    times_ms: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Log times of the records of each output."""
    ledger: Ledger | None = None
    """The ledger."""
    complete_ms: int = 0
    """Log time through which everything has happened, ms."""

    def gap(self, stream: str, at_ms: int, end_ms: int | None = None) -> Gap:
        """Return how long a stream was silent after a kill; `end_ms`: when the next one came."""
        times = self.times_ms[stream]
        end_ms = end_ms or at_ms + int(_SETTLED_S * 1_000)
        pairs = [
            (before, after)
            for before, after in pairwise(times)
            if after > at_ms and before < end_ms
        ]
        before, after = max(pairs, key=lambda pair: pair[1] - pair[0], default=(at_ms, at_ms))
        return Gap(after - at_ms, after - before)


def read_account(log: KafkaLog) -> Account:
    """Read a log to its end."""
    found = Account(complete_ms=log.complete_through_ms())
    first: dict[str, dict[Any, bytes]] = {stream: {} for stream in OUTPUTS}
    for row in log.scan("frames"):
        frame = decode(row.value)
        found.frames[frame.frame_id] = (frame.decision_id, frame.phase)
    for stream in OUTPUTS:
        for row in log.scan(stream):
            value = decode(row.value)
            if stream == "outcomes" and not isinstance(value, OutcomeClosed):
                found.first_outcomes.append((row.log_time_ms, row.value))
                continue
            found.written[stream] += 1
            found.times_ms[stream].append(row.log_time_ms)
            _take(found, first[stream], row, value)
    for row in log.scan("late", "unmatched", "dead-letters"):
        aside = decode(row.value)
        reason = f"{row.stream} {aside.reason} {aside.stream}"
        found.asides[reason] += 1
        found.examples.setdefault(reason, f"{aside.key}: {aside.error}")
    found.ledger = read_ledger(log)
    return found


def _take(found: Account, first: dict[Any, bytes], row: Row, value: Any) -> None:
    stream, data = row.stream, row.value
    match stream:
        case "analyses":
            name: Any = value.frame_id
            found.statuses.setdefault(name, value.status)
        case "decisions":
            name = value.choice.decision_id
            found.decided.setdefault(name, data)
        case "greetings":
            name = value.decision_id
            found.greetings[name].add(data)
        case "outcomes":
            name = value.choice.decision_id
            if name not in found.outcomes:
                found.first_outcomes.append((row.log_time_ms, data))
            found.outcomes[name].add(data)
        case _:
            name = value.epoch, value.version
            if found.policy is None or name > (found.policy.epoch, found.policy.version):
                found.policy = value
    # Of a policy the bytes of what it knows: a snapshot also says when its role began.
    said = value.checksum.encode() if stream == "policies" else data
    if name in first:
        found.repeats[stream] += 1
        found.differing[stream] += first[name] != said
    else:
        first[name] = said


def check(found: Account, log: KafkaLog, journals: Iterable[Path]) -> list[str]:
    """Return what does not hold; nothing is wrong where the list is empty."""
    wrong: list[str] = []

    def claim(what: str, broken: Iterable[Any]) -> None:
        names = sorted(map(str, broken))
        if names:
            wrong.append(f"{what}: {len(names)}, such as {names[:3]}")

    noted = {line.split()[1] for line in lines_of(journals) if line.startswith("frame ")}
    claim("frames the broker confirmed are not in the log", noted - found.frames.keys())
    claim("frames without an answer", found.frames.keys() - found.statuses.keys())
    wanted = {
        decision_id
        for frame_id, (decision_id, phase) in found.frames.items()
        if phase == "pre" and found.statuses.get(frame_id) in ("ok", "no_face", "failed")
    }
    claim("answered visits without a decision", wanted - found.decided.keys())
    claim("decisions of nobody", found.decided.keys() - wanted)
    claim("decisions without a greeting", found.decided.keys() - found.greetings.keys())
    claim("different greetings", (k for k, v in found.greetings.items() if len(v) > 1))
    claim("decisions without an outcome", found.decided.keys() - found.outcomes.keys())
    claim("outcomes without a decision", found.outcomes.keys() - found.decided.keys())
    claim("different outcomes", (k for k, v in found.outcomes.items() if len(v) > 1))
    claim("outcomes that the reference does not give", _joined_wrongly(found, log))
    claim("dead letters", (text for text in found.asides if text.startswith("dead-letters")))
    claim("the policy", _learned_wrongly(found))
    assert found.ledger is not None
    claim("the ledger", found.ledger.problems)
    if found.ledger.open:
        wrong.append(f"{found.ledger.open} decisions are still open")
    return wrong


def _joined_wrongly(found: Account, log: KafkaLog) -> list[str]:
    """Return decisions whose outcome differs from what the reference makes of the same log."""
    part = next(part for part in greeting_loop().keyed if part.name == "join")
    share = -(-len(found.decided) // JOINED_AGAIN_MAX)
    memories: dict[str, Memory] = {}
    for row in log.scan(*JOINED_STREAMS):
        if zlib.crc32(row.key.encode()) % max(1, share) == 0:
            memory = memories.setdefault(row.key, Memory())
            record = RawRecord(
                row.stream, row.key, row.log_time_ms, row.value, row.position, row.partition
            )
            memory.waiting.append(record)
    one_key = OneKey(part, ())
    wrong = []
    for key, memory in memories.items():
        emits = one_key.advance(memory, found.complete_ms, {})
        told = {encode(emit.value) for emit in emits if emit.stream == "outcomes"}
        written = found.outcomes.get(key, set())
        if told != written:
            wrong.append(f"{key} ({_in_words(told)}, not {_in_words(written)})")
    return wrong


def _in_words(outcomes: Iterable[bytes]) -> str:
    told = (decode(data) for data in sorted(outcomes))
    texts = (f"{o.result} by {o.closed_by} at {o.closed_at_ms}" for o in told)
    return "; ".join(texts) or "none"


def _learned_wrongly(found: Account) -> list[str]:
    """Learn the outcomes again, each once in the order of the log, and compare the policies."""
    engine = MemoryEngine(greeting_loop().only("learn"))
    for log_time_ms, data in found.first_outcomes:
        engine.append("outcomes", decode(data), log_time_ms)
    engine.run()
    wanted = [record.value for record in engine.log if record.stream == "policies"]
    if not wanted or found.policy is None:
        return [] if not wanted and found.policy is None else ["learned nothing"]
    best, policy = wanted[-1], found.policy
    if (best.epoch, best.version, best.checksum) == (policy.epoch, policy.version, policy.checksum):
        return []
    return [f"version {policy.version} {policy.checksum}, not {best.version} {best.checksum}"]


def lines_of(journals: Iterable[Path]) -> list[str]:
    """Return the whole lines of some journals; the last of one may be torn."""
    return [
        line
        for journal in journals
        for line in journal.read_text(encoding="utf-8").split("\n")[:-1]
        if line
    ]


def waits_ms(journals: Iterable[Path]) -> list[int]:
    """Return ms from frame to greeting of all that were greeted."""
    return [int(ln.split()[3]) for ln in lines_of(journals) if ln.startswith("greeting ")]
