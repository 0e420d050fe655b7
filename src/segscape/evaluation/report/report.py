"""What an evaluation found: `report.json` for programs, `report.html` for people, a table for the screen."""

from __future__ import annotations

import itertools
import json
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from segscape.errors import EvaluationError
from segscape.evaluation.report import pictures
from segscape.evaluation.report.cases import Case, ClassScore, Pixels
from segscape.evaluation.score import Group, Score
from segscape.extras import require
from segscape.files import write_text

FORMAT = 1
"""Number of the form of `report.json`; it changes when older readers would misread the file."""

REPORT_FILE = "report.json"
GROUPS: dict[Group, str] = {
    "fidelity": "Fidelity",
    "agreement": "Agreement with the layout",
    "diversity": "Diversity",
    "cost": "Cost",
}
"""Groups of scores in the order in which reports show them, with their titles."""

REAL_IMAGES = " (real images)"
"""What the name of a score ends with that was measured on the real images, as the ceiling of the same score."""

UNSTATED = "protocol not stated"
MISSING = "–"
LINE = 110


@dataclass(frozen=True)
class Report:
    """Everything that an evaluation of one model found, with how it was measured.

    Attributes:
        title: the model.
        scores: the numbers, each with its protocol.
        classes: per class; empty without a segmenter.
        machine: what it ran on: processor, cores, threads, versions.
        protocol: the protocol as data that JSON can hold.
        created: date of the run, as ISO 8601 writes it.
        images: how many images were generated.
        warnings: what a reader must know before quoting a number.
    """

    title: str
    scores: tuple[Score, ...]
    classes: tuple[ClassScore, ...]
    machine: dict[str, str | int]
    protocol: dict[str, object]
    created: str
    images: int
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it; a score that is not a finite number has the value None."""
        return {"format": FORMAT, **_finite(_ADAPTER.dump_python(self, mode="json"))}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """The report that `to_dict` wrote.

        Raises:
            EvaluationError: another format, or a field is missing or of the wrong kind.
        """
        if data.get("format") != FORMAT:
            raise EvaluationError(
                f"this report has format {data.get('format')!r}, but this version of Segscape reads format {FORMAT}: "
                "measure again, or use the version that wrote it."
            )
        try:
            return _ADAPTER.validate_python(_with_undefined_scores(data))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise EvaluationError(f"the report's field {place!r} is wrong: {first['msg']}.") from None

    def save(self, path: Path) -> None:
        """Write `report.json`, atomically and with every digit.

        Raises:
            EvaluationError: `protocol` holds something that JSON cannot.
        """
        try:
            text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise EvaluationError(f"the report cannot be written as JSON: {error}.") from None
        write_text(path, text + "\n")

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read a `report.json`, or the one in the folder `path`.

        Raises:
            EvaluationError: there is none, or it is not a report of this format.
        """
        file = path / REPORT_FILE if path.is_dir() else path
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise EvaluationError(f"{file}: there is no report; `segscape evaluate` writes one.") from None
        except (ValueError, RecursionError):
            raise EvaluationError(f"{file} is not JSON; give the report.json that `segscape evaluate` wrote.") from None
        if not isinstance(data, dict):
            raise EvaluationError(f"{file} is JSON but no report; give what `segscape evaluate` wrote.")
        try:
            return cls.from_dict(data)
        except EvaluationError as error:
            raise EvaluationError(f"{file}: {error}") from None


_ADAPTER: TypeAdapter[Report] = TypeAdapter(Report)


@dataclass(frozen=True)
class Row:
    """One line of a table of scores.

    Attributes:
        score: on the generated images.
        ceiling: the same on the real images, where it was measured.
    """

    score: Score
    ceiling: Score | None = None

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols behind the numbers of the row; two if the ceiling was measured in another way."""
        return tuple(dict.fromkeys(score.protocol or UNSTATED for score in self._scores))

    @property
    def notes(self) -> tuple[str, ...]:
        """What else must be said about the numbers."""
        return tuple(dict.fromkeys(score.note for score in self._scores if score.note))

    @property
    def numbers(self) -> tuple[str, str]:
        """The score and its ceiling in figures, with as many decimals; no ceiling is an empty text."""
        places = decimals((score.value for score in self._scores), self.score.unit)
        ceiling = "" if self.ceiling is None else figure(self.ceiling.value, places)
        return figure(self.score.value, places), ceiling

    @property
    def _scores(self) -> tuple[Score, ...]:
        return (self.score,) if self.ceiling is None else (self.score, self.ceiling)


def decimals(values: Iterable[float], unit: str = "") -> int:
    """How many decimals numbers that stand together are written with.

    Percentages have two; others four significant digits of the largest, with at least two decimals (one with a unit)
    and at most six.
    """
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if unit == "%" or largest == 0:
        return 2
    return min(6, max(1 if unit else 2, 3 - math.floor(math.log10(largest))))


def figure(value: float, places: int) -> str:
    """A number in figures; a dash if it is not finite."""
    return f"{value:.{places}f}" if math.isfinite(value) else MISSING


def grouped(scores: Sequence[Score]) -> list[tuple[Group, list[Row]]]:
    """Rows of scores by group, in the order of `GROUPS`, each ceiling beside the score that it belongs to."""
    known = {score.name: score for score in scores}
    ceilings = {score.name for score in scores if score.name.removesuffix(REAL_IMAGES) in known.keys() - {score.name}}
    rows = [Row(score, known.get(score.name + REAL_IMAGES)) for score in scores if score.name not in ceilings]
    by_group = ((group, [row for row in rows if row.score.group == group]) for group in GROUPS)
    return [(group, members) for group, members in by_group if members]


def footnotes(protocols: Sequence[str], mark: Callable[[int], str]) -> list[str]:
    """Protocols as numbered notes: one that only adds to an earlier one says so instead of repeating it.

    Args:
        protocols: distinct; number 1 comes first.
        mark: writes the number of a protocol, as in `"[{}]".format`.
    """
    notes = []
    for number, protocol in enumerate(protocols):
        starts = [start for start in protocols[:number] if protocol.startswith(f"{start}; ")]
        start = max(starts, key=len, default="")
        as_before = f"as {mark(protocols.index(start) + 1)}" if start else ""
        notes.append(as_before + protocol[len(start) :])
    return notes


def screen_table(report: Report) -> str:
    """The scores as plain text for a terminal, grouped; protocols are numbered notes below. Lines stay under 120."""
    groups = grouped(report.scores)
    rows = [row for _, members in groups for row in members]
    marks = _number(protocol for row in rows for protocol in row.protocols)
    width = min(56, max((len(row.score.name) for row in rows), default=0))
    lines = [*_wrap(f"{report.title}: {report.images:,} images, {report.created}"), ""]
    lines.append(f"  {'':<{width}}  {'generated':>12}     {'real images':>12}     better  protocol")
    for group, members in groups:
        lines += [GROUPS[group], *(_screen_line(row, width, marks) for row in members)]
    lines.append("")
    for text, mark in zip(footnotes(list(marks), "[{}]".format), marks.values(), strict=True):
        lines += _wrap(text, f"[{mark}] ")
    for row in rows:
        for note in row.notes:
            lines += _wrap(f"{row.score.name}: {note}", "note: ")
    for warning in report.warnings:
        lines += _wrap(warning, "warning: ")
    return "\n".join(line.rstrip() for line in lines)


def write_report(
    report: Report,
    folder: Path,
    *,
    grid: Sequence[Case] = (),
    worst: Sequence[Case] = (),
    best: Sequence[Case] = (),
    samples: Sequence[tuple[Pixels, Sequence[Pixels]]] = (),
) -> None:
    """Write `report.json`, `report.html` and the pictures that it shows into `folder`.

    The numbers are written first, so that nothing that goes wrong with the pictures can lose them.

    Args:
        report: what was found.
        folder: made with its parents if it is not there.
        grid: cases as they come.
        worst: the cases that agree least with their layouts, worst first.
        best: those that agree most, best first.
        samples: coloured layouts, uint8 `[H, W, 3]`, with several pictures of each, for multi-modal models.

    Raises:
        DependencyError: jinja2 or matplotlib is not installed.
        EvaluationError: `report.protocol` holds something that JSON cannot.
    """
    (folder / pictures.FOLDER).mkdir(parents=True, exist_ok=True)
    report.save(folder / REPORT_FILE)
    galleries = [
        pictures.write_samples(folder, samples),
        pictures.write_cases(folder, "worst", worst, pictures.WITH_PREDICTION),
        pictures.write_cases(folder, "best", best, pictures.WITH_PREDICTION),
    ]
    page = _template().render(
        report=report,
        groups=grouped(report.scores),
        group_titles=GROUPS,
        lines=_lines,
        total_pixels=sum(entry.pixels for entry in report.classes),
        grid=pictures.write_cases(folder, "grid", grid, pictures.SAMPLE),
        bars=pictures.write_bars(folder, report.classes),
        galleries=dict(zip(("samples", "worst", "best"), galleries, strict=True)),
        protocol=json.dumps(report.protocol, indent=2, ensure_ascii=False),
    )
    write_text(folder / "report.html", page)


class _Line(NamedTuple):
    """A row in the page; its protocol cell spans `span` rows, and is left out where that is 0."""

    row: Row
    protocols: tuple[str, ...]
    span: int


def _template() -> Any:
    jinja2 = require("jinja2", "eval")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja")


def _finite(value: Any) -> Any:
    """A JSON value with None in place of the floats that JSON cannot hold, at any depth."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_undefined_scores(data: Mapping[str, Any]) -> dict[str, Any]:
    """`data` with NaN where a score has the value None."""
    scores = data.get("scores")
    if not isinstance(scores, list):
        return dict(data)
    undefined = {"value": math.nan}
    known = [
        score | undefined if isinstance(score, dict) and score.get("value", 0) is None else score for score in scores
    ]
    return {**data, "scores": known}


def _lines(rows: Sequence[Row]) -> list[_Line]:
    """The rows of one table, each with the text and the height of its protocol cell."""
    names: dict[str, str] = {}
    for row in rows:
        for protocol in row.protocols:
            names.setdefault(protocol, row.score.name)
    known = list(names)
    notes = dict(zip(known, footnotes(known, lambda number: f"for {names[known[number - 1]]}"), strict=True))
    lines = []
    for _, neighbours in itertools.groupby(rows, key=lambda row: row.protocols):
        members = list(neighbours)
        texts = tuple(notes[protocol] for protocol in members[0].protocols)
        lines += [_Line(row, texts, len(members) if row is members[0] else 0) for row in members]
    return lines


def _number(texts: Iterable[str]) -> dict[str, int]:
    """Distinct texts, numbered from 1 in the order in which they first come."""
    return {text: number for number, text in enumerate(dict.fromkeys(texts), start=1)}


def _screen_line(row: Row, width: int, marks: Mapping[str, int]) -> str:
    value, ceiling = row.numbers
    unit = row.score.unit
    name = row.score.name if len(row.score.name) <= width else f"{row.score.name[: width - 3]}..."
    numbers = f"{value:>12} {unit:<3} {ceiling:>12} {unit if ceiling else '':<3}"
    return (
        f"  {name:<{width}}  {numbers} {row.score.better or '':<6}  {''.join(f'[{marks[p]}]' for p in row.protocols)}"
    )


def _wrap(text: str, mark: str = "") -> list[str]:
    """`text` in lines of `LINE` characters at most, the first behind `mark`, the others under it."""
    return textwrap.wrap(text, LINE, initial_indent=mark, subsequent_indent=" " * len(mark))
