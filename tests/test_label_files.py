"""Every kind of label map file people have, and every way in which one can be wrong."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segscape.errors import DataError, LabelMapError, SegscapeError
from segscape.label_files import read_image, read_instance_map, read_label_map, write_label_map
from segscape.labels import LABEL_SETS, LabelSet

CAMVID = LABEL_SETS["camvid"]
MAP = np.random.default_rng(0).integers(0, 12, (9, 14))
PHOTO = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def _palette(label_map, palette):
    image = Image.fromarray(label_map.astype(np.uint8))
    image.putpalette(palette)
    return image


def _rgba(label_map):
    alpha = np.full((*label_map.shape, 1), 255, dtype=np.uint8)
    return Image.fromarray(np.concatenate([CAMVID.colorize(label_map), alpha], axis=2))


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("grey.png", Image.fromarray(MAP.astype(np.uint8))),
        ("grey16.png", Image.fromarray(MAP.astype(np.uint16))),
        ("grey16.tiff", Image.fromarray(MAP.astype(np.uint16))),
        ("grey32.tiff", Image.fromarray(MAP.astype(np.int32))),
        ("grey.bmp", Image.fromarray(MAP.astype(np.uint8))),
        ("grey-alpha.png", Image.fromarray(MAP.astype(np.uint8)).convert("LA")),
        ("palette.png", _palette(MAP, CAMVID.colors.tobytes())),
        ("misleading-palette.png", _palette(MAP, CAMVID.colors[::-1].tobytes())),
        ("colour.png", Image.fromarray(CAMVID.colorize(MAP))),
        ("colour-alpha.png", _rgba(MAP)),
    ],
)
def test_every_image_format_reads_the_same(tmp_path, name, image):
    image.save(tmp_path / name)
    label_map = read_label_map(tmp_path / name, CAMVID)
    assert label_map.dtype == np.int64
    np.testing.assert_array_equal(label_map, MAP)


@pytest.mark.parametrize("dtype", ["uint8", "int16", ">i4", "int64", "uint64"])
def test_npy(tmp_path, dtype):
    np.save(tmp_path / "map.npy", MAP.astype(dtype))
    np.testing.assert_array_equal(read_label_map(tmp_path / "map.npy", CAMVID), MAP)


def test_one_bit_image_and_boolean_npy_are_two_classes(tmp_path):
    mask = MAP > 5
    Image.fromarray(mask).save(tmp_path / "mask.png")
    np.save(tmp_path / "mask.npy", mask)
    for name in ("mask.png", "mask.npy"):
        np.testing.assert_array_equal(read_label_map(str(tmp_path / name), LabelSet.numbered(2)), mask)


def test_ignored_pixels_become_unknown(tmp_path):
    Image.fromarray(np.array([[0, 255, 3]], dtype=np.uint8)).save(tmp_path / "map.png")
    assert read_label_map(tmp_path / "map.png", LabelSet.numbered(12, unknown=11, ignore_value=255)).tolist() == [
        [0, 11, 3]
    ]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 400), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_write_and_read_round_trip(tmp_path_factory, classes, height, width, seed):
    labels = LabelSet.numbered(classes)
    label_map = np.random.default_rng(seed).integers(0, classes, (height, width))
    path = tmp_path_factory.mktemp("round") / "map.png"
    write_label_map(path, label_map, labels)
    np.testing.assert_array_equal(read_label_map(path, labels), label_map)
    assert list(path.parent.iterdir()) == [path]


def test_written_maps_show_the_colours(tmp_path):
    write_label_map(tmp_path / "map.png", MAP, CAMVID)
    image = Image.open(tmp_path / "map.png")
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), CAMVID.colorize(MAP))


def test_write_refuses_what_it_could_not_read_back(tmp_path):
    with pytest.raises(LabelMapError, match=r"ends in \.png"):
        write_label_map(tmp_path / "map.jpg", MAP, CAMVID)
    with pytest.raises(LabelMapError, match="unknown indices"):
        write_label_map(tmp_path / "map.png", MAP + 1, CAMVID)
    with pytest.raises(LabelMapError, match="cannot write this label map"):
        write_label_map(tmp_path / "none" / "map.png", MAP, CAMVID)
    assert not list(tmp_path.iterdir())


def _png_bytes(folder, array):
    Image.fromarray(array).save(folder / "whole.png")
    return (folder / "whole.png").read_bytes()


def _save(array, suffix="png", **options):
    def write(path):
        path = path.with_suffix(f".{suffix}")
        Image.fromarray(array).save(path, **options)
        return path

    return write


def _bytes(content, suffix="png"):
    def write(path):
        path = path.with_suffix(f".{suffix}")
        path.write_bytes(content(path.parent) if callable(content) else content)
        return path

    return write


def _npy(array, **options):
    def write(path):
        path = path.with_suffix(".npy")
        np.save(path, array, **options)
        return path

    return write


def _folder(path):
    path.mkdir()
    return path


def _truncated_npy(folder):
    np.save(folder / "whole.npy", MAP)
    return (folder / "whole.npy").read_bytes()[:-40]


def _archive(folder):
    np.savez(folder / "whole.npz", MAP)
    return (folder / "whole.npz").read_bytes()


LARGE = np.random.default_rng(2).integers(0, 12, (64, 64), dtype=np.uint8)
MASK = np.where(MAP > 5, 255, 0).astype(np.uint8)
INDEX_200 = np.where(MAP == 3, 200, MAP).astype(np.uint8)
OFF_BY_ONE = (MAP + 1).astype(np.uint8)
BLENDED = np.asarray(Image.fromarray(CAMVID.colorize(MAP)).resize((60, 40), Image.Resampling.BILINEAR))

UNREADABLE = {
    "missing": (lambda path: path, "does not exist"),
    "folder": (_folder, "is a folder; give a file"),
    "empty": (_bytes(b""), r"empty file \(0 bytes\)"),
    "truncated": (_bytes(lambda folder: _png_bytes(folder, LARGE)[:900]), "truncated or damaged"),
    "header-only": (_bytes(lambda folder: _png_bytes(folder, LARGE)[:20]), "truncated or damaged"),
    "signature-only": (_bytes(b"\x89PNG\r\n\x1a\n"), "truncated or damaged"),
    "text": (_bytes(b"sky,road,sky\n"), "not an image file"),
    "text-as-npy": (_bytes(b"sky,road", "npy"), r"\.npy file is truncated, damaged"),
    "empty-npy": (_bytes(b"", "npy"), "empty file"),
    "truncated-npy": (_bytes(_truncated_npy, "npy"), r"\.npy file is truncated, damaged"),
    "archive-as-npy": (_bytes(_archive, "npy"), "an archive"),
    "object-npy": (_npy(np.array([[{}]]), allow_pickle=True), "no plain array"),
    "float-npy": (_npy(MAP.astype(np.float32)), r"holds float32; save array\.astype\(int\)"),
    "batch-npy": (_npy(MAP[None]), r"\[H, W\], but this file holds \[1, 9, 14\]"),
    "no-pixels-npy": (_npy(MAP[:0]), "non-empty"),
    "jpeg": (_save(MAP.astype(np.uint8), "jpg"), "cannot be JPEG, whose compression changes the values"),
    "jpeg-named-png": (_save(PHOTO, "png", format="JPEG"), "cannot be JPEG"),
    "float-tiff": (_save(MAP.astype(np.float32), "tiff"), "mode 'F'"),
}

WRONG_VALUES = {
    "index-200": (_save(INDEX_200), r"unknown indices \(200 in \d+ pixels; first at row \d+, column \d+\)"),
    "mask": (_save(MASK), "0/255 mask"),
    "off-by-one": (_save(OFF_BY_ONE), "start at 1 instead of 0"),
    "scaled-16-bit": (_save((MAP * 257).astype(np.uint16)), "scaled to 16 bits"),
    "negative-npy": (_npy(MAP - 1), "negative values"),
    "huge-npy": (_npy(MAP.astype(np.uint64) + 2**63), "unknown indices"),
    "photo": (_save(PHOTO), "looks like a photo"),
    "grey-photo": (_save(PHOTO[..., 0]), "grey photo"),
    "other-palette": (_save(np.full((4, 4, 3), (1, 2, 200), np.uint8)), r"\(1, 2, 200\) in 16 pixels"),
    "blended": (_save(BLENDED), "in \\d+ colours that no class of label set"),
    "indices-as-rgb": (_save(np.stack([MAP.astype(np.uint8)] * 3, -1)), "class indices saved as RGB"),
}


def _assert_one_sentence(error, path):
    assert str(path.name) in str(error) and "\n" not in str(error)


@pytest.mark.parametrize(("write", "message"), UNREADABLE.values(), ids=UNREADABLE.keys())
@pytest.mark.parametrize("read", [lambda path: read_label_map(path, CAMVID), read_instance_map])
def test_unreadable_maps(tmp_path, write, message, read):
    path = write(tmp_path / "map.png")
    with pytest.raises(LabelMapError, match=message) as raised:
        read(path)
    _assert_one_sentence(raised.value, path)


@pytest.mark.parametrize(("write", "message"), WRONG_VALUES.values(), ids=WRONG_VALUES.keys())
def test_wrong_values(tmp_path, write, message):
    path = write(tmp_path / "map.png")
    with pytest.raises(LabelMapError, match=message) as raised:
        read_label_map(path, CAMVID)
    _assert_one_sentence(raised.value, path)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("ids.png", MAP.astype(np.uint8)),
        ("ids.png", (MAP * 5000).astype(np.uint16)),
        ("ids.tiff", np.int32(MAP * 10**6)),
    ],
)
def test_instance_maps_of_every_depth(tmp_path, name, array):
    Image.fromarray(array).save(tmp_path / name)
    np.testing.assert_array_equal(read_instance_map(tmp_path / name), array)


def test_coloured_instance_maps_are_coco_panoptic(tmp_path):
    rgb = np.array([[[1, 2, 3], [7, 0, 0]]], dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "ids.png")
    assert read_instance_map(tmp_path / "ids.png").tolist() == [[1 + 2 * 256 + 3 * 65536, 7]]


def test_instance_maps_from_palette_and_npy(tmp_path):
    _palette(MAP, CAMVID.colors.tobytes()).save(tmp_path / "ids.png")
    np.save(tmp_path / "ids.npy", MAP)
    for name in ("ids.png", "ids.npy"):
        np.testing.assert_array_equal(read_instance_map(tmp_path / name), MAP)


def test_photos_become_rgb(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgb.png"), PHOTO)
    Image.fromarray(PHOTO[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(PHOTO[..., 0].astype(np.uint16) * 257).save(tmp_path / "grey16.png")
    for name in ("grey.png", "grey16.png"):
        np.testing.assert_array_equal(read_image(tmp_path / name), PHOTO[..., :1].repeat(3, axis=2))
    Image.fromarray(PHOTO).save(tmp_path / "photo.jpg")
    assert read_image(tmp_path / "photo.jpg").shape == PHOTO.shape


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "truncated", "signature-only", "text"])
def test_unreadable_photos(tmp_path, kind):
    write, message = UNREADABLE[kind]
    path = write(tmp_path / "photo.png")
    with pytest.raises(DataError, match=message) as raised:
        read_image(path)
    _assert_one_sentence(raised.value, path)


def test_photos_of_32_bits_are_refused(tmp_path):
    Image.fromarray(MAP.astype(np.float32)).save(tmp_path / "photo.tiff")
    with pytest.raises(DataError, match="mode 'F'"):
        read_image(tmp_path / "photo.tiff")


@pytest.mark.parametrize(
    ("write", "kind"),
    [
        (_bytes(b"  <HTML><body>Not found</body>"), "web-page"),
        (_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "git-lfs"),
        (_bytes(b"a street"), "not-an-image"),
        (_bytes(b""), "empty"),
        (_folder, "folder"),
        (lambda path: os.mkfifo(path) or path, "not-a-file"),  # reading it would wait for ever
    ],
)
@pytest.mark.parametrize("read", [lambda path: read_label_map(path, CAMVID), read_instance_map, read_image])
def test_errors_tell_their_kind(tmp_path, write, kind, read):
    with pytest.raises(SegscapeError) as raised:
        read(write(tmp_path / "file.png"))
    assert raised.value.kind == kind


def test_lossy_webp_is_refused_and_lossless_is_read(tmp_path):
    drawing = Image.fromarray(CAMVID.colorize(MAP))
    drawing.save(tmp_path / "lossless.webp", lossless=True)
    drawing.save(tmp_path / "lossy.webp")
    np.testing.assert_array_equal(read_label_map(tmp_path / "lossless.webp", CAMVID), MAP)
    with pytest.raises(LabelMapError, match="cannot be WEBP"):
        read_label_map(tmp_path / "lossy.webp", CAMVID)


def test_photos_in_lab_are_refused(tmp_path):
    Image.merge("LAB", [Image.fromarray(PHOTO[..., channel]) for channel in range(3)]).save(tmp_path / "lab.tiff")
    with pytest.raises(DataError, match="mode 'LAB'"):
        read_image(tmp_path / "lab.tiff")
