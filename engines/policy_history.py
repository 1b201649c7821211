"""policy_history: what each policy learned on each day, by the very steps that `learn` takes.

Computed from `outcomes` alone: the stream `policies` is compacted, and holds the newest versions
only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from connectors.logs import Row
from connectors.tables_rows import day_of
from connectors.tables_schema import Row as TableRow
from engines.one_key import Memory, OneKey, RawRecord, part_named
from pipelines.learn import Learn
from pipelines.learners import Learner, Learning
from pipelines.operators import Shared
from policies.base import checksum_of
from schemas.checks import PPB
from schemas.outcomes import OutcomeClosed, PolicyDirected

_NOTHING: Shared = {}
_Key = tuple[str, str, int, str]
"""Loop, policy, epoch and day."""


@dataclass(slots=True)
class _Day:
    first_version: int
    learned: int = 0
    reward_sum: float = 0.0
    directives: int = 0
    last_directive: str | None = None


class PolicyHistory:
    """Steps `learn` over the learning logs of all loops, and counts what it does by day.

    Repeats of an outcome are the caller's to leave out.

    Parameters
    ----------
    packed : bytes, optional
        What an earlier one packed; by default nothing was read yet.
    """

    def __init__(self, packed: bytes | None = None) -> None:
        self._steps = OneKey(part_named("learn"), ("outcomes",))
        self._loops: dict[str, Memory] = {}
        self._days: dict[_Key, _Day] = {}
        self._touched: dict[_Key, Learner] = {}
        if packed is not None:
            self._unpack(packed)

    def take(self, row: Row, value: object) -> None:
        """Take the next row of `outcomes`, and what it holds; None: nobody can read it."""
        if value is None:
            return  # `learn` puts it aside
        memory = self._loops.setdefault(row.key, Memory())
        before = _learners(memory.state)
        # Read once by the caller: decoding an outcome takes four times as long as learning it.
        record = RawRecord(
            row.stream,
            row.key,
            row.log_time_ms,
            row.value,
            row.position,
            row.partition,
            lambda _data: value,
        )
        for _ in self._steps.take(memory, record, _NOTHING):
            pass  # what it gives out is the job's to write
        state = memory.state
        if state is None:
            return
        for learner in state.learners:
            was = before.get(learner.policy_id)
            if was is not learner:
                self._count(row, learner, was, value)

    def _count(self, row: Row, learner: Learner, was: Learner | None, value: object) -> None:
        key = (row.key, learner.policy_id, learner.epoch, day_of(row.log_time_ms))
        day = self._days.get(key)
        if day is None:
            same_epoch = was is not None and was.epoch == learner.epoch
            first_version = was.version if was is not None and same_epoch else 0
            day = self._days[key] = _Day(first_version)
        if isinstance(value, OutcomeClosed):
            day.learned += 1
            day.reward_sum += value.reward
        elif isinstance(value, PolicyDirected):
            day.directives += 1
            day.last_directive = value.kind
        # Its row is made when it is asked for: a checksum for each outcome would cost more than
        # learning it.
        self._touched[key] = learner

    def changed(self) -> list[TableRow]:
        """Return the rows that changed since this was asked last."""
        rows = [self._row(key, learner) for key, learner in self._touched.items()]
        self._touched.clear()
        self._let_go()
        return rows

    def _row(self, key: _Key, learner: Learner) -> TableRow:
        day = self._days[key]
        return (
            *key[:3],
            key[3],
            learner.policy.algorithm,
            learner.role,
            day.first_version,
            learner.version,
            day.learned,
            day.reward_sum,
            day.reward_sum / day.learned if day.learned else None,
            day.directives,
            day.last_directive,
            learner.floor_ppb / PPB,
            learner.base_epoch,
            learner.base_version,
            learner.config_hashes[-1],
            checksum_of(learner.policy),
        )

    def _let_go(self) -> None:
        """Forget days that are over: nothing can change their rows any more."""
        newest: dict[tuple[str, str], tuple[int, str]] = {}
        for loop_id, policy_id, epoch, day in self._days:
            place = (loop_id, policy_id)
            newest[place] = max(newest.get(place, (-1, "")), (epoch, day))
        for key in [key for key in self._days if newest[key[:2]] != key[2:]]:
            del self._days[key]

    def pack(self) -> bytes:
        """Return what is needed to go on from here."""
        learn = Learn()
        loops = {
            loop_id: learn.pack(_nameless(memory.state))[0]
            for loop_id, memory in self._loops.items()
            if memory.state is not None
        }
        days = [
            (key, (d.first_version, d.learned, d.reward_sum, d.directives, d.last_directive))
            for key, d in self._days.items()
        ]
        return msgspec.msgpack.encode((loops, days))

    def _unpack(self, packed: bytes) -> None:
        loops, days = msgspec.msgpack.decode(packed)
        learn = Learn()
        for loop_id, data in loops.items():
            self._loops[loop_id] = Memory(state=learn.unpack(data, ()))
        for key, told in days:
            self._days[(key[0], key[1], key[2], key[3])] = _Day(*told)


def _nameless(state: Learning) -> Learning:
    # Whom it learned from last is of no use here, and would outlive them in what is packed.
    learners = tuple(replace(each, learned_through_id=None) for each in state.learners)
    return replace(state, learners=learners)


def _learners(state: Learning | None) -> dict[str, Learner]:
    return {} if state is None else {each.policy_id: each for each in state.learners}
