"""The compiled codec and the quick constructors do what the plain ones do, only sooner."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import current, decode, encode
from schemas.compiled import quick
from schemas.errors import InvalidRecord
from schemas.operations import Tick
from schemas.primitives import number, read_long, varint
from schemas.streams import RECORDS
from strategies import records
from worlds import START_MS, decided, loop, outcome

KINDS = sorted(RECORDS)
HEADER_SIZE = 10


@pytest.mark.parametrize("name", KINDS)
def test_the_bytes_are_those_of_fastavro(name: str) -> None:
    released = current(name)

    @settings(max_examples=40, deadline=None)
    @given(records(RECORDS[name]))
    def holds(record: Any) -> None:
        buffer = io.BytesIO()
        datum = msgspec.to_builtins(record, builtin_types=(bytes,))
        fastavro.schemaless_writer(buffer, released.schema, datum)
        assert encode(record) == released.header + buffer.getvalue()

    holds()


@pytest.mark.parametrize("name", KINDS)
def test_a_quickly_made_record_is_the_record(name: str) -> None:
    kind = RECORDS[name]
    made = quick(kind)

    @settings(max_examples=30, deadline=None)
    @given(records(kind))
    def holds(record: Any) -> None:
        fields = {field.name: getattr(record, field.name) for field in dataclasses.fields(kind)}
        again = made(**fields)
        assert type(again) is kind
        assert again == record
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(again, next(iter(fields)), None)

    holds()


def test_a_quickly_made_record_refuses_what_the_record_refuses() -> None:
    with pytest.raises(InvalidRecord, match="tick_at_ms"):
        quick(Tick)(-1, "me")


@given(st.integers(-(2**63), 2**63 - 1) | st.integers(-(2**20), 2**42))
def test_a_long_from_the_tables_is_the_long_bit_by_bit(value: int) -> None:
    assert number(value) == varint(value)
    assert read_long(varint(value) + b"more", 0) == (value, len(varint(value)))


def test_a_long_with_a_byte_too_many_is_read_but_not_kept_as_we_would_write_it() -> None:
    plain = encode(Tick(5, "me"))
    padded = plain[:HEADER_SIZE] + b"\x8a\x00" + plain[HEADER_SIZE + 1 :]
    assert decode(padded) == Tick(5, "me")
    made = decided("v", START_MS, loop())
    data = encode(made)
    place = data.index(b"a0", HEADER_SIZE) - 1
    odd = data[:place] + b"\x84\x00" + data[place + 1 :]
    read = decode(odd)
    assert read == made
    # The outcome carries the same choice: its bytes must be ours, not the odd ones.
    assert encode(outcome(read, 0.5)) == encode(outcome(made, 0.5))


def test_a_choice_of_another_loop_is_not_taken_for_a_kept_one() -> None:
    first = decided("v", START_MS, loop())
    other = decided("v", START_MS, loop(seed=8))
    assert first.choice.config_hash != other.choice.config_hash
    for made in (first, other, first, other):
        assert decode(encode(made)) == made
        assert decode(encode(outcome(made, 0.5))).choice == made.choice
