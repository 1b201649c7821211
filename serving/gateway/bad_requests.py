"""What the framework itself refuses, in the gateway's words: the problem, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

_TOLD_MAX = 3
"""Mistakes of one request that are told; the others show once these are mended."""
_VALUE_MAX = 40
_DOCUMENT = "/api/openapi.json"
_CURE = f"Ask again without that; {_DOCUMENT} says what can be asked, and how"
_MODEL = "Refused"
# The kinds of mistakes that the routes' parameters can meet, by pydantic's names for them; `{…}`
# is what it says of one.
_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "int_from_float": "must be a whole number",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_type": "must be a text",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "string_pattern_mismatch": (
        "must be an id: letters, digits, signs and spaces of ASCII, no space at either end"
    ),
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "json_invalid": "is no JSON: {error}",
    "model_attributes_type": "must be a JSON object",
    "model_type": "must be a JSON object",
    "dict_type": "must be a JSON object",
}
_SHOWS_NO_VALUE = frozenset({"missing", "extra_forbidden", "json_invalid"})
_WHERE = {"body": "the body", "query": "the query", "path": "the path", "header": "the headers"}


def explain_bad_requests(app: FastAPI) -> None:
    """Make an application answer in these words, and its OpenAPI document say so.

    Everything that is refused is ``{"problem": …, "cure": …}``: a parameter or a body that cannot
    be (422), an address or a method that is not there (404, 405), and what broke (500).
    """
    app.add_exception_handler(RequestValidationError, _bad_request)
    app.add_exception_handler(HTTPException, _not_here)
    app.add_exception_handler(Exception, _broken)
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        for operations in document["paths"].values():
            for operation in operations.values():
                _describe(operation.get("responses", {}))
        schemas = document.get("components", {}).get("schemas", {})
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _describe(responses: dict[str, Any]) -> None:
    if "422" in responses:
        what = "A parameter or the body cannot be: which, and what it must be"
        responses["422"] = {"description": what}
    for status, answer in responses.items():
        if status >= "400":  # a route may say in words what it refuses: the form is always this
            schema = {"$ref": f"#/components/schemas/{_MODEL}"}
            answer.setdefault("content", {"application/json": {"schema": schema}})


def _answer(
    status: int, problem: str, cure: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    return JSONResponse({"problem": problem, "cure": cure}, status, headers=headers)


async def _bad_request(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for nothing else
    mistakes = error.errors()
    said = [mistake_in_words(each) for each in mistakes[:_TOLD_MAX]]
    if len(mistakes) > _TOLD_MAX:
        said.append(f"and {len(mistakes) - _TOLD_MAX} more")
    return _answer(422, "; ".join(said), _CURE)


def mistake_in_words(mistake: Mapping[str, Any]) -> str:
    """Return what is wrong with one part of a request.

    Parameters
    ----------
    mistake : mapping
        One error as pydantic tells it: `type`, `loc`, `msg`, `input` and perhaps `ctx`.
    """
    kind: str = mistake["type"]
    words = _WORDS.get(kind)
    try:
        said = words.format_map(mistake.get("ctx", {})) if words is not None else ""
    except KeyError:
        said = ""
    # A release of pydantic may know other kinds: its own sentence, such as "Input should be …".
    said = said or f"is refused: {mistake['msg']}"
    value = "" if kind in _SHOWS_NO_VALUE else f", not {_shown(mistake.get('input'))}"
    return f"{_name(mistake['loc'])} {said}{value}"


def _name(where: Sequence[Any]) -> str:
    part, *inner = where
    # Of a body that is no JSON the place is given: a number, and no name.
    names = [str(each) for each in inner if isinstance(each, str)]
    place = _WHERE.get(str(part), str(part))
    return f"{'.'.join(names)} in {place}" if names else place


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= _VALUE_MAX else f"{text[:_VALUE_MAX]}…"


async def _not_here(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    status, path = error.status_code, _shown(request.url.path)
    headers = error.headers
    if status == HTTPStatus.NOT_FOUND:
        cure = f"Pages are /kiosk/ and /owner/; {_DOCUMENT} lists the rest"
        return _answer(status, f"there is nothing at {path}", cure, headers)
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (headers or {}).get("Allow", "")
        cure = f"Ask with {allowed}" if allowed else f"{_DOCUMENT} says how"
        return _answer(status, f"{path} does not take {request.method}", cure, headers)
    if status == HTTPStatus.BAD_REQUEST:
        # FastAPI's own, where a body ends early or is in no known encoding.
        return _answer(status, f"the request cannot be read: {error.detail}", _CURE, headers)
    return _answer(status, str(error.detail), _CURE, headers)


async def _broken(_request: Request, _error: Exception) -> JSONResponse:
    # The server raises it all the same, so that it stands in the gateway's own log.
    problem = "the gateway failed at that; it goes on"
    return _answer(500, problem, "Its log says why: report it with those lines")
