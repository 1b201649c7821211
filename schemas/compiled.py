"""Encoders and decoders compiled from the dataclasses, for the records we write today.

fastavro walks the schema for every value: 76 us to write a decision, 67 us to read one, which is
a third of what the whole loop may take at 20,000 events a second. Here the walk is done once, as
source text like that of `dataclasses`. The bytes are those of fastavro, which a test compares for
every record; whatever the compiled decoder finds odd, fastavro reads and names.
"""

from __future__ import annotations

import dataclasses
import struct
import types
import typing
from collections.abc import Callable
from typing import Any, get_args, get_origin, get_type_hints

Encoder = Callable[[Any], bytes]
Decoder = Callable[[bytes, int], tuple[Any, int]]

_SMALL = 1_024
_KEPT_MAX = 2_048
_FIVE = struct.Struct("5B").pack
_SIX = struct.Struct("6B").pack


def varint(value: int) -> bytes:
    """Encode a long as Avro does: zigzag, then seven bits a byte, lowest first."""
    rest = value << 1 if value >= 0 else (-value << 1) - 1
    out = bytearray()
    while rest > 127:
        out.append(rest & 127 | 128)
        rest >>= 7
    out.append(rest)
    return bytes(out)


SMALL = tuple(varint(value) for value in range(_SMALL))
"""The varints of small numbers, which lengths, counts and branches are."""


def number(value: int) -> bytes:
    """Encode a long as `varint` does; probabilities and times, five and six bytes, unrolled."""
    if 0 <= value < _SMALL:
        return SMALL[value]
    rest = value << 1
    if 1 << 28 <= rest < 1 << 35:
        return _FIVE(
            rest & 127 | 128,
            rest >> 7 & 127 | 128,
            rest >> 14 & 127 | 128,
            rest >> 21 & 127 | 128,
            rest >> 28,
        )
    if 1 << 35 <= rest < 1 << 42:
        return _SIX(
            rest & 127 | 128,
            rest >> 7 & 127 | 128,
            rest >> 14 & 127 | 128,
            rest >> 21 & 127 | 128,
            rest >> 28 & 127 | 128,
            rest >> 35,
        )
    return varint(value)


def text(value: str) -> bytes:
    """Encode a string: its length, then its UTF-8."""
    data = value.encode()
    length = len(data)
    return (SMALL[length] if length < _SMALL else varint(length)) + data


def read_long(data: bytes, at: int) -> tuple[int, int]:
    """Decode a long; return it and where it ends.

    Raises
    ------
    IndexError
        When the bytes end early.
    """
    # Unrolled for the sizes that occur: probabilities have up to five bytes, times six.
    low = data[at]
    if low < 128:
        return (low >> 1) ^ -(low & 1), at + 1
    low &= 127
    byte = data[at + 1]
    if byte < 128:
        return (low >> 1 | byte << 6) ^ -(low & 1), at + 2
    result = low | (byte & 127) << 7
    shift = 14
    at += 2
    for byte in data[at : at + 8]:
        at += 1
        if byte < 128:
            result |= byte << shift
            return (result >> 1) ^ -(result & 1), at
        result |= (byte & 127) << shift
        shift += 7
    problem = "a long that does not end"
    raise ValueError(problem)


def read_text(data: bytes, at: int) -> tuple[str, int]:
    """Decode a string of any length."""
    length, at = read_long(data, at)
    if length < 0:
        problem = "a negative length"
        raise ValueError(problem)
    return data[at : at + length].decode(), at + length


class _Source:
    """The text of one function, and the names it uses."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Any] = {
            "SMALL": SMALL,
            "number": number,
            "text": text,
            "read_long": read_long,
            "read_text": read_text,
            "pack": struct.pack,
            "unpack_from": struct.unpack_from,
        }
        self._count = 0

    def fresh(self, stem: str, value: Any = None) -> str:
        """Return a new name, bound to a value where one is given."""
        self._count += 1
        name = f"{stem}_{self._count}"
        if value is not None:
            self.names[name] = value
        return name

    def add(self, depth: int, line: str) -> None:
        self.lines.append("    " * depth + line)

    def build(self, head: str) -> Any:
        body = "\n".join([head, *self.lines])
        exec(compile(body, "<schemas.compiled>", "exec"), self.names)  # noqa: S102 - as dataclasses do
        return self.names["made"]


def compile_encoder(record: type[Any], shared: frozenset[type[Any]] = frozenset()) -> Encoder:
    """Compile the function that encodes a record.

    Parameters
    ----------
    record : type
        A dataclass as `schemas.derive.avro_schema` takes it.
    shared : set of type
        Nested records that stand in many others as the very same object: their bytes are kept.
    """
    source = _Source()
    source.add(1, "out = []")
    source.add(1, "put = out.append")
    _put_record(source, record, "value", 1, shared)
    source.add(1, "return b''.join(out)")
    return typing.cast("Encoder", source.build("def made(value):"))


def _put_record(
    source: _Source, record: type[Any], value: str, depth: int, shared: frozenset[type[Any]]
) -> None:
    hints = get_type_hints(record)
    for field in dataclasses.fields(record):
        _put(source, hints[field.name], f"{value}.{field.name}", depth, shared)


def _put(source: _Source, hint: Any, value: str, depth: int, shared: frozenset[type[Any]]) -> None:
    origin = get_origin(hint)
    if hint is str:
        source.add(depth, f"put(text({value}))")
    elif hint is int:
        source.add(depth, f"put(number({value}))")
    elif hint is float:
        source.add(depth, f"put(pack('<d', {value}))")
    elif hint is bool:
        source.add(depth, f"put(b'\\x01' if {value} else b'\\x00')")
    elif hint is bytes:
        source.add(depth, f"put(number(len({value})))")
        source.add(depth, f"put({value})")
    elif origin is typing.Literal:
        symbols = {name: number(place) for place, name in enumerate(get_args(hint))}
        source.add(depth, f"put({source.fresh('symbols', symbols)}[{value}])")
    elif origin is tuple:
        _put_array(source, get_args(hint)[0], value, depth, shared)
    elif origin in (types.UnionType, typing.Union):
        inner = next(part for part in get_args(hint) if part is not type(None))
        local = source.fresh("optional")
        source.add(depth, f"{local} = {value}")
        source.add(depth, f"if {local} is None:")
        source.add(depth + 1, "put(b'\\x00')")
        source.add(depth, "else:")
        source.add(depth + 1, "put(b'\\x02')")
        _put(source, inner, local, depth + 1, shared)
    elif hint in shared:
        keep = source.fresh("kept", _kept(compile_encoder(hint, shared)))
        source.add(depth, f"put({keep}({value}))")
    else:
        local = source.fresh("record")
        source.add(depth, f"{local} = {value}")
        _put_record(source, hint, local, depth, shared)


def _put_array(
    source: _Source, item: Any, value: str, depth: int, shared: frozenset[type[Any]]
) -> None:
    local = source.fresh("items")
    source.add(depth, f"{local} = {value}")
    source.add(depth, f"if {local}:")
    source.add(depth + 1, f"put(number(len({local})))")
    if item is float:
        source.add(depth + 1, f"put(pack(f'<{{len({local})}}d', *{local}))")
    else:
        each = source.fresh("each")
        source.add(depth + 1, f"for {each} in {local}:")
        _put(source, item, each, depth + 2, shared)
    source.add(depth, "put(b'\\x00')")


def _kept(encoder: Encoder) -> Encoder:
    """Keep the bytes of the objects encoded last, by identity; they are frozen."""
    known: dict[int, tuple[Any, bytes]] = {}

    def encode(value: Any) -> bytes:
        found = known.get(id(value))
        if found is not None:
            return found[1]
        data = encoder(value)
        if len(known) >= _KEPT_MAX:
            known.clear()
        known[id(value)] = (value, data)  # held, so that its id names nothing else meanwhile
        return data

    return encode


def compile_decoder(record: type[Any]) -> Decoder:
    """Compile the function that decodes a record from a place in bytes.

    It returns the record and where it ends, and raises whatever the bytes provoke.
    """
    source = _Source()
    value = _take_record(source, record, 1)
    source.add(1, f"return {value}, at")
    return typing.cast("Decoder", source.build("def made(data, at):"))


def _take_record(source: _Source, record: type[Any], depth: int) -> str:
    hints = get_type_hints(record)
    parts = [_take(source, hints[field.name], depth) for field in dataclasses.fields(record)]
    local = source.fresh("value")
    source.add(depth, f"{local} = {source.fresh('made', record)}({', '.join(parts)})")
    return local


def _take(source: _Source, hint: Any, depth: int) -> str:
    """Add the lines that read one value; return the name it has then."""
    local = source.fresh("got")
    origin = get_origin(hint)
    if hint is str:
        _take_text(source, local, depth)
    elif hint is int:
        _take_long(source, local, depth)
    elif hint is float:
        source.add(depth, f"{local}, = unpack_from('<d', data, at)")
        source.add(depth, "at += 8")
    elif hint is bool:
        source.add(depth, f"{local} = {source.fresh('truth', (False, True))}[data[at]]")
        source.add(depth, "at += 1")
    elif hint is bytes:
        _take_long(source, "length", depth)
        source.add(depth, f"{local} = data[at:at + length]")
        source.add(depth, "at += length if length >= 0 else len(data)")
    elif origin is typing.Literal:
        source.add(depth, f"{local} = {source.fresh('symbols', get_args(hint))}[data[at] >> 1]")
        source.add(depth, "at += 1")
    elif origin is tuple:
        _take_array(source, get_args(hint)[0], local, depth)
    elif origin in (types.UnionType, typing.Union):
        inner = next(part for part in get_args(hint) if part is not type(None))
        source.add(depth, f"branch = {source.fresh('branches', _BRANCHES)}[data[at]]")
        source.add(depth, "at += 1")
        source.add(depth, "if branch:")
        found = _take(source, inner, depth + 1)
        source.add(depth + 1, f"{local} = {found}")
        source.add(depth, "else:")
        source.add(depth + 1, f"{local} = None")
    else:
        return _take_record(source, hint, depth)
    return local


_BRANCHES = {0: False, 2: True}


def _take_text(source: _Source, local: str, depth: int) -> None:
    source.add(depth, "length = data[at]")
    source.add(depth, "if length & 129:")
    source.add(depth + 1, f"{local}, at = read_text(data, at)")
    source.add(depth, "else:")
    source.add(depth + 1, "start = at + 1")
    source.add(depth + 1, "at = start + (length >> 1)")
    source.add(depth + 1, f"{local} = data[start:at].decode()")


def _take_long(source: _Source, local: str, depth: int) -> None:
    source.add(depth, f"{local} = data[at]")
    source.add(depth, f"if {local} & 129:")
    source.add(depth + 1, f"{local}, at = read_long(data, at)")
    source.add(depth, "else:")
    source.add(depth + 1, f"{local} >>= 1")
    source.add(depth + 1, "at += 1")


def _take_array(source: _Source, item: Any, local: str, depth: int) -> None:
    # One block, as we write it; several blocks, or a block with its size, are fastavro's.
    _take_long(source, "count", depth)
    source.add(depth, f"{local} = ()")
    source.add(depth, "if count:")
    if item is float:
        source.add(depth + 1, f"{local} = unpack_from(f'<{{count}}d', data, at)")
        source.add(depth + 1, "at += 8 * count")
    else:
        items = source.fresh("items")
        source.add(depth + 1, f"{items} = []")
        source.add(depth + 1, "for _ in range(one_block(count)):")
        source.names["one_block"] = _one_block
        found = _take(source, item, depth + 2)
        source.add(depth + 2, f"{items}.append({found})")
        source.add(depth + 1, f"{local} = tuple({items})")
    source.add(depth + 1, "if data[at]:")
    source.add(depth + 2, "raise ValueError('several blocks')")
    source.add(depth + 1, "at += 1")


def _one_block(count: int) -> int:
    if count < 0:
        problem = "a block with its size"
        raise ValueError(problem)
    return count
