"""Says in the OpenAPI document what the doors do, so that a client's maker need not find out."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from serving.gateway.doors import is_open

_METHODS = ("get", "put", "post", "delete", "patch", "head", "options")
_REFUSED = "Refused"
_SCHEMA = {
    "type": "object",
    "title": _REFUSED,
    "required": ["problem", "cure"],
    "properties": {
        "problem": {"type": "string", "title": "What is wrong"},
        "cure": {"type": "string", "title": "What to do about it"},
    },
}
_MEANS = {
    "401": "No key, or one that is none of ours",
    "403": "A foreign page asks, or the key does not open this",
    "421": "Called by a name that is none of ours",
    "429": "Too many wrong keys; `Retry-After` says for how long to wait, in seconds",
    "503": "The file of keys, or something behind, cannot be used now",
}
_OPEN_TOO = ("403", "421")


def document_doors(app: FastAPI) -> None:
    """Make an application's OpenAPI document tell what the doors answer, and what they want."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).setdefault(_REFUSED, _SCHEMA)
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, operations in document["paths"].items():
            for method in _METHODS:
                if method in operations:
                    _tell(operations[method], asks_for_key=not is_open(path, method.upper()))
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _tell(operation: dict[str, Any], *, asks_for_key: bool) -> None:
    if asks_for_key:
        operation["security"] = [{"key": []}]
    for status, what in _MEANS.items():
        if asks_for_key or status in _OPEN_TOO:
            schema = {"$ref": f"#/components/schemas/{_REFUSED}"}
            content = {"application/json": {"schema": schema}}
            # What the route itself says of a status stays: it says more.
            operation["responses"].setdefault(status, {"description": what, "content": content})
