"""Time of the intra-class positional encoding: labelling class by class, as it was, by runs, and from the disk cache.

`--data` names folders of label maps (index PNGs), read at 256x256 and at their own size (the first one's is printed);
drawn scenes and noise are always measured. Noise is the worst case. One thread. Each row is the median over
its maps of each map's fastest repetition, since other work on a machine only ever adds time. `--quick` repeats less.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from segscape.data.position_cache import PositionCache
from segscape.data.procedural import ProceduralScenes
from segscape.evaluation.cost.timing import machine, thread_count
from segscape.position import intra_class_position

Map = NDArray[np.int64]
SIDE, MAPS = 256, 8
"""Pixels of a resized map's side; how many maps of each folder, spread over it."""


def main() -> None:
    """Measure, print the rows, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", default=[], metavar="FOLDER", help="folders of label maps")
    parser.add_argument("--quick", action="store_true", help="two maps of each kind, two repetitions")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    options = parser.parse_args()
    maps, repetitions = (2, 2) if options.quick else (MAPS, 15)
    rows = []
    with thread_count(1):
        computer = machine()
        print(", ".join(f"{key} {value}" for key, value in computer.items()))
        print(f"{'maps':<34}{'size':>10}{'objects':>9}{'by class':>10}{'by runs':>9}{'cached':>8}  ms; difference")
        for name, label_maps in collections(options.data, maps):
            rows.append(row(name, label_maps, repetitions))
            print(line(rows[-1]))
    if options.json:
        content = {"machine": computer, "quick": options.quick, "rows": rows}
        options.json.write_text(json.dumps(content, indent=1) + "\n")


def collections(folders: list[Path], count: int) -> list[tuple[str, list[Map]]]:
    """Named maps: of each folder at 256x256 and at their own size, drawn scenes, and noise of 2 and of 150 classes."""
    found = []
    for folder in folders:
        paths = sorted(folder.rglob("*.png"))
        chosen = paths[:: max(1, len(paths) // count)][:count]
        found += [(str(folder), [read(path, SIDE) for path in chosen])]
        found += [(str(folder), [read(path, None) for path in chosen])]
    scenes = ProceduralScenes(count, size=(SIDE, SIDE))
    rng = np.random.default_rng(0)
    noise = [(f"noise, {classes} classes", [rng.integers(0, classes, (SIDE, SIDE))]) for classes in (2, 150)]
    return [*found, ("drawn scenes", [scenes.sample(index).label_map for index in range(count)]), *noise]


def read(path: Path, side: int | None) -> Map:
    """A label map, resized by nearest neighbour."""
    with Image.open(path) as image:
        resized = image if side is None else image.resize((side, side), Image.Resampling.NEAREST)
        return np.asarray(resized).astype(np.int64)


def row(name: str, label_maps: list[Map], repetitions: int) -> dict[str, Any]:
    """The times in milliseconds, and the greatest difference between the old and the new numbers."""
    with tempfile.TemporaryDirectory() as folder:
        ways = {"by class": by_class, "by runs": intra_class_position, "cached": PositionCache(folder).encode}
        times = {
            way: statistics.median(fastest(encode, label_map, repetitions) for label_map in label_maps)
            for way, encode in ways.items()
        }
    height, width = label_maps[0].shape
    return {
        "maps": name,
        "size": f"{height}x{width}",
        "objects": int(statistics.median(label_objects(label_map)[1] for label_map in label_maps)),
        "milliseconds": times,
        "difference": max(float(np.abs(by_class(m) - intra_class_position(m)).max()) for m in label_maps),
    }


def line(row: dict[str, Any]) -> str:
    """A row of the printed table."""
    times = row["milliseconds"]
    shown = f"{times['by class']:>10.2f}{times['by runs']:>9.2f}{times['cached']:>8.2f}"
    return f"{row['maps']:<34}{row['size']:>10}{row['objects']:>9}{shown}  {row['difference']:.0e}"


def fastest(encode: Callable[[Map], Any], label_map: Map, repetitions: int) -> float:
    """Milliseconds of the fastest of some calls, after one that is not counted."""
    encode(label_map)
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        encode(label_map)
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def by_class(label_map: Map) -> NDArray[np.float32]:
    """The official rule as it was computed before: SciPy labels the objects of one class after the other."""
    objects, count = label_objects(label_map)
    owner = objects.ravel()
    pixels = np.maximum(np.bincount(owner, minlength=count + 1), 1)
    encoding = np.empty((2, *label_map.shape), np.float32)
    for axis in (0, 1):
        coordinate = np.indices(label_map.shape, dtype=np.float64)[axis].ravel()
        centre = np.bincount(owner, weights=coordinate, minlength=count + 1) / pixels
        offset = np.where(owner == 0, 0.0, coordinate - centre[owner])
        largest = np.zeros(count + 1)
        np.maximum.at(largest, owner, np.abs(offset))
        encoding[axis] = (offset / (largest + 1e-5)[owner]).reshape(label_map.shape)
    return encoding


def label_objects(label_map: Map) -> tuple[Map, int]:
    """Number the 8-connected components of every class but 0 from 1 on, and count them."""
    values, inverse = np.unique(label_map, return_inverse=True)
    inverse = inverse.reshape(label_map.shape)
    objects, count = np.zeros(label_map.shape, np.int64), 0
    for place, box in enumerate(ndimage.find_objects(inverse + 1)):
        if values[place] != 0:
            mask = inverse[box] == place
            labelled, number = ndimage.label(mask, structure=np.ones((3, 3), bool))
            objects[box][mask] = labelled[mask] + count
            count += number
    return objects, count


if __name__ == "__main__":
    main()
