"""`segscape dataset inspect`: what a dataset holds, and everything that is wrong with it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segscape.cli.options import parse_label_set, require_writable
from segscape.errors import DataError, SegscapeError

if TYPE_CHECKING:
    from segscape.data.inspection.inspection import ClassCount, Inspection
    from segscape.data.listing import Problem

SOMETHING_WRONG = 1
LISTED = 10  # of a kind, before "and N more"
SHEET_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Folder of the dataset, or the list of a part of one.")],
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="SET", help="Label set: its name, a JSON file, or a number; by default the published one."
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Look at this split only, for example val.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="What PATH holds, if it is not recognised: folder, ade20k, ...")
    ] = None,
    as_json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write everything found.")] = None,
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE.jpg", help="Draw samples with their label maps laid over them.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Threads; one per processor by default.")] = None,
) -> None:
    """Read every file of a dataset and report what is there and what is wrong, in one pass.

    Problems must be mended before training; notes work, but deserve a look. The exit code is 1 if there are problems.
    """
    require_writable("--json", as_json)
    require_writable("--sheet", sheet)
    if sheet is not None and sheet.suffix.lower() not in SHEET_SUFFIXES:
        raise SegscapeError(f"--sheet {sheet}: choose a name that ends in {', '.join(SHEET_SUFFIXES)}.")

    from tqdm import tqdm

    from segscape.data.inspection.inspection import inspect_dataset
    from segscape.files import write_text

    label_set = None if labels is None else parse_label_set(labels)
    with tqdm(unit="sample", disable=None) as bar:
        inspection = inspect_dataset(
            path, split=split, kind=kind, labels=label_set, workers=workers, on_sample=lambda: bar.update() and None
        )
    _print(report_lines(inspection))
    if as_json is not None:
        write_text(as_json, json.dumps(inspection.as_json(), indent=1) + "\n")
    if sheet is not None:
        _draw(inspection, sheet)
    if inspection.problems:
        raise typer.Exit(SOMETHING_WRONG)


def report_lines(inspection: Inspection) -> Iterable[str]:
    """The report, line by line."""
    labels = inspection.labels
    vocabulary = f"label set {labels.name!r}" if labels else "no label set named (--labels): labels as they are"
    yield f"{inspection.root}: {inspection.kind}, {vocabulary}"
    for listing in inspection.listings:
        photos = sum(files.image is not None for files in listing.samples)
        instances = sum(files.instance_map is not None for files in listing.samples)
        yield f"{listing.split or 'samples'}: {len(listing.samples)} label maps, {photos} with a photograph" + (
            f", {instances} with an instance map" if instances else ""
        )
    sizes = {f"{height}x{width}": count for (height, width), count in inspection.sizes.items()}
    yield f"sizes (height x width): {_counts(sizes)}"
    yield f"photographs: {_counts(inspection.photo_formats)}"
    yield f"label maps: {_counts(inspection.map_formats)}"
    yield from _class_lines(inspection.classes)
    if inspection.never_seen:
        yield f"classes never seen: {', '.join(inspection.never_seen)}"
    yield from _grouped("problem", inspection.problems)
    yield from _grouped("note", inspection.notes)
    if not inspection.problems:
        yield "everything fits"


def _class_lines(classes: tuple[ClassCount, ...]) -> Iterable[str]:
    total = max(1, sum(entry.pixels for entry in classes))
    seen = [entry for entry in classes if entry.maps]
    if seen:
        yield f"{'label':>15}  {'pixels':>14}  {'share':>7}  {'maps':>7}  class"
    for entry in seen:
        value = entry.value if isinstance(entry.value, int) else "{:d},{:d},{:d}".format(*entry.value)
        yield f"{value:>15}  {entry.pixels:>14,}  {entry.pixels / total:>7.2%}  {entry.maps:>7,}  {entry.name}".rstrip()


def _counts(found: dict[str, int]) -> str:
    items = list(found.items())
    shown = ", ".join(f"{name} ({count})" for name, count in items[:LISTED])
    return (shown or "none") + (f" and {len(items) - LISTED} more" if len(items) > LISTED else "")


def _grouped(what: str, problems: tuple[Problem, ...]) -> Iterable[str]:
    """The first ones of every kind, and how many more there are."""
    if not problems:
        return
    yield ""
    yield f"{len(problems)} {what}{'s' * (len(problems) != 1)}"
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(problem)
    for kind, group in kinds.items():
        yield f"  {kind} ({len(group)})"
        yield from (f"    {problem.message}" for problem in group[:LISTED])
        if len(group) > LISTED:
            yield f"    ... and {len(group) - LISTED} more"


def _print(lines: Iterable[str]) -> None:
    """Print, whatever letters the names of files hold and the terminal knows."""
    encoding = sys.stdout.encoding or "utf-8"
    for line in lines:
        plain = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in line)
        print(plain.encode(encoding, "backslashreplace").decode(encoding))


def _draw(inspection: Inspection, sheet: Path) -> None:
    from segscape.data.inspection.contact_sheet import contact_sheet
    from segscape.data.inspection.draft import draft_label_set
    from segscape.files import write_atomically

    try:
        labels = inspection.labels or draft_label_set(inspection, "draft").labels
    except DataError as error:
        print(f"no contact sheet: {error}", file=sys.stderr)
        return
    picture = contact_sheet(inspection.listings, labels)
    form = "JPEG" if sheet.suffix.lower() in (".jpg", ".jpeg") else sheet.suffix[1:].upper()
    write_atomically(sheet, lambda part: picture.save(part, format=form))
    print(f"contact sheet in {sheet.resolve()}")
