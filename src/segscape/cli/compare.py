"""`segscape compare`: which of two models do people find more realistic?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segscape.cli.options import check_folder, parse_labels, parse_size, require_writable
from segscape.errors import SegscapeError

if TYPE_CHECKING:
    from segscape.studio.study import Study
    from segscape.studio.votes import PreferenceReport


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A model (folder or Hugging Face id) or a folder of pictures.")],
    b: Annotated[str, typer.Argument(metavar="B", help="What to compare it with, likewise.")],
    out: Annotated[Path, typer.Option(help="Folder of the study.")],
    vote: Annotated[bool, typer.Option("--vote", help="Make the pictures and serve the page that asks.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Print what the votes say.")] = False,
    data: Annotated[Path | None, typer.Option(help="Folder of the dataset that the layouts come from.")] = None,
    split: Annotated[str, typer.Option(help="Which split of the data, where it has any.")] = "val",
    labels: Annotated[
        str | None, typer.Option(metavar="SET", help="Label set of the data; that of the first model by default.")
    ] = None,
    items: Annotated[int, typer.Option(min=1, help="How many layouts, chosen at random.")] = 40,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Of the choice, the order, and random styles.")] = 0,
    size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Of the pictures; the models' training size by default.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0, mps.")] = "auto",
    host: Annotated[
        str, typer.Option(help="Address to serve at; 0.0.0.0 lets other machines in, with the token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve at; 0 takes a free one.")] = 8765,
    json_file: Annotated[Path | None, typer.Option("--json", help="With --report: write it here too.")] = None,
) -> None:
    """Ask people which of two pictures of one layout is more realistic, as in Table V of the CLADE paper.

    --vote serves a local page; raters can stop and go on, and there can be many. --report prints the percentage that
    prefers A with a 95 % interval.
    """
    if vote == report:
        raise SegscapeError("compare either collects votes or reports them: give one of --vote and --report.")
    if json_file is not None and not report:
        raise SegscapeError("--json writes a report: give it with --report.")
    require_writable("--json", json_file)
    if report:
        _report(a, b, out, json_file)
        return
    wanted = None if size is None else parse_size(size)
    check_folder(out)

    from segscape.extras import require

    for package in ("fastapi", "uvicorn"):  # before the pictures are made, which can take long
        require(package, "studio")

    from segscape.studio.guard import Access
    from segscape.studio.server import serve
    from segscape.studio.study import StudyRequest, prepare_study
    from segscape.studio.survey import create_app

    known = None if labels is None else parse_labels(labels)
    study = prepare_study(out, StudyRequest(a, b, data, split, items, seed, wanted, known), device)
    print(f"{len(study.plan.items)} pairs in {study.folder.resolve()}")
    access = Access.at(host)
    serve(create_app(study.folder, access), host, port, _announce, access)
    print("stopped; the votes are kept, and the same command goes on")


def _announce(address: str) -> None:
    print(f"open {address} to vote; Ctrl-C stops", flush=True)


def _report(a: str, b: str, out: Path, json_file: Path | None) -> None:
    from segscape.studio.study import Study
    from segscape.studio.votes import Votes

    study = Study.open(out)
    study.require_sources(a, b)
    found = Votes(study.votes_path).report()
    print(_describe(study, found))
    if json_file is not None:
        _write_json(json_file, study, found)


def _describe(study: Study, found: PreferenceReport) -> str:
    a, b = study.titles
    width = max(len("rater"), *(len(row.rater) for row in found.per_rater))
    lines = [
        f"{found.percentage:.1f} % prefer {a} (A) over {b} (B)",
        f"95 % interval {found.low:.1f} to {found.high:.1f} % ({found.assumption})",
        f"{_count(found.votes, 'vote')} of {_count(found.raters, 'rater')}, "
        f"on {found.items} of {_count(len(study.plan.items), 'item')}",
        f"p = {found.p_value:.3g} against 50 % (two-sided binomial test, which takes all votes as independent)",
        "",
        f"{'rater':<{width}}  votes  for A",
        *(f"{row.rater:<{width}}  {row.votes:>5}  {row.percentage:>4.0f} %" for row in found.per_rater),
    ]
    return "\n".join(lines)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _write_json(path: Path, study: Study, found: PreferenceReport) -> None:
    import json
    from dataclasses import asdict

    from segscape.files import write_text
    from segscape.studio.votes import PROTOCOL

    content = {
        "protocol": PROTOCOL,
        "study": study.plan.model_dump(mode="json"),
        "preference": {**asdict(found), "assumption": found.assumption},
    }
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
