"""/trust: how to make a tablet trust the gateway's own certificate, and the certificate itself."""

from __future__ import annotations

from html import escape
from importlib import resources

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse, JSONResponse

from schemas.errors import ResourceError
from serving.gateway.certificates import Certificate

_PAGES = resources.files("serving.gateway").joinpath("pages", "trust")
# iOS and Android offer to install a file of this type; of any other they offer to keep it.
_CERTIFICATE = "application/x-x509-ca-cert"


def router(certificate: Certificate | None) -> APIRouter:
    """Return the page's routes.

    Parameters
    ----------
    certificate : Certificate or None
        The gateway's own; None: it has one that is trusted anyway, or speaks plain HTTP.
    """
    routes = APIRouter(tags=["trust"], include_in_schema=False)

    @routes.get("/trust", response_class=HTMLResponse)
    def page() -> HTMLResponse:
        """Explain it."""
        text = _PAGES.joinpath("index.html").read_text(encoding="utf-8")
        return HTMLResponse(_filled(text, certificate))

    @routes.get("/trust/trust.css")
    def style() -> Response:
        """Dress it."""
        return Response(_PAGES.joinpath("trust.css").read_bytes(), media_type="text/css")

    @routes.get("/trust/pho.crt", response_model=None)
    def download() -> Response:
        """Give what is to be trusted; never a key."""
        if certificate is None:
            problem = "this gateway has no certificate of its own"
            cure = "Nothing is to be trusted; or start it with: pho up --tls auto"
            return JSONResponse({"problem": problem, "cure": cure}, status_code=404)
        try:
            content = certificate.authority_file.read_bytes()
        except OSError as error:
            problem = f"{certificate.authority_file} cannot be read: {error.strerror}"
            raise ResourceError(problem, "Start the gateway again: it makes a new one") from error
        name = 'attachment; filename="pho.crt"'
        return Response(content, media_type=_CERTIFICATE, headers={"content-disposition": name})

    return routes


def _filled(text: str, certificate: Certificate | None) -> str:
    state = "own" if certificate is not None else "none"
    shown = certificate.fingerprint if certificate is not None else ""
    # Broken after every eighth pair at most: nobody compares 95 characters in one line.
    lines = "<wbr>".join(shown[i : i + 24] for i in range(0, len(shown), 24))
    text = text.replace("{{fingerprint}}", lines).replace("{{state}}", state)
    names = certificate.names if certificate is not None else ()
    return text.replace("{{names}}", ", ".join(escape(name) for name in names))
