"""`segscape dataset outdoor`: the outdoor scenes of ADE20K."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segscape.cli.options import require_writable
from segscape.errors import DataError


def outdoor(
    root: Annotated[Path, typer.Argument(metavar="ADE_ROOT", help="Folder of ADE20K SceneParsing.")],
    out: Annotated[Path, typer.Option(metavar="LIST", help="The text file to write.")],
    classes: Annotated[
        str, typer.Option(metavar="NAME,NAME,...", help="One of these classes makes a scene an outdoor one.")
    ] = "sky,tree,sea",
    minimum_share: Annotated[
        float, typer.Option(min=0, max=1, help="They must cover more than this share of the pixels.")
    ] = 0.0,
    force: Annotated[bool, typer.Option("--force", help="Replace a list that exists.")] = False,
) -> None:
    """List the outdoor scenes of ADE20K: those with sky, trees or sea in them, as the CLADE paper selects them.

    The list stands for the dataset wherever a folder of data is asked for. The paper does not name all its classes, so
    compare the counts.
    """
    require_writable("--out", out)
    if out.exists() and not force:
        raise DataError(f"{out} exists already: choose another --out, or add --force to replace it.")

    from segscape.data.folder import FileDataset
    from segscape.data.published.ade20k import KIND, OUTDOOR_SIZES, outdoor_names
    from segscape.data.published.subset import Subset

    wanted = [name.strip() for name in classes.split(",") if name.strip()]
    found = {}
    for split in KIND.find_splits(root) or ("train",):
        listing = FileDataset(KIND.listing(root, split)).listing
        found[split] = outdoor_names(listing, wanted, minimum_share)
        paper = f"; the paper: {OUTDOOR_SIZES[split]:,} of {KIND.sizes[split]:,}"
        print(f"{split:>5}: {len(found[split]):,} of {len(listing.samples):,} images{paper}")
    Subset(out, root, found).write()
    print(f"list in {out.resolve()}")
