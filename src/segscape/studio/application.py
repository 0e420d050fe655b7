"""A guarded web application without addresses: what the studio and the preference study are made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segscape.extras import require
from segscape.studio.guard import Access, Guard
from segscape.studio.limits import Limits
from segscape.studio.refusal import handle_refusals

if TYPE_CHECKING:
    from fastapi import FastAPI

SMALL_BODY = 4096
"""Bytes of a request without files; a vote takes some 100."""

UPLOADS = frozenset({"/api/generate", "/api/layout", "/api/segment"})
"""The addresses that take files."""


def new_app(title: str, access: Access, limits: Limits) -> FastAPI:
    """An application without addresses, guarded, whose refusals are sentences."""
    from segscape import __version__

    fastapi = require("fastapi", "studio")
    app: FastAPI = fastapi.FastAPI(
        title=title,
        version=__version__,
        openapi_url="/api/openapi.json",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
    )
    handle_refusals(app)
    app.add_middleware(
        Guard,
        access=access,
        body_limit=lambda path: limits.body if path in UPLOADS else SMALL_BODY,
        bodies=limits.bodies,
        seconds=limits.seconds,
    )
    return app
