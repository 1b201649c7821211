"""Serves the pages' fetched files, so that no page ever asks another host for anything."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from connectors.page_assets import PAGE_PACKAGES, page_asset, page_pins
from schemas.errors import ResourceError

MEDIA_TYPES = {
    ".bin": "application/octet-stream",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    # Chromium compiles WebAssembly while it loads only under this very type.
    ".wasm": "application/wasm",
}
"""By ending; everything else is plain text."""

FOR_EVER = "public, max-age=31536000, immutable"
ASK_AGAIN = "no-cache"


def router(cache: Path | None) -> APIRouter:
    """Return the route ``/static/vendor/NAME/FILE``.

    NAME is a package's name, or that with its version (``echarts-6.1.0``): only what such an
    address names can never change, so only it may be kept for ever.

    Parameters
    ----------
    cache : Path or None
        Folder of the fetched files; None: the user's own.
    """
    routes = APIRouter()

    # Not async: reading and checking 1 MB takes 2 ms, which the loop gives to the greetings.
    @routes.get("/static/vendor/{name}/{file}", include_in_schema=False)
    def vendor(name: str, file: str, request: Request) -> Response:
        package, versioned = _package(name)
        known = f"{package}/{file}"
        if package is None or known not in page_pins():
            problem = f"the pages use no file {name}/{file}"
            cure = "Look at connectors/page_assets.py for those they use"
            return JSONResponse({"problem": problem, "cure": cure}, 404)
        tag = f'"{page_pins()[known][:32]}"'
        headers = {"ETag": tag, "Cache-Control": FOR_EVER if versioned else ASK_AGAIN}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        try:
            content = page_asset(known, cache)
        except ResourceError as error:
            return JSONResponse({"problem": f"{known} is not fetched", "cure": error.cure}, 404)
        kind = MEDIA_TYPES.get(PurePosixPath(file).suffix, "text/plain; charset=utf-8")
        return Response(content, headers=headers, media_type=kind)

    return routes


def _package(name: str) -> tuple[str | None, bool]:
    """Return the package that an address names, and whether it named the version too."""
    for package in PAGE_PACKAGES.values():
        version = package.requirement.rpartition("@")[2]
        if name == f"{package.name}-{version}":
            return package.name, True
    return (name if name in PAGE_PACKAGES else None), False
