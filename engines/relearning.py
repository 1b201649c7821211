"""What a loop knows once somebody is forgotten: its learning log walked again without them.

The log without them must teach what a log teaches that never held them. So what stands in it as
arrays, and was learned from what goes now, is made anew on the way: an earlier `erase` brings what
the walk knows at its place, a `rollback` what the walk knew at its base.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from connectors.logs import Row
from engines.rebuilding import Learned, learned
from pipelines.learners import Learner, Learning, snapshot_of
from policies.base import checksum_of
from schemas.codec import decode, encode
from schemas.errors import PolicyError, RecordError
from schemas.outcomes import PolicyDirected, PolicySnapshot

Rows = Callable[[], Iterable[Row]]
"""Reads a loop's rows of `outcomes` once more, in their order."""
_Version = tuple[str, int, int]
"""A policy, its epoch and its version."""


@dataclass(slots=True)
class Relearned:
    """A loop before and after somebody is forgotten."""

    loop_id: str
    """The loop."""
    before: Learning | None = None
    """What it knows with them."""
    after: Learning | None = None
    """What it knows without them."""
    at_read: Learning | None = None
    """What it knew without them when the job was last here; None: nothing."""
    through_ms: int = 0
    """Log time of the newest row of the walk, ms."""
    replaced: dict[int, bytes] = field(default_factory=dict)
    """Directives whose arrays had learned from them, as they are to stand now, by position."""

    @property
    def changed(self) -> tuple[Learner, ...]:
        """The policies that had learned from them, as they are without."""
        if self.after is None:
            return ()
        return tuple(
            learner
            for learner in self.after.learners
            if _bytes_of(learner) != _bytes_of(_learner(self.before, learner.policy_id))
        )


def _learner(state: Learning | None, policy_id: str) -> Learner | None:
    return state.learner(policy_id) if state is not None else None


def _bytes_of(learner: Learner | None) -> tuple[int, int, str] | None:
    if learner is None:
        return None
    return learner.epoch, learner.version, checksum_of(learner.policy)


def relearned(
    loop_id: str, rows: Rows, gone: Callable[[Row], bool], read_through: int | None = None
) -> Relearned:
    """Walk a loop's learning log as it is, and again without some of its rows.

    Parameters
    ----------
    loop_id : str
        The loop.
    rows : callable
        Reads the loop's rows.
    gone : callable
        Whether a row is to go.
    read_through : int, optional
        Position through which the job has read; by default all of it.
    """
    walk = _Walk(Relearned(loop_id), gone, read_through)
    wanted = {(d.policy_id, d.base_epoch, d.base_version) for d in _rollbacks(rows())}
    for step in learned(rows()):
        walk.result.before = step.state
        if wanted:
            _note_bases(step, wanted, walk.bases)
    for step in learned(walk.without(rows())):
        walk.taken(step)
    walk.result.after = walk.state
    if read_through is None:
        walk.result.at_read = walk.state
    return walk.result


def go_on(found: Relearned, rows: Sequence[Row], gone: Callable[[Row], bool]) -> None:
    """Walk on over rows that came since.

    Parameters
    ----------
    found : Relearned
        As far as the walk has come; it is carried on.
    rows : sequence of Row
        What came.
    gone : callable
        Whether a row is to go.
    """
    for step in learned(rows, start=found.before):
        found.before = step.state
    walk = _Walk(found, gone, None)
    walk.state, walk.somebody_went = found.after, True
    for step in learned(walk.without(rows), start=found.after):
        walk.taken(step)
    found.after = found.at_read = walk.state


def _rollbacks(rows: Iterable[Row]) -> Iterator[PolicyDirected]:
    for row in rows:
        directive = _directive(row)
        if directive is not None and directive.kind == "rollback":
            yield directive


def _directive(row: Row) -> PolicyDirected | None:
    try:
        value = decode(row.value)
    except RecordError:
        return None
    return value if isinstance(value, PolicyDirected) else None


def _note_bases(
    step: Learned, wanted: set[tuple[str, int | None, int | None]], found: dict[_Version, int]
) -> None:
    for learner in step.state.learners if step.state else ():
        version = (learner.policy_id, learner.epoch, learner.version)
        if version in wanted:
            found.setdefault(version, step.record.offset)


class _Walk:
    """The walk without them, which knows where it is while it goes on."""

    def __init__(
        self, result: Relearned, gone: Callable[[Row], bool], read_through: int | None
    ) -> None:
        self.result = result
        self.state: Learning | None = None
        self.bases: dict[_Version, int] = {}
        """Positions after which the log, as it was, held a version that a rollback goes back to."""
        self._kept: dict[_Version, Learner] = {}
        self._gone = gone
        self._read_through = read_through
        self.somebody_went = False
        """Whether a row was left out: before that, everything stands as it must."""

    def taken(self, step: Learned) -> None:
        """Take note of what is known after a row."""
        self.state = step.state

    def without(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the rows that stay, directives as they are to stand."""
        places = {place: version for version, place in self.bases.items()}
        for row in rows:
            self.result.through_ms = max(self.result.through_ms, row.log_time_ms)
            if self._gone(row):
                self.somebody_went = True
            else:
                yield self._mended(row)
            # Here the step before has been taken: `learned` asked for the next row.
            if self._read_through is None or row.position <= self._read_through:
                self.result.at_read = self.state
            if row.position in places:
                self._keep(places[row.position])

    def _keep(self, version: _Version) -> None:
        learner = _learner(self.state, version[0])
        if learner is not None:
            self._kept[version] = learner

    def _mended(self, row: Row) -> Row:
        directive = _directive(row) if self.somebody_went else None
        if directive is None or directive.kind not in ("erase", "rollback"):
            return row
        learner = _learner(self.state, directive.policy_id)
        if learner is None:
            return row
        source = learner
        if directive.kind == "rollback":
            version = (directive.policy_id, directive.base_epoch or 0, directive.base_version or 0)
            # A base this log does not hold any more was ended by an earlier erasure: what is known
            # now holds nobody who was forgotten, which it might.
            source = self._kept.get(version, learner)
        assert self.state is not None  # noqa: S101 - it has this learner
        mended = encode(_bringing(directive, source, self.state))
        if mended == row.value:
            return row
        self.result.replaced[row.position] = mended
        return row._replace(value=mended)


def _bringing(directive: PolicyDirected, source: Learner, state: Learning) -> PolicyDirected:
    # A base may be older than some of the actions; what a directive brings is for those of now.
    policy = source.policy.with_actions(state.config.action_ids)
    return replace(
        directive,
        arrays=policy.snapshot_arrays(),
        snapshot_checksum=checksum_of(policy),
        base_epoch=source.epoch,
        base_version=source.version,
    )


def erase_directives(found: Relearned, name: str, by: str) -> list[PolicyDirected]:
    """Return what `learn` must obey to know only what is left: one directive a policy.

    Parameters
    ----------
    found : Relearned
        The loop.
    name : str
        Makes the ids of the directives, with the policy's.
    by : str
        Who says so.
    """
    return [
        _bringing(
            PolicyDirected(
                directive_id=f"{name}.{learner.policy_id}",
                loop_id=found.loop_id,
                policy_id=learner.policy_id,
                kind="erase",
                by=by,
                reason="somebody asked to be forgotten",
                new_epoch=learner.epoch + 1,
                learn_from_log_time_ms=found.through_ms,
            ),
            learner,
            found.after,
        )
        for learner in found.changed
        if found.after is not None
    ]


def obeyed(found: Relearned, directives: list[PolicyDirected]) -> list[PolicySnapshot]:
    """Return the snapshots that `learn` will give out for erasures.

    Raises
    ------
    PolicyError
        When it would refuse one: then nothing of all this may be written.
    """
    rows = [
        Row(place, "outcomes", found.loop_id, found.through_ms, encode(directive))
        for place, directive in enumerate(directives)
    ]
    state = found.after
    for step in learned(rows, start=state):
        if step.refused:
            problem = f"learn would refuse the new epoch of loop {found.loop_id!r}"
            raise PolicyError(problem, "Report this: nothing was erased")
        state = step.state
    wanted = {directive.policy_id for directive in directives}
    if state is None:
        return []
    return [
        snapshot_of(state.config, learner)
        for learner in state.learners
        if learner.policy_id in wanted
    ]
