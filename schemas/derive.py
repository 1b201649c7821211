"""The Avro schema of a record, derived from its dataclass: fields, types, defaults, and docs.

The `.avsc` files are the contract. They are written once from here (`pho schemas --write`), and a
test holds the newest of each record against what the dataclass says today.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from typing import Any, get_args, get_origin, get_type_hints

NAMESPACE = "pho"

_PRIMITIVES = {str: "string", int: "long", float: "double", bool: "boolean", bytes: "bytes"}


def avro_schema(record: type[Any]) -> dict[str, Any]:
    """Derive the Avro schema of a record.

    Parameters
    ----------
    record : type
        A dataclass whose fields are str, int, float, bool, bytes, a Literal, another such
        dataclass, a tuple of one of these, or one of these or None.

    Returns
    -------
    dict
        The schema as JSON; nested records stand where they are first used, and by name after.
    """
    return _record(record, seen=set())


def without_docs(schema: Any) -> Any:
    """Return a schema without its documentation: other words alone are no other schema."""
    if isinstance(schema, list):
        return [without_docs(entry) for entry in schema]
    if isinstance(schema, dict):
        return {key: without_docs(value) for key, value in schema.items() if key != "doc"}
    return schema


def field_docs(record: type[Any]) -> dict[str, str]:
    """Return the line under each field of a dataclass, by the field's name."""
    body = ast.parse(textwrap.dedent(inspect.getsource(record))).body[0]
    assert isinstance(body, ast.ClassDef)  # noqa: S101 - inspect gave the source of a class
    docs = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            docs[field.target.id] = " ".join(str(text.value.value).split())
    return docs


def _record(record: type[Any], seen: set[str]) -> dict[str, Any]:
    seen.add(record.__name__)
    hints = get_type_hints(record)
    docs = field_docs(record)
    fields = []
    for field in dataclasses.fields(record):
        name_if_enum = f"{record.__name__}{field.name.title().replace('_', '')}"
        entry: dict[str, Any] = {
            "name": field.name,
            "type": _type(hints[field.name], name_if_enum, seen),
            "doc": docs.get(field.name, ""),
        }
        if field.default is not dataclasses.MISSING:
            entry["default"] = [] if field.default == () else field.default
        fields.append(entry)
    first_line = (record.__doc__ or "").strip().splitlines()[0]
    return {
        "type": "record",
        "name": record.__name__,
        "namespace": NAMESPACE,
        "doc": first_line,
        "fields": fields,
    }


def _type(hint: Any, name_if_enum: str, seen: set[str]) -> Any:
    if hint in _PRIMITIVES:
        return _PRIMITIVES[hint]
    origin = get_origin(hint)
    if origin is typing.Literal:
        symbols = list(get_args(hint))
        return {"type": "enum", "name": name_if_enum, "symbols": symbols, "default": "unknown"}
    if origin is tuple:
        return {"type": "array", "items": _type(get_args(hint)[0], name_if_enum, seen)}
    if origin in (types.UnionType, typing.Union):
        inner = next(part for part in get_args(hint) if part is not type(None))
        return ["null", _type(inner, name_if_enum, seen)]
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if hint.__name__ in seen:
            return f"{NAMESPACE}.{hint.__name__}"
        return _record(hint, seen)
    problem = f"no Avro type stands for {hint!r}"
    raise TypeError(problem)
