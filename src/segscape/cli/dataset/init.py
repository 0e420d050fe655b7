"""`segscape dataset init`: a draft of a label set and a recipe for a dataset."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from segscape.cli.options import check_folder, prepare_folder
from segscape.errors import DataError

HEADER = """\
# A draft by `segscape dataset init`: {description}
# The papers use the features of VGG-19 (features: vgg19), if its weights are at hand; precision: bf16 saves GPU memory.
"""


def init(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Folder of the dataset.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to write the label set and the recipe.")] = Path(),
    name: Annotated[str | None, typer.Option(help="Of both files; by default that of PATH.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="What PATH holds, if it is not recognised: folder, ade20k, ...")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Write a first label set and a first recipe for a dataset, from the labels and sizes found in it.

    Look over both, above all the names of the classes, and train.
    """
    name = name or (path.resolve().name if path.is_dir() else path.stem)
    label_file, recipe_file = out / f"{name}.json", out / f"{name}.yaml"
    taken = [file for file in (label_file, recipe_file) if file.exists()]
    if taken and not force:
        raise DataError(f"{taken[0]} exists already: choose another --name or --out, or add --force to replace it.")
    check_folder(out)

    from tqdm import tqdm

    from segscape.data.inspection.draft import draft_label_set, draft_recipe, recipe_text
    from segscape.data.inspection.inspection import inspect_dataset
    from segscape.files import write_text

    with tqdm(unit="sample", disable=None) as bar:
        inspection = inspect_dataset(path, kind=kind, on_sample=lambda: bar.update() and None)
    draft = None if inspection.labels else draft_label_set(inspection, name)
    recipe = draft_recipe(inspection, str(label_file.resolve()))
    prepare_folder(out)
    if draft is not None:
        draft.labels.save(label_file)
        print(f"label set: {label_file}, {draft.labels.num_classes} classes; give them their names")
        for remark in draft.remarks:
            print(f"  {remark}")
    description = f"{sum(inspection.samples.values())} samples of {path}."
    write_text(recipe_file, HEADER.format(description=description) + recipe_text(recipe))
    print(f"recipe: {recipe_file}")
    if inspection.problems:
        count = len(inspection.problems)
        print(f"{count} problem{'s' * (count != 1)} to mend first: segscape dataset inspect {shlex.quote(str(path))}")
    print(f"then: segscape train {shlex.quote(str(recipe_file))}")
