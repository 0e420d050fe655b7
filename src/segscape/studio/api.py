"""The studio's interface for programs: models, generation, layouts, segmentation, examples. See `/api/openapi.json`."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import APIRouter, File, Form, Header, Query, Request, Response, UploadFile
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData

from segscape.inference.pipeline import Reference
from segscape.labels import LabelSet
from segscape.layout import Layout, Size
from segscape.studio.description import Example, ModelInfo, describe
from segscape.studio.engine import Drawn, Engine, Painting, Photo, Result, Segmentation, StudioModel, Task
from segscape.studio.example_layouts import example_layouts, grey_png, has_examples
from segscape.studio.limits import Limits
from segscape.studio.queue import Done, FairQueue
from segscape.studio.refusal import Refusal
from segscape.studio.snippet import snippet
from segscape.studio.uploads import Uploads, encode_png, scaled_to

SAMPLES = 8
CLASS_STYLES = 64
LARGEST_SEED = 2**53 - 1  # what a browser can count
DECODERS = 2
T = TypeVar("T")


class Problem(BaseModel):
    """Every answer that is no success."""

    error: str = Field(description="What is wrong and how to mend it, in one sentence.")


class Generated(BaseModel):
    """The pictures of a layout."""

    pictures: list[str] = Field(description="PNG files in base64.")
    milliseconds: float = Field(description="That the network took.")
    queued: float = Field(description="Milliseconds that the request waited for the network.")
    seed: int
    snippet: str = Field(description="A Python program that draws them once more.")


class ClassStyle(BaseModel):
    """A class that takes its style from another photo; `photo` and `layout` are names of file fields of the form."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    class_name: Annotated[str, Field(alias="class", max_length=200)]
    photo: Annotated[str, Field(max_length=200)]
    layout: Annotated[str | None, Field(max_length=200)] = None


ClientId = Annotated[
    str | None,
    Header(
        alias="X-Client",
        pattern=r"^[0-9A-Za-z-]{1,64}$",
        description="Of a page: its newest request takes the place of the one that waits, which gets 409.",
    ),
]
ModelId = Annotated[str | None, Form(description="One of /api/models; the first by default.", max_length=200)]
SizeText = Annotated[str | None, Form(description="HxW, to resize the layout to.", pattern=r"^[0-9]{1,5}x[0-9]{1,5}$")]

REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "No token, where one is needed."},
    403: {"model": Problem, "description": "Sent by a page of another site."},
    421: {"model": Problem, "description": "Sent to another host name."},
}
UPLOAD_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "No multipart form."},
    408: {"model": Problem, "description": "The request took too long to arrive."},
    413: {"model": Problem, "description": "Too many bytes or pixels."},
    415: {"model": Problem, "description": "No PNG, JPEG or WebP."},
    422: {"model": Problem, "description": "Wrong values."},
    429: {"model": Problem, "description": "The queue is full; Retry-After says for how many seconds."},
}
QUEUE_REFUSALS: dict[int | str, dict[str, Any]] = {
    **UPLOAD_REFUSALS,
    409: {"model": Problem, "description": "A newer request of the same client replaced this one."},
    503: {"model": Problem, "description": "It took too long."},
}
PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}, "description": "A grey PNG."}
}


class StudioApi:
    """What the addresses under `/api` answer.

    Args:
        engine: the models.
        limits: of requests.
    """

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self.engine, self.limits = engine, limits
        self.queue = FairQueue[Task, Result](
            engine.run,
            engine.thread,
            places=limits.queue,
            seconds=limits.seconds,
            batch_pixels=engine.batch_pixels,
        )
        self._decoders = ThreadPoolExecutor(DECODERS, "segscape-images")
        self._examples = example_layouts()

    def router(self) -> APIRouter:
        """All addresses."""
        router = APIRouter(prefix="/api", responses=REFUSALS)
        router.get("/models", response_model=list[ModelInfo])(self.list_models)
        router.post("/generate", response_model=Generated, responses=QUEUE_REFUSALS)(self.generate)
        png: dict[str, Any] = {"response_class": Response, "response_model": None}
        router.post("/layout", responses={**UPLOAD_REFUSALS, **PNG}, **png)(self.read_layout)
        missing: dict[int | str, dict[str, Any]] = {501: {"model": Problem, "description": "No segmenter."}}
        router.post("/segment", responses={**QUEUE_REFUSALS, **missing, **PNG}, **png)(self.segment)
        wrong: dict[int | str, dict[str, Any]] = {422: {"model": Problem, "description": "No such model."}}
        router.get("/examples", response_model=list[Example], responses=wrong)(self.list_examples)
        unknown: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "No such example."}}
        router.get("/examples/{name}.png", responses={**unknown, **PNG}, **png)(self.example)
        return router

    async def list_models(self) -> list[ModelInfo]:
        """The models that are loaded, the default one first."""
        return [
            describe(
                model.pipeline.model,
                model.id,
                model.name,
                unseen=model.unseen,
                segmenter=model.segmenter is not None,
                noise=model.has_noise,
            )
            for model in self.engine.models.values()
        ]

    async def generate(
        self,
        request: Request,
        layout: Annotated[UploadFile, File(description="PNG, grey with class indices; of 8 or 16 bits.")],
        model: ModelId = None,
        seed: Annotated[
            int | None, Form(ge=0, le=LARGEST_SEED, description="Of random styles; random by default.")
        ] = None,
        samples: Annotated[int, Form(ge=1, le=SAMPLES, description="Pictures in as many random styles.")] = 1,
        size: SizeText = None,
        style: Annotated[UploadFile | None, File(description="A photo that lends its style.")] = None,
        style_layout: Annotated[UploadFile | None, File(description="Its layout, as PNG.")] = None,
        class_style: Annotated[
            list[str] | None,
            Form(
                max_length=CLASS_STYLES,
                description='JSON {"class": name, "photo": file field, "layout": file field}: a class that takes its '
                "style from another photo of the form.",
            ),
        ] = None,
        x_client: ClientId = None,
    ) -> Generated:
        """Turn a layout into pictures."""
        chosen = self._model(model)
        form = await request.form()
        contents = {"layout": await layout.read()}
        for name, file in (("style", style), ("style_layout", style_layout)):
            if file is not None:
                contents[name] = await file.read()
        wanted = [_class_style(text) for text in class_style or []]
        for entry in wanted:
            for name in filter(None, (entry.photo, entry.layout)):
                contents.setdefault(name, await _file(form, name))
        number = random.randrange(2**31) if seed is None else seed
        painting = await self._decode(
            lambda: self._painting(chosen, contents, wanted, number, samples, _size(size, self.limits))
        )
        done = await self._submit(request, x_client, painting)
        drawn = done.result
        assert isinstance(drawn, Drawn)
        pictures = await self._decode(lambda: [_base64(picture) for picture in drawn.pictures])
        return Generated(
            pictures=pictures,
            milliseconds=round(drawn.milliseconds, 1),
            queued=round(done.queued, 1),
            seed=number,
            snippet=snippet(painting),
        )

    async def read_layout(
        self,
        file: Annotated[UploadFile, File(description="A label map: grey, palette, or in the classes' colours.")],
        model: ModelId = None,
    ) -> Response:
        """Read a label map file as class indices."""
        chosen, content = self._model(model), await file.read()

        def read() -> Response:
            return _grey(Uploads(self.limits).label_map(content, "file", chosen.labels), chosen.labels)

        return await self._decode(read)

    async def segment(
        self,
        request: Request,
        photo: Annotated[UploadFile, File(description="PNG, JPEG or WebP.")],
        model: ModelId = None,
        x_client: ClientId = None,
    ) -> Response:
        """Find the layout of a photo, at about the size of the model's training."""
        chosen, content = self._model(model), await photo.read()
        if chosen.segmenter is None:
            raise Refusal(501, f"No segmenter for the classes of {chosen.name} is installed.")
        shorter = min(chosen.pipeline.model.config.image_size)
        read = await self._decode(lambda: scaled_to(Uploads(self.limits).photo(content, "photo"), shorter))
        self._check_drawn((read.height, read.width), 1)
        done = await self._submit(request, x_client, Segmentation(chosen, read))
        return await self._decode(lambda: _grey(np.asarray(done.result), chosen.labels))

    async def list_examples(
        self, model: Annotated[str | None, Query(description="For whose classes; the first model's by default.")] = None
    ) -> list[Example]:
        """Layouts to start from; none for classes that there are no examples of."""
        names = self._examples if has_examples(self._model(model).labels) else ()
        return [Example(name=name, url=f"/api/examples/{name}.png") for name in names]

    async def example(self, name: str) -> Response:
        """An example as class indices."""
        if name not in self._examples:
            raise Refusal(404, "There is no such example.")
        return Response(self._examples[name], media_type="image/png", headers={"Cache-Control": "max-age=3600"})

    def _model(self, id: str | None) -> StudioModel:
        if id is None:
            return self.engine.default
        if id not in self.engine.models:
            raise Refusal(422, "model: there is no such model; /api/models lists them.")
        return self.engine.models[id]

    def _painting(
        self,
        model: StudioModel,
        contents: dict[str, bytes],
        class_styles: list[ClassStyle],
        seed: int,
        samples: int,
        size: Size | None,
    ) -> Painting:
        """Read all images of a request to draw."""
        uploads, config = Uploads(self.limits), model.pipeline.model.config
        label_map = uploads.label_map(contents["layout"], "layout", model.labels)
        self._check_drawn(size or label_map.shape, samples)
        photos: dict[tuple[str, str | None], Photo] = {}

        def photo(name: str, layout: str | None) -> Photo:
            """As `Pipeline.encode` will see it, so that nothing larger waits in the queue."""
            if (name, layout) not in photos:
                height, width = config.image_size
                read = uploads.photo(contents[name], name).resize((width, height), Image.Resampling.BICUBIC)
                photos[name, layout] = (
                    read if layout is None else _reference(read, uploads, contents, layout, model, config.image_size)
                )
            return photos[name, layout]

        for entry in class_styles:
            model.labels.index(entry.class_name)
        return Painting(
            model,
            label_map,
            size,
            seed,
            samples,
            photo("style", "style_layout" if "style_layout" in contents else None) if "style" in contents else None,
            {entry.class_name: photo(entry.photo, entry.layout) for entry in class_styles},
        )

    def _check_drawn(self, size: tuple[int, ...], samples: int) -> None:
        if size[0] * size[1] * samples > self.limits.drawn:
            side = int((self.limits.drawn / samples) ** 0.5)
            raise Refusal(413, f"{size[0]}x{size[1]} is too large to draw; make it {side}x{side} or smaller.")

    async def _decode(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._decoders, function)

    async def _submit(self, request: Request, client: str | None, task: Task) -> Done[Result]:
        """Wait in the queue, and leave it when the client has gone."""
        peer = request.client.host if request.client else ""
        submitted = asyncio.ensure_future(
            self.queue.submit(client or f"at {peer}", task, newest_wins=client is not None)
        )
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait({submitted, gone}, return_when=asyncio.FIRST_COMPLETED)
            if submitted.done():
                return submitted.result()
            raise Refusal(499, "The client has gone.")
        finally:
            for one in (submitted, gone):
                one.cancel()


def _class_style(text: str) -> ClassStyle:
    try:
        return ClassStyle.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise Refusal(422, f"class_style: {where + ': ' if where else ''}{first['msg']}") from None


async def _file(form: FormData, name: str) -> bytes:
    file = form.get(name)
    if file is None or isinstance(file, str):
        raise Refusal(422, f"class_style: the form has no file {json.dumps(name)}.")
    return await file.read()


def _reference(
    photo: Image.Image, uploads: Uploads, contents: dict[str, bytes], name: str, model: StudioModel, size: Size
) -> Reference:
    label_map = uploads.label_map(contents[name], name, model.labels)
    layout = Layout.from_array(label_map, model.labels).resize(size)
    return Reference(photo, layout.label_map[0].numpy())


def _size(text: str | None, limits: Limits) -> Size | None:
    if text is None:
        return None
    height, width = (int(side) for side in text.split("x"))
    if min(height, width) < 1:
        raise Refusal(422, "size: each side has at least 1 pixel.")
    if max(height, width) > limits.side:
        raise Refusal(413, f"size: a side has at most {limits.side} pixels.")
    return height, width


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _grey(label_map: NDArray[Any], labels: LabelSet) -> Response:
    return Response(grey_png(label_map, labels), media_type="image/png")


def _base64(picture: Image.Image) -> str:
    return base64.b64encode(encode_png(picture)).decode("ascii")
