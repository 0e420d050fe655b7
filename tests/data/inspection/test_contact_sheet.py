"""The contact sheet: photographs and overlays where they should be, and what cannot be read is passed over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segscape.data.inspection.contact_sheet import CAPTION, COLUMNS, MARGIN, OPACITY, TILE, contact_sheet
from segscape.data.open import find_listing
from tests.data.planted import LABELS

CELL = (TILE[0] + CAPTION + MARGIN, 2 * TILE[1] + 2 * MARGIN)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Five pairs of one colour each: photograph k is grey 40 k, its map is all class k."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for k in range(5):
        Image.fromarray(np.full((30, 40, 3), 40 * k, np.uint8)).save(tmp_path / f"images/{k}.png")
        Image.fromarray(np.full((30, 40), k, np.uint8)).save(tmp_path / f"labels/{k}.png")
    return tmp_path


def middles(sheet: Image.Image, place: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The colours in the middle of a photograph and of its overlay."""
    pixels = np.asarray(sheet)
    y, x = MARGIN + place // COLUMNS * CELL[0] + TILE[0] // 2, MARGIN + place % COLUMNS * CELL[1] + TILE[1] // 2
    return tuple(pixels[y, x].tolist()), tuple(pixels[y, x + TILE[1]].tolist())


def test_photographs_and_overlays(plain: Path) -> None:
    sheet = contact_sheet([find_listing(plain, labels=LABELS)], LABELS)
    for k in range(5):
        shown, overlay = middles(sheet, k)
        assert shown == (40 * k,) * 3
        blend = (1 - OPACITY) * 40 * k + OPACITY * LABELS.colors[k].astype(float)
        np.testing.assert_allclose(overlay, blend, atol=1)


def test_samples_are_spread_and_broken_ones_passed_over(plain: Path) -> None:
    listing = find_listing(plain, labels=LABELS)
    shown = [middles(contact_sheet([listing], LABELS, count=2), place)[0] for place in range(2)]
    assert shown == [(0, 0, 0), (80, 80, 80)]
    (plain / "labels/0.png").write_bytes(b"")
    (plain / "images/1.png").write_bytes(b"")
    assert middles(contact_sheet([listing], LABELS), 0)[0] == (80, 80, 80)


def test_nothing_to_show(plain: Path) -> None:
    for path in (plain / "labels").iterdir():
        path.write_bytes(b"no map")
    sheet = contact_sheet([find_listing(plain, labels=LABELS)], LABELS)
    assert np.asarray(sheet).min() == 255
