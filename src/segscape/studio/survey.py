"""The preference study as a local web page: "Which is more realistic?"

The page never learns which side is which: pictures have meaningless addresses, and the server turns `left` and `right`
into a and b. Needs the extra `studio`.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import random
import socket
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from PIL import Image
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from segscape.errors import EvaluationError, SegscapeError
from segscape.extras import require
from segscape.studio.study import KINDS, Kind, Study
from segscape.studio.votes import SIDES, Side, Votes

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_LIMIT = 4096  # bytes of a request; a vote takes some 100
DAY = 86_400.0
ASSETS = {
    "/": ("survey.html", "text/html"),
    "/survey.css": ("survey.css", "text/css"),
    "/survey.js": ("survey.js", "text/javascript"),
    "/survey.svg": ("survey.svg", "image/svg+xml"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",  # a picture's address would else outlive a study that was made anew
}


def _tidy(name: str) -> str:
    """A rater's name in one spelling; raises ValueError if it is empty or has control characters."""
    name = " ".join(unicodedata.normalize("NFKC", name).split())
    if not name or not name.isprintable():
        raise ValueError("a rater needs a name of printable characters")
    return name


RaterName = Annotated[str, StringConstraints(max_length=64), AfterValidator(_tidy)]
Choice = Literal["left", "right"]


class Pair(BaseModel):
    """Two pictures of one layout, by their addresses; `item` is what a vote names."""

    item: int
    left: str
    right: str
    layout: str
    width: int
    height: int


class Answer(BaseModel):
    """An earlier vote."""

    item: int
    choice: Choice


class Session(BaseModel):
    """All pairs in this rater's order, and the votes so far, oldest first."""

    rater: str
    pairs: list[Pair]
    answered: list[Answer]


class NewVote(BaseModel):
    """A vote; it replaces an earlier one on the same pair."""

    model_config = ConfigDict(extra="forbid")

    rater: RaterName
    item: Annotated[int, Field(ge=0)]
    choice: Choice
    seconds: Annotated[float, Field(ge=0, le=DAY, allow_inf_nan=False)]


class Saved(BaseModel):
    """How many pairs the rater has voted on."""

    answered: int
    total: int


@dataclass(frozen=True)
class _Place:
    """Where a pair stands for one rater: the number of the item, and what is on its left."""

    item: int
    left: Side


def create_app(study: Path) -> FastAPI:
    """The web application of a study that `prepare_study` has made.

    Args:
        study: its folder.

    Raises:
        EvaluationError: no study is there, or pictures are missing.
        DependencyError: FastAPI is not installed.
    """
    fastapi = require("fastapi", "studio")
    errors = require("fastapi.exceptions", "studio")
    survey = _Survey(Study.open(study))
    app: FastAPI = fastapi.FastAPI(
        title="Segscape preference study",
        openapi_url="/api/openapi.json",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
    )
    app.get("/api/pairs", response_model=Session)(survey.session)
    app.post("/api/votes", response_model=Saved)(survey.vote)
    app.get("/pictures/{address}", response_class=fastapi.Response, response_model=None)(survey.picture)
    for path, (name, media_type) in ASSETS.items():
        app.get(path, response_model=None, include_in_schema=False)(_asset(name, media_type))
    app.add_exception_handler(errors.RequestValidationError, _explain)
    app.add_exception_handler(SegscapeError, _report)
    app.add_middleware(_Guard)
    return app


def serve(app: FastAPI, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Run the application until Ctrl-C.

    Args:
        app: from `create_app`.
        host: address to listen at.
        port: 0 takes any free one.
        announce: called with the address of the page as soon as it answers.

    Raises:
        SegscapeError: the address or port cannot be used.
        DependencyError: uvicorn is not installed.
    """
    uvicorn = require("uvicorn", "studio")
    with listen(host, port) as listener:
        announce(_address(host, listener.getsockname()[1]))
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2)
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:  # uvicorn has shut down and passes the signal on
            return


class _Survey:
    """What the addresses of the application answer."""

    def __init__(self, study: Study) -> None:
        missing = study.missing()
        if missing:
            raise EvaluationError(f"{study.folder} lacks pictures of {len(missing)} layouts: run --vote to make them.")
        self.study = study
        self.votes = Votes(study.votes_path)
        self.items = study.plan.items
        self.numbers = {name: number for number, name in enumerate(self.items)}
        self.sizes = [_stored_size(study.picture("a", item)) for item in self.items]
        self.files = {self._address(kind, item): study.picture(kind, item) for kind in KINDS for item in self.items}

    def session(self, rater: RaterName) -> Session:
        """What a rater has to compare."""
        plan = arrange(self.study.key, rater, len(self.items))
        left = {place.item: place.left for place in plan}
        answered = [
            Answer(item=item, choice="left" if vote.choice == left[item] else "right")
            for vote in self.votes.done(rater)
            if (item := self.numbers.get(vote.item)) is not None
        ]
        return Session(rater=rater, pairs=[self._pair(place) for place in plan], answered=answered)

    def vote(self, vote: NewVote) -> Saved:
        """Keep a vote."""
        if vote.item >= len(self.items):
            raise _not_found(f"this study has {len(self.items)} pairs, numbered from 0: there is no {vote.item}")
        plan = arrange(self.study.key, vote.rater, len(self.items))
        left = next(place.left for place in plan if place.item == vote.item)
        choice = left if vote.choice == "left" else _other(left)
        self.votes.record(vote.rater, self.items[vote.item], left=left, choice=choice, seconds=vote.seconds)
        return Saved(answered=len(self.votes.done(vote.rater)), total=len(self.items))

    def picture(self, address: str) -> Any:
        """One picture, as PNG."""
        from fastapi import Response

        path = self.files.get(address)
        if path is None:
            raise _not_found("there is no such picture")
        # the bytes alone: the date of the file could tell the sides apart
        return Response(path.read_bytes(), media_type="image/png")

    def _pair(self, place: _Place) -> Pair:
        item = self.items[place.item]
        height, width = self.sizes[place.item]
        left, right, layout = (
            f"/pictures/{self._address(kind, item)}" for kind in (place.left, _other(place.left), "layouts")
        )
        return Pair(item=place.item, left=left, right=right, layout=layout, width=width, height=height)

    def _address(self, kind: Kind, item: str) -> str:
        return hashlib.sha256(f"{self.study.key} {kind} {item}".encode()).hexdigest()[:20]


def arrange(key: str, rater: str, count: int) -> list[_Place]:
    """The order of `count` pairs and their sides for one rater, the same at every call.

    Both are random, but a is on the left in half of the pairs (in one more or less than half if `count` is odd).
    """
    generator = random.Random(f"{key} {rater}")
    sides = [*SIDES] * (count // 2 + 1)
    sides = sides[generator.randrange(2) :][:count]  # a or b first, and so once more if the count is odd
    generator.shuffle(sides)
    order = generator.sample(range(count), count)
    return [_Place(item, left) for item, left in zip(order, sides, strict=True)]


class _Guard:
    """ASGI middleware: refuses large bodies before they are read, and adds `HEADERS` to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((k.lower().encode(), v.encode()) for k, v in HEADERS.items()),
                ]
            await send(message)

        messages = await _read_body(receive)
        if messages is None:
            await _sentence(413, f"a request has at most {BODY_LIMIT} bytes")(scope, receive, send_with_headers)
            return

        async def replay() -> Message:
            return messages.pop(0) if messages else await receive()

        await self.app(scope, replay, send_with_headers)


async def _read_body(receive: Receive) -> list[Message] | None:
    """The messages of a request's body; None if it is too large."""
    messages: list[Message] = []
    size, more = 0, True
    while more:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if size > BODY_LIMIT:
            return None
        more = message.get("more_body", False)
    return messages


def _asset(name: str, media_type: str) -> Callable[[], Any]:
    content = files("segscape.studio").joinpath(name).read_text(encoding="utf-8")

    def asset() -> Any:
        from fastapi import Response

        return Response(content, media_type=media_type)

    return asset


def _explain(request: Request, error: Any) -> Response:
    """One sentence about the first thing that is wrong with a request, 422."""
    first = error.errors()[0]
    where = ".".join(str(step) for step in first["loc"] if step not in ("body", "query", "path"))
    sentence = first["msg"].removeprefix("Value error, ")
    return _sentence(422, f"{where}: {sentence}" if where else sentence)


def _report(request: Request, error: Exception) -> Response:
    """Tell the rater that it is not their fault, 503, and whoever runs the server what it is."""
    logging.getLogger("uvicorn.error").error("%s", error)
    return _sentence(503, "The file of the votes cannot be used just now; tell whoever runs the study, or try again.")


def _sentence(status: int, detail: str) -> Response:
    from fastapi.responses import JSONResponse

    return JSONResponse({"detail": detail}, status_code=status)


def _not_found(detail: str) -> Exception:
    from fastapi import HTTPException

    return HTTPException(404, detail)


def _other(side: Side) -> Side:
    return "b" if side == "a" else "a"


def _stored_size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.height, picture.width


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


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
