"""`segscape fit-styles`: what a dataset tells a model about styles, saved with the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segscape.cli.options import prepare_folder, require_no_model
from segscape.errors import StyleError


def fit_styles(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder or Hugging Face id of a model.")],
    data: Annotated[
        Path,
        typer.Option(help="Folder of a dataset, published or images/ and labels/ (or the same in train/ and val/)."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the model with its styles; may be MODEL, with --force.")],
    split: Annotated[str, typer.Option(help="The split whose photos are looked at.")] = "train",
    batch_size: Annotated[int, typer.Option(min=1, help="Photos at a time; changes nothing else.")] = 4,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0, mps.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace a model that exists.")] = False,
) -> None:
    """Store the styles of a dataset with a model: SEAN's mean codes, the clusters of pix2pixHD with styles.

    SEAN takes the mean code of a class where no style is given and a reference photo lacks the class; pix2pixHD draws
    random styles from the clusters. Training has done this with some of its photos; a converted model needs it.
    """
    require_no_model(out, force)

    from tqdm import tqdm

    from segscape.data.open import open_pairs
    from segscape.inference.pipeline import choose_device
    from segscape.models import load_model
    from segscape.models.pretrained import find_folder
    from segscape.training.stored_styles import dataset_photos

    place = choose_device(device)
    generator = load_model(model).to(place)
    if not generator.can_fit_styles:
        raise StyleError(
            f"{model} stores no styles of a dataset, so there is nothing to fit: SEAN does (mean codes), and pix2pixHD "
            "with feature_channels (clusters)."
        )
    dataset = open_pairs(data, generator.config.labels, split)
    photos = dataset_photos(dataset, generator.config, batch_size, place)
    generator.fit_styles(tqdm(photos, total=-(-len(dataset) // batch_size), unit="batch", disable=None))
    prepare_folder(out)
    card = find_folder(model) / "README.md"
    generator.save_pretrained(out, card=card.read_text(encoding="utf-8") if card.is_file() else None)
    print(f"styles of {len(dataset)} photos; the model is in {out.resolve()}")
