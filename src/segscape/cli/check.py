"""`segscape check-dataset`: find what is wrong with a folder of pairs before training does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segscape.cli.options import parse_labels, report
from segscape.errors import SegscapeError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from segscape.data import FolderDataset
    from segscape.labels import LabelSet


def check_dataset(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder of photos.")],
    label_maps: Annotated[Path, typer.Argument(metavar="LABELS", help="Folder of label maps of the same names.")],
    labels: Annotated[str, typer.Option(metavar="SET", help="Label set: its name, a JSON file, or a number.")],
    instances: Annotated[Path | None, typer.Option(help="Folder of instance maps of the same names.")] = None,
) -> None:
    """Check that photos and label maps pair up and hold what the label set allows.

    Prints how often each class occurs, and every bad file; the exit code is 2 if there is any.
    """
    from tqdm import tqdm

    from segscape.data import FolderDataset
    from segscape.models.generator import as_label_set

    label_set = as_label_set(parse_labels(labels))
    dataset = FolderDataset(None, label_maps, label_set)
    bad = 0
    try:
        dataset = FolderDataset(images, label_maps, label_set, instances)
        print(f"{len(dataset)} pairs")
    except SegscapeError as error:  # files that do not pair up; their label maps can still be checked
        bad += 1
        report(images, error)
    counts = []
    for index in tqdm(range(len(dataset)), unit="map", disable=None):
        try:
            counts.append(_count(dataset, index))
        except SegscapeError as error:
            bad += 1
            report(label_maps, error)
    if counts:
        _print_classes(label_set, counts)
    if bad:
        print(f"{bad} problem{'s' * (bad != 1)} in {len(dataset)} label maps")
        raise typer.Exit(2)
    print("everything fits")


def _count(dataset: FolderDataset, index: int) -> npt.NDArray[np.int64]:
    """Pixels of each class in one label map, `[num_classes]`; reads its photo and instance map too."""
    import numpy as np

    label_map = dataset.sample(index).label_map
    return np.bincount(label_map.ravel(), minlength=dataset.labels.num_classes)


def _print_classes(labels: LabelSet, counts: list[npt.NDArray[np.int64]]) -> None:
    import numpy as np

    table = np.stack(counts)
    pixels, maps = table.sum(0), (table > 0).sum(0)
    print(f"{'index':>5}  {'pixels':>12}  {'share':>7}  {'maps':>6}  class")
    for index, name in enumerate(labels.names):
        share = pixels[index] / pixels.sum()
        print(f"{index:>5}  {pixels[index]:>12,}  {share:>7.2%}  {maps[index]:>6}  {name}")
