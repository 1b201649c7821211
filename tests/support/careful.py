"""An operator that is watched: each step is run twice, and states are taken apart and put back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pipelines.operators import Aside, Dataflow, Emit, Keyed, KeyedOperator, Record, Shared, Step


class Careful:
    """Runs an operator, and fails where it is not pure or a packed state is not the same.

    Parameters
    ----------
    operator : KeyedOperator
        The operator.
    comparable : bool
        False: its states cannot be compared (policies hold arrays), their packed form is.
    """

    def __init__(self, operator: KeyedOperator[Any], *, comparable: bool = True) -> None:
        self.operator = operator
        self.comparable = comparable

    def on_event(self, state: Any, record: Record, shared: Shared) -> Step[Any]:
        """Take a record, twice."""
        return self._watched(state, lambda given: self.operator.on_event(given, record, shared))

    def on_timer(self, state: Any, log_time_ms: int, shared: Shared) -> Step[Any]:
        """Take a timer, twice."""
        step = self._watched(
            state, lambda given: self.operator.on_timer(given, log_time_ms, shared)
        )
        assert step.wake_at_ms is None or step.wake_at_ms > log_time_ms
        return step

    def pack(self, state: Any) -> tuple[bytes, tuple[Record, ...]]:
        """Take a state apart."""
        return self.operator.pack(state)

    def unpack(self, data: bytes, records: tuple[Record, ...]) -> Any:
        """Put it together."""
        return self.operator.unpack(data, records)

    def _watched(self, state: Any, step_of: Callable[[Any], Step[Any]]) -> Step[Any]:
        before = None if state is None else self.pack(state)
        # The state a second machine would have: what was packed, read again.
        other = None if before is None else self.unpack(*before)
        first, second = step_of(state), step_of(other)
        assert self._face(first.state) == self._face(second.state)
        assert first.wake_at_ms == second.wake_at_ms
        assert list(map(told, first.emits)) == list(map(told, second.emits))
        assert before == (None if state is None else self.pack(state)), "a state was changed"
        return first

    def _face(self, state: Any) -> Any:
        if state is None or self.comparable:
            return state
        return self.pack(state)


def told(emit: Emit) -> Any:
    """Return an emit in a form that compares by what it says."""
    value = emit.value() if callable(emit.value) else emit.value
    if isinstance(value, Aside):
        return emit.stream, emit.key, value.reason, value.error, value.record
    return emit.stream, emit.key, value


def careful(dataflow: Dataflow) -> Dataflow:
    """Return a dataflow whose keyed operators are all watched."""
    operators = tuple(
        replace(part, operator=Careful(part.operator, comparable=part.name != "learn"))
        if isinstance(part, Keyed)
        else part
        for part in dataflow.operators
    )
    return replace(dataflow, operators=operators)
