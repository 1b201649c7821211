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
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from schemas.primitives import Texts, number, read_long, read_text, text

Encoder = Callable[[Any], bytes]
Decoder = Callable[[bytes, int], tuple[Any, int]]
T = TypeVar("T")

_KEPT_MAX = 1_536


class Kept:
    """The bytes of nested records that stand in several others as the very same object.

    A decision and its outcome share their choice, 400 of 600 bytes: its second encoding, and the
    first where it was decoded, are a look-up of 0.1 us instead of 35 us. Objects are found by
    identity; they are frozen, so their bytes cannot change.
    """

    def __init__(self) -> None:
        # Held with their objects, so that an id names nothing else meanwhile. Two generations:
        # what was not asked for while the young one filled is dropped.
        self._young: dict[int, tuple[Any, bytes]] = {}
        self._old: dict[int, tuple[Any, bytes]] = {}

    def get(self, value: Any) -> bytes | None:
        """Return the bytes of an object, if they are here."""
        found = self._young.get(id(value)) or self._old.get(id(value))
        return found[1] if found is not None else None

    def keep(self, value: Any, data: bytes) -> None:
        """Keep the bytes of an object."""
        if len(self._young) >= _KEPT_MAX:
            self._old, self._young = self._young, {}
        self._young[id(value)] = (value, data)


def quick(record: type[T]) -> type[T]:
    """Return what makes a frozen, slotted dataclass as calling its class does, but faster.

    The usual ``__init__`` of a frozen dataclass calls ``object.__setattr__`` for each field: 8 us
    for a choice with its 32 fields, 1.4 us here. A class with the same slots is filled by plain
    assignments, then becomes the real one. What the record refuses it refuses here too.
    """
    fields = dataclasses.fields(record)  # type: ignore[arg-type]
    source = _Source()
    source.names["record"] = record
    parameters = [
        f.name
        if f.default is dataclasses.MISSING
        else f"{f.name}={source.fresh('default', (f.default,))}[0]"
        for f in fields
    ]
    lines = [
        f"__slots__ = ({', '.join(repr(f.name) for f in fields)},)",
        f"def __init__(self, {', '.join(parameters)}):",
        *(f"    self.{f.name} = {f.name}" for f in fields),
        "    self.__class__ = record",
    ]
    if hasattr(record, "__post_init__"):
        lines.append("    self.__post_init__()")
    for line in lines:
        source.add(1, line)
    return typing.cast("type[T]", source.build("class made:"))


class _Source:
    """The text of one function, and the names it uses."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Any] = {
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


@dataclasses.dataclass(frozen=True, slots=True)
class Habits:
    """What is known of our records beyond their schema, and saves time; the bytes stay the same."""

    kept: Mapping[type[Any], Kept]
    """Nested records that stand in several others as the very same object."""
    alike: frozenset[type[Any]]
    """Nested records that are nearly always equal to the one decoded before."""
    texts: frozenset[str]
    """Fields whose strings come again and again."""


def compile_encoder(record: type[Any], habits: Habits) -> Encoder:
    """Compile the function that encodes a record.

    Parameters
    ----------
    record : type
        A dataclass as `schemas.derive.avro_schema` takes it.
    habits : Habits
        What saves time.
    """
    source = _Source()
    source.names["texts"] = Texts()
    source.add(1, "out = []")
    source.add(1, "put = out.append")
    _put_record(source, record, "value", 1, habits)
    source.add(1, "return b''.join(out)")
    return typing.cast("Encoder", source.build("def made(value):"))


def _put_record(source: _Source, record: type[Any], value: str, depth: int, habits: Habits) -> None:
    hints = get_type_hints(record)
    for field in dataclasses.fields(record):
        _put(source, hints[field.name], f"{value}.{field.name}", depth, habits)


def _put(source: _Source, hint: Any, value: str, depth: int, habits: Habits) -> None:
    origin = get_origin(hint)
    if hint is str:
        again = value.rpartition(".")[2] in habits.texts
        source.add(depth, f"put(texts[{value}])" if again else f"put(text({value}))")
    elif hint is int:
        source.add(depth, f"put(number({value}))")
    elif hint is float:
        source.add(depth, f"put({source.fresh('double', _DOUBLE)}({value}))")
    elif hint is bool:
        source.add(depth, f"put(b'\\x01' if {value} else b'\\x00')")
    elif hint is bytes:
        source.add(depth, f"put(number(len({value})))")
        source.add(depth, f"put({value})")
    elif origin is typing.Literal:
        symbols = {name: number(place) for place, name in enumerate(get_args(hint))}
        source.add(depth, f"put({source.fresh('symbols', symbols)}[{value}])")
    elif origin is tuple:
        _put_array(source, get_args(hint)[0], value, depth, habits)
    elif origin in (types.UnionType, typing.Union):
        inner = next(part for part in get_args(hint) if part is not type(None))
        local = source.fresh("optional")
        source.add(depth, f"{local} = {value}")
        source.add(depth, f"if {local} is None:")
        source.add(depth + 1, "put(b'\\x00')")
        source.add(depth, "else:")
        source.add(depth + 1, "put(b'\\x02')")
        _put(source, inner, local, depth + 1, habits)
    elif hint in habits.kept:
        _put_kept(source, hint, value, depth, habits)
    else:
        local = source.fresh("record")
        source.add(depth, f"{local} = {value}")
        _put_record(source, hint, local, depth, habits)


_DOUBLE = struct.Struct("<d").pack


def _put_kept(source: _Source, hint: Any, value: str, depth: int, habits: Habits) -> None:
    local, data = source.fresh("record"), source.fresh("bytes")
    keeper = source.fresh("kept", habits.kept[hint])
    encoder = source.fresh("encode", compile_encoder(hint, habits))
    source.add(depth, f"{local} = {value}")
    source.add(depth, f"{data} = {keeper}.get({local})")
    source.add(depth, f"if {data} is None:")
    source.add(depth + 1, f"{data} = {encoder}({local})")
    source.add(depth + 1, f"{keeper}.keep({local}, {data})")
    source.add(depth, f"put({data})")


def _put_array(source: _Source, item: Any, value: str, depth: int, habits: Habits) -> None:
    local = source.fresh("items")
    source.add(depth, f"{local} = {value}")
    source.add(depth, f"if {local}:")
    source.add(depth + 1, f"put(number(len({local})))")
    if item is float:
        source.add(depth + 1, f"put(pack(f'<{{len({local})}}d', *{local}))")
    else:
        each = source.fresh("each")
        source.add(depth + 1, f"for {each} in {local}:")
        _put(source, item, each, depth + 2, habits)
    source.add(depth, "put(b'\\x00')")


def compile_decoder(record: type[Any], habits: Habits) -> Decoder:
    """Compile the function that decodes a record from a place in bytes.

    It returns the record and where it ends, and raises whatever the bytes provoke.
    """
    source = _Source()
    value = _take_record(source, record, 1, habits)
    source.add(1, f"return {value}, at")
    return typing.cast("Decoder", source.build("def made(data, at):"))


def _take_record(source: _Source, record: type[Any], depth: int, habits: Habits) -> str:
    hints = get_type_hints(record)
    local = source.fresh("value")
    before = source.fresh("before")
    again = record in habits.alike
    if again:
        # A value's bytes are no beginning of another's, so equal bytes are an equal value.
        # Both in one tuple: another thread that decodes must never see one without the other.
        last = source.fresh("last", types.SimpleNamespace(pair=(b"\xff" * 64, None)))
        pair = source.fresh("pair")
        source.add(depth, f"{pair} = {last}.pair")
        source.add(depth, f"if data.startswith({pair}[0], at):")
        source.add(depth + 1, f"{local} = {pair}[1]")
        source.add(depth + 1, f"at += len({pair}[0])")
        source.add(depth, "else:")
        depth += 1
    if again or record in habits.kept:
        source.add(depth, f"{before} = at")
    parts = [_take(source, hints[f.name], depth, habits) for f in dataclasses.fields(record)]
    source.add(depth, f"{local} = {source.fresh('made', quick(record))}({', '.join(parts)})")
    if again:
        source.add(depth, f"{last}.pair = (data[{before}:at], {local})")
    elif record in habits.kept:
        keep = source.fresh("keep", habits.kept[record].keep)
        source.add(depth, f"{keep}({local}, data[{before}:at])")
    return local


def _take(source: _Source, hint: Any, depth: int, habits: Habits) -> str:
    """Add the lines that read one value; return the name it has then."""
    local = source.fresh("got")
    origin = get_origin(hint)
    if hint is str:
        _take_text(source, local, depth)
    elif hint is int:
        _take_long(source, local, depth)
    elif hint is float:
        source.add(depth, f"{local}, = {source.fresh('double', _READ_DOUBLE)}(data, at)")
        source.add(depth, "at += 8")
    elif hint is bool:
        source.add(depth, f"{local} = {source.fresh('truth', (False, True))}[data[at]]")
        source.add(depth, "at += 1")
    elif hint is bytes:
        _take_long(source, "length", depth)
        source.add(depth, f"{local} = data[at:at + length]")
        source.add(depth, "at += length if length >= 0 else len(data)")
    elif origin is typing.Literal:
        # By the byte itself: shifted, the odd byte 1 (a place of -1) would pass for 0.
        symbols = {place << 1: name for place, name in enumerate(get_args(hint))}
        source.add(depth, f"{local} = {source.fresh('symbols', symbols)}[data[at]]")
        source.add(depth, "at += 1")
    elif origin is tuple:
        _take_array(source, get_args(hint)[0], local, depth, habits)
    elif origin in (types.UnionType, typing.Union):
        inner = next(part for part in get_args(hint) if part is not type(None))
        source.add(depth, f"branch = {source.fresh('branches', _BRANCHES)}[data[at]]")
        source.add(depth, "at += 1")
        source.add(depth, "if branch:")
        found = _take(source, inner, depth + 1, habits)
        source.add(depth + 1, f"{local} = {found}")
        source.add(depth, "else:")
        source.add(depth + 1, f"{local} = None")
    else:
        return _take_record(source, hint, depth, habits)
    return local


_BRANCHES = {0: False, 2: True}
_READ_DOUBLE = struct.Struct("<d").unpack_from


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


def _take_array(source: _Source, item: Any, local: str, depth: int, habits: Habits) -> None:
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
        found = _take(source, item, depth + 2, habits)
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
