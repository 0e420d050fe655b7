"""Draws the picture at the head of the documentation: the layouts beside this file, and what the shipped model makes.

    python examples/paint_streets.py [FILE.jpg]

Above the layouts in their classes' colours, below the photographs, at the size that the model was trained for.
"""

from __future__ import annotations

import sys
from pathlib import Path

from segscape import Pipeline
from segscape.inference.sheets import coloured, paste_grid

HERE = Path(__file__).parent
PICTURE = HERE.parent / "docs" / "images" / "streets.jpg"


def main() -> None:
    """Write the picture to the file that is named, or to its place in the documentation."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE
    pipeline = Pipeline.from_pretrained(device="cpu")
    layouts = [pipeline.read_layout(file) for file in sorted((HERE / "layouts").glob("*.png"))]
    photos = [pipeline(layout, size=pipeline.model.config.image_size)[0] for layout in layouts]
    colours = [coloured(layout, photo.size) for layout, photo in zip(layouts, photos, strict=True)]
    paste_grid([colours, photos]).save(target, quality=90)


if __name__ == "__main__":
    main()
