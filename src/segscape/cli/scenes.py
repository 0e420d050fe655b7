"""`segscape scenes`: procedural scenes, written to a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segscape.cli.options import check_folder, parse_size, prepare_folder
from segscape.errors import DataError


def scenes(
    out: Annotated[Path, typer.Option(help="Folder for images/, labels/ and instances/.")],
    count: Annotated[int, typer.Option(min=1, help="How many scenes.")] = 100,
    size: Annotated[str, typer.Option(metavar="HxW", help="Height and width of each.")] = "128x128",
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same scenes.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that has scenes already.")] = False,
) -> None:
    """Draw streets and landscapes with their label and instance maps: data that needs no download.

    A folder to train on, and to try `dataset inspect` and `generate` with. The label set is `scenes`.
    """
    drawn_size = parse_size(size)
    if (out / "labels").is_dir() and any((out / "labels").iterdir()) and not force:
        raise DataError(f"{out} holds label maps already: choose another --out, or add --force.")
    folders = {kind: out / kind for kind in ("images", "labels", "instances")}
    for folder in folders.values():
        check_folder(folder)

    import numpy as np
    from PIL import Image
    from tqdm import tqdm

    from segscape.data.procedural import ProceduralScenes
    from segscape.files import write_png
    from segscape.label_files import write_label_map

    dataset = ProceduralScenes(count, size=drawn_size, seed=seed)
    for folder in folders.values():
        prepare_folder(folder)
    for index in tqdm(range(count), unit="scene", disable=None):
        sample = dataset.sample(index)
        name = f"{index:06d}.png"
        assert sample.image is not None and sample.instance_map is not None
        write_png(folders["images"] / name, Image.fromarray(sample.image))
        write_label_map(folders["labels"] / name, sample.label_map, dataset.labels)
        write_png(folders["instances"] / name, Image.fromarray(sample.instance_map.astype(np.uint16)))
    print(f"{count} scenes in {out.resolve()}")
