"""The preference study as a local web page: "Which is more realistic?"

The page never learns which side is which: pictures have meaningless addresses, and the server turns `left` and `right`
into a and b. Needs the extra `studio`.
"""

from __future__ import annotations

import hashlib
import logging
import random
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from segscape.data.folder import stored_size
from segscape.errors import EvaluationError
from segscape.extras import require
from segscape.studio.application import new_app
from segscape.studio.guard import Access
from segscape.studio.limits import Limits
from segscape.studio.refusal import Refusal
from segscape.studio.study import KINDS, Kind, Study
from segscape.studio.votes import SIDES, Side, Votes

if TYPE_CHECKING:
    from fastapi import APIRouter, FastAPI

DAY = 86_400.0
PAGE = ("survey.html", "text/html")
ASSETS = {
    "/survey.css": ("survey.css", "text/css"),
    "/survey.js": ("survey.js", "text/javascript"),
    "/survey.svg": ("survey.svg", "image/svg+xml"),
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


def create_app(study: Path, access: Access | None = None) -> FastAPI:
    """The web application of a study alone.

    Args:
        study: the folder of a study that `prepare_study` has made.
        access: who may vote; by default, this machine.

    Raises:
        EvaluationError: no study is there, or pictures are missing.
        DependencyError: FastAPI is not installed.
    """
    app = new_app("Segscape preference study", access or Access(), Limits())
    app.include_router(survey_router(study, "/"))
    return app


def survey_router(study: Path, page: str) -> APIRouter:
    """The addresses of a study, for an application of `segscape.studio.application.new_app`.

    Args:
        study: its folder.
        page: the address of the page.

    Raises:
        EvaluationError: no study is there, or pictures are missing.
        DependencyError: FastAPI is not installed.
    """
    fastapi = require("fastapi", "studio")
    survey = _Survey(Study.open(study))
    router: APIRouter = fastapi.APIRouter()
    router.get("/api/pairs", response_model=Session)(survey.session)
    router.post("/api/votes", response_model=Saved)(survey.vote)
    router.get("/pictures/{address}", response_class=fastapi.Response, response_model=None)(survey.picture)
    for path, (name, media_type) in {page: PAGE, **ASSETS}.items():
        router.get(path, response_model=None, include_in_schema=False)(_asset(name, media_type))
    return router


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
        self.sizes = [stored_size(study.picture("a", item)) for item in self.items]
        self.files = {self._address(kind, item): study.picture(kind, item) for kind in KINDS for item in self.items}

    def session(self, rater: RaterName) -> Session:
        """What a rater has to compare."""
        plan = arrange(self.study.key, rater, len(self.items))
        left = {place.item: place.left for place in plan}
        with _explained():
            done = self.votes.done(rater)
        answered = [
            Answer(item=item, choice="left" if vote.choice == left[item] else "right")
            for vote in done
            if (item := self.numbers.get(vote.item)) is not None
        ]
        return Session(rater=rater, pairs=[self._pair(place) for place in plan], answered=answered)

    def vote(self, vote: NewVote) -> Saved:
        """Keep a vote."""
        if vote.item >= len(self.items):
            raise Refusal(404, f"this study has {len(self.items)} pairs, numbered from 0: there is no {vote.item}")
        plan = arrange(self.study.key, vote.rater, len(self.items))
        left = next(place.left for place in plan if place.item == vote.item)
        choice = left if vote.choice == "left" else _other(left)
        with _explained():
            self.votes.record(vote.rater, self.items[vote.item], left=left, choice=choice, seconds=vote.seconds)
            return Saved(answered=len(self.votes.done(vote.rater)), total=len(self.items))

    def picture(self, address: str) -> Any:
        """One picture, as PNG."""
        from fastapi import Response

        path = self.files.get(address)
        if path is None:
            raise Refusal(404, "there is no such picture")
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


def _asset(name: str, media_type: str) -> Callable[[], Any]:
    content = files("segscape.studio").joinpath(name).read_text(encoding="utf-8")

    def asset() -> Any:
        from fastapi import Response

        return Response(content, media_type=media_type)

    return asset


@contextmanager
def _explained() -> Iterator[None]:
    """Tell the rater that it is not their fault, 503, and whoever runs the server what it is."""
    try:
        yield
    except EvaluationError as error:
        logging.getLogger("uvicorn.error").error("%s", error)
        sentence = "The file of the votes cannot be used just now; tell whoever runs the study, or try again."
        raise Refusal(503, sentence) from None


def _other(side: Side) -> Side:
    return "b" if side == "a" else "a"
