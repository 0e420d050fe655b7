"""`segscape dataset convert`: any dataset in, a plain folder or shards out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segscape.cli.options import parse_label_set, parse_size, report
from segscape.errors import SegscapeError

if TYPE_CHECKING:
    from segscape.data.conversion.layouts import Conversion
    from segscape.data.listing import Problem
    from segscape.data.shards.writing import OnProblems

SOME_LEFT_OUT = 1


class Form(str, Enum):
    """What to write."""

    folder = "folder"
    shards = "shards"


def convert(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A dataset: a folder, or the folder or URL of shards.")],
    to: Annotated[Form, typer.Option(help="folder: images/, labels/ and instances/; shards: tar files for streaming.")],
    out: Annotated[str, typer.Option(help="A new folder; shards may also go to a URL.")],
    split: Annotated[
        str | None, typer.Option(help="Convert this split only, straight into OUT; by default each into OUT/SPLIT.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="SET", help="Label set of the results: its name, a JSON file, or a number of classes."),
    ] = None,
    remap: Annotated[
        str | None,
        typer.Option(
            metavar="TABLE",
            help="Rename values, colours or classes: 3=7,255=11,#804080=road,*=same, or a YAML or JSON file like that.",
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="HxW|SIDE", help="Resize to height and width, or to a short side.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="What PATH holds, if it is not recognised: ade20k, ...")] = None,
    samples_per_shard: Annotated[int, typer.Option(min=1, help="Best so that a shard takes some 100 MB.")] = 1000,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read and write.")] = 0,
) -> None:
    """Bring a dataset into another layout.

    Photographs that keep their size are copied byte by byte. Label maps become index PNGs with a palette. Broken
    samples are reported and left out; the exit code is then 1. An interrupted conversion to shards goes on when the
    same command is given again.
    """
    target_size = None if size is None else _parse_size(size)
    if to is Form.folder and "://" in out:
        raise SegscapeError(f"--out {out}: folders are written to local disks only; choose --to shards for a URL.")

    from segscape.data.conversion.layouts import find_splits, open_conversion, write_folders
    from segscape.data.shards.storage import join
    from segscape.data.shards.writing import write_shards

    target = None if labels is None else parse_label_set(labels)
    splits = {"": split} if split else {name: name or None for name in find_splits(path, kind)}
    opened = {
        place: open_conversion(path, name, kind=kind, labels=target, remap=remap, size=target_size)
        for place, name in splits.items()
    }
    conversions = {place: conversion for place, (conversion, _) in opened.items()}
    problems = [problem for _, found in opened.values() for problem in found]
    _print(problems)
    if to is Form.folder:
        with _progress(sum(map(len, conversions.values())), "sample") as bar:
            problems += write_folders(conversions, Path(out), workers=workers, report=bar)
    else:
        for place, conversion in conversions.items():
            with _progress(-(-len(conversion) // samples_per_shard), "shard") as bar:
                problems += write_shards(
                    conversion, join(out, place), samples_per_shard=samples_per_shard, workers=workers, report=bar
                )
    _summarise(conversions, out, len(problems))


def _parse_size(text: str) -> int | tuple[int, int]:
    """`HxW`, or the one number of a short side; raises SegscapeError."""
    is_side = text.isascii() and text.isdecimal() and int(text) > 0
    return int(text) if is_side else parse_size(text)


@contextmanager
def _progress(total: int, unit: str) -> Iterator[OnProblems]:
    """A progress bar that goes on, and prints problems above it, when it is called."""
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, disable=None) as bar:

        def advance(problems: Sequence[Problem]) -> None:
            _print(problems)
            bar.update()

        yield advance


def _print(problems: Sequence[Problem]) -> None:
    for problem in problems:
        report(problem.path, SegscapeError(problem.message))


def _summarise(conversions: dict[str, Conversion], out: str, left_out: int) -> None:
    for place, conversion in conversions.items():
        print(f"{place or 'all'}: {len(conversion)} samples, label set {conversion.labels.name!r}")
    print(f"in {out}")
    if left_out:
        print(f"{left_out} problem{'s' * (left_out != 1)}; what is broken was left out")
        raise typer.Exit(SOME_LEFT_OUT)
