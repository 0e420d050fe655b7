"""What a preference study compares, and its pictures: `study.json` and `pictures/` in the folder of the study."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError
from tqdm import tqdm

from segscape.data.folder import FileDataset, files_by_name, stored_size
from segscape.data.open import open_pairs
from segscape.errors import DataError, EvaluationError
from segscape.evaluation.fidelity.reference import read_resized
from segscape.files import write_png, write_text
from segscape.inference import Pipeline
from segscape.labels import LabelSet, as_label_set
from segscape.layout import Layout, Size
from segscape.studio.votes import SIDES

Kind = Literal["a", "b", "layouts"]
KINDS: tuple[Kind, ...] = (*SIDES, "layouts")


class StudyPlan(BaseModel):
    """The content of `study.json`.

    Attributes:
        format: version of this file.
        a, b: what is compared: the absolute path of a folder, or a Hugging Face id.
        digests: SHA-256 of the files of a and b where they are local models, else empty.
        data, split: where the layouts are from.
        seed: of the choice of items, of the models' random styles, and of the order in which raters see the pairs.
        size: (height, width) of all pictures, or None where each has the size of its file in a folder of pictures.
        items: names of the layouts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    a: str
    b: str
    digests: tuple[str, str]
    data: str
    split: str
    seed: int
    size: tuple[int, int] | None
    items: tuple[str, ...]


class Study:
    """A study in a folder.

    Attributes:
        folder: holds `study.json`, `pictures/{a,b,layouts}/NAME.png` and `votes.sqlite`.
        plan: what is compared.
    """

    def __init__(self, folder: Path, plan: StudyPlan) -> None:
        self.folder = folder
        self.plan = plan

    @classmethod
    def open(cls, folder: Path) -> Study:
        """The study in a folder.

        Raises:
            EvaluationError: there is none, or its `study.json` is damaged.
        """
        path = folder / "study.json"
        try:
            return cls(folder, StudyPlan.model_validate_json(path.read_bytes()))
        except FileNotFoundError:
            raise EvaluationError(f"{folder} holds no study: make one with --vote, or correct --out.") from None
        except (ValidationError, OSError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
            raise EvaluationError(f"{path} cannot be read as a study ({reason}): choose another --out.") from None

    @property
    def key(self) -> str:
        """A text that no other plan shares; it seeds what is random and must be repeatable."""
        return hashlib.sha256(self.plan.model_dump_json().encode()).hexdigest()

    @property
    def votes_path(self) -> Path:
        """The database of the votes."""
        return self.folder / "votes.sqlite"

    @property
    def titles(self) -> tuple[str, str]:
        """Short names of a and b: the last parts of their paths, or all of them where those are the same."""
        a, b = (Path(source).name for source in (self.plan.a, self.plan.b))
        return (a, b) if a != b else (self.plan.a, self.plan.b)

    def picture(self, kind: Kind, item: str) -> Path:
        """The file of one picture of one item; `layouts` is the layout in colour."""
        return self.folder / "pictures" / kind / f"{item}.png"

    def missing(self) -> list[str]:
        """The items that lack a picture."""
        return [item for item in self.plan.items if not all(self.picture(kind, item).is_file() for kind in KINDS)]

    def require_sources(self, a: str, b: str) -> None:
        """Raise EvaluationError unless this study compares `a` with `b`, in this order.

        A source is known by its path or id, and a local model that has moved by its digest.
        """
        plan = self.plan
        for letter, given, own, digest in zip("AB", (a, b), (plan.a, plan.b), plan.digests, strict=True):
            if own not in (given, _identify(given)) and not (digest and digest == _digest(given)):
                raise EvaluationError(
                    f"{self.folder} holds a study of {plan.a} (A) against {plan.b} (B), but {letter} is now "
                    f"{given}: name the same two in the same order, or choose another --out."
                )


@dataclass(frozen=True)
class StudyRequest:
    """What somebody asks for; `prepare_study` turns it into a `StudyPlan`.

    Attributes:
        a, b: a model's folder or Hugging Face id, or a folder of pictures with the layouts' names.
        data: folder of pairs (see `segscape.data.open.open_pairs`); None only to continue a study.
        split: of the data.
        items: how many layouts to choose at random.
        seed: 0 or more.
        size: (height, width) of the pictures; None takes that of the pictures in folders, else the training size.
        labels: label set of the data (name, file, or number of classes); None takes that of the first model.
    """

    a: str
    b: str
    data: Path | None
    split: str = "val"
    items: int = 40
    seed: int = 0
    size: Size | None = None
    labels: str | int | None = None


def prepare_study(folder: Path, request: StudyRequest, device: str = "auto") -> Study:
    """Make a study, or continue one: the pictures that exist are kept.

    Raises:
        EvaluationError: the folder holds another study, or the pictures would not have one size.
        DataError: too few layouts or pictures, or unreadable ones.
        CheckpointError, ConfigError: a model cannot be loaded.
    """
    study: Study | None = None
    if (folder / "study.json").exists():
        study = Study.open(folder)
        _require_same(study, request)
        if not study.missing():
            return study
    sources = _open_source(request.a, device), _open_source(request.b, device)
    dataset = _open_data(request, study, sources)
    if study is None:
        study = Study(folder, _plan(request, dataset, sources))
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "study.json", study.plan.model_dump_json(indent=1) + "\n")
    for item in tqdm(study.missing(), unit="pair", disable=None):
        _draw(study, item, dataset, sources)
    return study


class _ModelSource:
    """A model that generates its pictures."""

    def __init__(self, name: str, device: str) -> None:
        self.pipeline = Pipeline.from_pretrained(name, device)
        self.labels: LabelSet | None = self.pipeline.labels

    def has(self, item: str) -> bool:
        return True

    def size(self, item: str) -> Size | None:
        return None

    def picture(self, item: str, layout: Layout, size: Size, seed: int) -> Image.Image:
        return self.pipeline(layout, seed=seed, size=size)[0]


class _FolderSource:
    """Pictures in files, paired with the layouts by name."""

    labels: LabelSet | None = None

    def __init__(self, folder: Path) -> None:
        self.files = files_by_name(folder, "picture")

    def has(self, item: str) -> bool:
        return item in self.files

    def size(self, item: str) -> Size | None:
        return stored_size(self.files[item])

    def picture(self, item: str, layout: Layout, size: Size, seed: int) -> Image.Image:
        return Image.fromarray(read_resized(self.files[item], size))


_Source = _ModelSource | _FolderSource


def _open_source(name: str, device: str) -> _Source:
    folder = Path(name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        return _FolderSource(folder)
    return _ModelSource(name, device)


def _open_data(request: StudyRequest, study: Study | None, sources: Sequence[_Source]) -> FileDataset:
    data = request.data if study is None else Path(study.plan.data)
    if data is None:
        raise EvaluationError("a new study needs the layouts: give their folder with --data.")
    if request.labels is not None:
        labels = as_label_set(request.labels)
    else:
        known = [source.labels for source in sources if source.labels is not None]
        if not known:
            raise EvaluationError("neither A nor B is a model that knows the classes of the data: give --labels.")
        labels = known[0]
    return open_pairs(data, labels, request.split)


def _plan(request: StudyRequest, dataset: FileDataset, sources: Sequence[_Source]) -> StudyPlan:
    usable = [name for name in dataset.names if all(source.has(name) for source in sources)]
    if len(usable) < request.items:
        raise DataError(
            f"{request.data} has {len(dataset)} layouts in {request.split}, {len(usable)} of them with pictures of A "
            f"and B, fewer than --items {request.items}: ask for fewer (a picture has the name of its label map)."
        )
    items = random.Random(f"items {request.seed}").sample(usable, request.items)
    size = _one_size(request.size, sources)
    if size is None:
        for item in items:
            _file_size(item, sources)  # what it refuses needs --size, which cannot change once the plan is written
    return StudyPlan(
        a=_identify(request.a),
        b=_identify(request.b),
        digests=(_digest(request.a), _digest(request.b)),
        data=str(Path(str(request.data)).resolve()),
        split=request.split,
        seed=request.seed,
        size=size,
        items=tuple(items),
    )


def _one_size(wanted: Size | None, sources: Sequence[_Source]) -> Size | None:
    """The size of all pictures; None where files decide, one by one."""
    if wanted is not None:
        return wanted
    models = [source.pipeline.model for source in sources if isinstance(source, _ModelSource)]
    if len(models) < len(sources):
        return None
    first, second = (model.config.image_size for model in models)
    if first != second:
        raise EvaluationError(
            f"A was trained at {first[0]}x{first[1]} and B at {second[0]}x{second[1]}: say with --size at which size "
            "to compare them."
        )
    return first


def _draw(study: Study, item: str, dataset: FileDataset, sources: Sequence[_Source]) -> None:
    """Write what is missing of one item; raises DataError if its layout or a picture to copy is not there any more."""
    plan = study.plan
    there = [item in dataset.names, *(source.has(item) for source in sources)]
    gone = [place for place, found in zip((plan.data, plan.a, plan.b), there, strict=True) if not found]
    if gone:
        raise DataError(
            f"{study.folder} shows {item}, which is no longer in {' and '.join(gone)}: put it back, or choose another "
            "--out."
        )
    index = dataset.names.index(item)
    sample = dataset.sample(index)
    layout = Layout.from_array(sample.label_map, dataset.labels, sample.instance_map)
    size = plan.size or _file_size(item, sources)
    for side, source in zip(SIDES, sources, strict=True):
        path = study.picture(side, item)
        if not path.is_file():
            _write(path, source.picture(item, layout, size, plan.seed + index))
    label_map = layout.resize(size).label_map[0].numpy()
    _write(study.picture("layouts", item), Image.fromarray(np.ascontiguousarray(dataset.labels.colorize(label_map))))


def _file_size(item: str, sources: Sequence[_Source]) -> Size:
    """The size of the files of an item; raises EvaluationError if they have several."""
    sizes = {size for source in sources if (size := source.size(item)) is not None}
    if len(sizes) != 1:
        found = " and ".join(sorted(f"{height}x{width}" for height, width in sizes))
        raise EvaluationError(f"the pictures of {item} are {found}: say with --size at which size to compare them.")
    return sizes.pop()


def _write(path: Path, picture: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, picture)


def _require_same(study: Study, request: StudyRequest) -> None:
    """Raise EvaluationError if the request is not the one that the study was made from."""
    study.require_sources(request.a, request.b)
    plan, given = study.plan, request.data
    differing = [
        f"{name} {own}, not {found}"
        for name, own, found in (
            ("--data", plan.data, plan.data if given is None else str(given.resolve())),
            ("--split", plan.split, request.split),
            ("--seed", plan.seed, request.seed),
            ("--items", len(plan.items), request.items),
            ("--size", _spell(plan.size), _spell(request.size or plan.size)),
        )
        if own != found
    ]
    if differing:
        raise EvaluationError(f"{study.folder} holds a study with {'; '.join(differing)}: choose another --out.")
    for letter, own, source in zip("AB", plan.digests, (request.a, request.b), strict=True):
        if own and _digest(source) not in ("", own):  # empty: the model is gone, but its pictures may be all there
            raise EvaluationError(
                f"the model {source} ({letter}) has changed since the study in {study.folder} was made: "
                "choose another --out."
            )


def _spell(size: Size | None) -> str:
    return "that of the files" if size is None else f"{size[0]}x{size[1]}"


def _identify(source: str) -> str:
    """The absolute path of a folder; the id of a model on the hub stays as it is."""
    return str(Path(source).resolve()) if Path(source).exists() else source


def _digest(source: str) -> str:
    """SHA-256 of a local model's files; empty for anything else."""
    if not (Path(source) / "config.json").is_file():
        return ""
    digest = hashlib.sha256()
    for name in ("config.json", "model.safetensors"):
        digest.update((Path(source) / name).read_bytes())
    return digest.hexdigest()
