"""Why the studio's server does not do what a request asks: a status code and one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from segscape.errors import SegscapeError

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response


class Refusal(SegscapeError):
    """An answer that is no success.

    Attributes:
        status: of HTTP, 400 to 599.
        headers: to send with it.

    Args:
        status: see above.
        sentence: what is wrong and how to mend it.
        headers: see above.
    """

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = dict(headers or {})


def answer(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    """The form of all refusals: `{"error": sentence}`."""
    from fastapi.responses import JSONResponse

    return JSONResponse({"error": sentence}, status_code=status, headers=dict(headers or {}))


def handle_refusals(app: FastAPI) -> None:
    """Make every refusal of an application, its own ones and the framework's, an `answer`."""
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

    app.add_exception_handler(RequestValidationError, _explain)
    app.add_exception_handler(SegscapeError, _refuse)
    app.add_exception_handler(HTTPException, _translate)


def _explain(request: Request, error: Exception) -> Response:
    """One sentence about the first thing that is wrong with a request, 422."""
    first = error.errors()[0]  # type: ignore[attr-defined]
    where = ".".join(str(step) for step in first["loc"] if step not in ("body", "query", "path", "header"))
    sentence = first["msg"].removeprefix("Value error, ")
    return answer(422, f"{where}: {sentence}" if where else sentence)


def _refuse(request: Request, error: Exception) -> Response:
    """A refusal as it is; what else is wrong with the input is 422."""
    if isinstance(error, Refusal):
        return answer(error.status, str(error), error.headers)
    return answer(422, str(error))


def _translate(request: Request, error: Exception) -> Response:
    """What the framework itself refuses: no such address, another method, a broken form."""
    known = {404: "There is nothing at this address.", 405: "This address does not take this method."}
    status: int = error.status_code  # type: ignore[attr-defined]
    return answer(status, known.get(status, str(error.detail)), error.headers)  # type: ignore[attr-defined]
