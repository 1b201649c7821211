"""Copies go in batches, whatever the target."""

from __future__ import annotations

import pytest

from connectors.bridge_batches import in_batches
from connectors.logs import Row


def rows(*sizes: int) -> list[Row]:
    return [Row(place, "visits", "v", 0, bytes(size)) for place, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ((1,) * 7, [3, 3, 1]),
        ((1,) * 6, [3, 3, 0]),
        ((10, 1, 9, 1), [1, 2, 1]),
        ((99, 99), [1, 1, 0]),
        ((), [0]),
    ],
)
def test_a_batch_ends_at_three_records_or_ten_bytes(
    sizes: tuple[int, ...], wanted: list[int]
) -> None:
    given, written = rows(*sizes), list[list[Row]]()
    last = in_batches(given, lambda row: (row,), written.append, 3, 10)
    assert [len(batch) for batch in written] == wanted
    assert [row for batch in written for row in batch] == given
    assert last == (given[-1] if given else None)


def test_a_row_may_have_many_copies_or_none_and_the_last_is_told() -> None:
    given, written = rows(1, 1, 1, 1), list[list[Row]]()
    last = in_batches(given, lambda row: [row] * (row.position % 3), written.append, 2, 10)
    assert [len(batch) for batch in written] == [3, 0]
    assert last == given[-1]
