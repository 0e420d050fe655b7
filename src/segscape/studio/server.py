"""The studio's server: the page, its interface (`api.py`), and, if one is given, a preference survey."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segscape.errors import SegscapeError
from segscape.extras import require
from segscape.studio.application import new_app
from segscape.studio.guard import Access
from segscape.studio.limits import Limits
from segscape.studio.refusal import Refusal

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from fastapi import FastAPI

    from segscape.studio.engine import Engine

MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".ico": "image/x-icon",
    ".js": "text/javascript",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}


STATIC_ONLY = frozenset({"static.html", "manifest.json"})
"""Assets of the static site and of the build."""


def create_studio(
    engine: Engine, *, survey: Path | None = None, access: Access | None = None, limits: Limits | None = None
) -> FastAPI:
    """The web application of the studio.

    Args:
        engine: the models to paint with.
        survey: folder of a preference study, to be asked at `/survey`.
        access: who may ask; by default, this machine.
        limits: of requests.

    Raises:
        DependencyError: FastAPI or python-multipart is not installed.
        EvaluationError: no study is there, or pictures are missing.
    """
    require("python_multipart", "studio")
    require("fastapi", "studio")
    from segscape.studio.api import StudioApi

    limits = limits or Limits()
    app = new_app("Segscape studio", access or Access(), limits)
    app.include_router(StudioApi(engine, limits).router())
    if survey is not None:
        from segscape.studio.survey import survey_router

        app.include_router(survey_router(survey, "/survey"))
    add_page(app)
    return app


def add_page(app: FastAPI) -> None:
    """The built front end; its files are read now, so that no path of a request is one of the disk."""
    folder = files("segscape.studio").joinpath("assets")
    found = dict(_files(folder)) if folder.is_dir() else {}
    if "index.html" not in found:
        app.get("/", include_in_schema=False)(_not_built)
    for name, content in found.items():
        kind = MEDIA_TYPES.get(Path(name).suffix)
        if kind is not None and name not in STATIC_ONLY:
            address = "/" if name == "index.html" else f"/{name}"
            app.get(address, include_in_schema=False, response_model=None)(_asset(content, kind, address))


def _files(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _files(entry, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name, entry.read_bytes() if Path(entry.name).suffix in MEDIA_TYPES else b""


def _asset(content: bytes, kind: str, address: str) -> Callable[[], Any]:
    from fastapi import Response

    # what is under /assets/ has a hash in its name
    cache = "public, max-age=31536000, immutable" if address.startswith("/assets/") else "no-cache"

    async def asset() -> Response:
        return Response(content, media_type=kind, headers={"Cache-Control": cache})

    asset.__annotations__.clear()  # or FastAPI would look for `Response` among this module's names
    return asset


async def _not_built() -> None:
    raise Refusal(404, "The page was not built: run npm ci and npm run build in frontend/.")


def serve(app: FastAPI, host: str, port: int, announce: Callable[[str], None], access: Access | None = None) -> None:
    """Run an application until Ctrl-C.

    Args:
        app: what to run.
        host: address to listen at.
        port: 0 takes any free one.
        announce: called with the address of the page, its token included, as soon as it answers.
        access: that of the application.

    Raises:
        SegscapeError: the address or port cannot be used.
        DependencyError: uvicorn is not installed.
    """
    uvicorn = require("uvicorn", "studio")
    with listen(host, port) as listener:
        announce(page_address(host, listener.getsockname()[1], access))
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=1024,
            timeout_graceful_shutdown=2,
        )
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:  # uvicorn has shut down and passes the signal on
            return


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes any free one. Raises SegscapeError if it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SegscapeError(f"--port {port} is in use: choose another, or 0 for any that is free.") from None
        raise SegscapeError(
            f"cannot listen at {host}, port {port} ({error.strerror}): check --host and --port."
        ) from None


def page_address(host: str, port: int, access: Access | None = None) -> str:
    """The address of a page, with the token if one is needed."""
    token = "" if access is None or access.token is None else f"?token={access.token}"
    return f"http://[{host}]:{port}/{token}" if ":" in host else f"http://{host}:{port}/{token}"
