"""The minimal stateful PyFlink job: count the records of each key, and write each count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyflink.common import Types
from pyflink.datastream.functions import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import ValueStateDescriptor

COUNTS = "estimates"
"""The stream the counts go to: nobody else writes there."""
_HEAD = b"\x0b\x00\x05count"


class Count(KeyedProcessFunction):  # type: ignore[misc]
    """Counts."""

    def open(self, runtime_context: RuntimeContext) -> None:
        """Begin on a worker."""
        self.count = runtime_context.get_state(ValueStateDescriptor("count", Types.LONG()))

    def process_element(self, value: Any, ctx: KeyedProcessFunction.Context) -> Iterator[bytes]:
        """Count one record."""
        count = (self.count.value() or 0) + 1
        self.count.update(count)
        yield _HEAD + count.to_bytes(8, "big")
