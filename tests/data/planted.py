"""A folder of pairs in which nearly everything is wrong that can be wrong with one file, each sort once."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from segscape.labels import LabelClass, LabelSet

HEIGHT, WIDTH = 48, 64
LABELS = LabelSet(
    name="planted",
    classes=tuple(
        LabelClass(name=name, color=color)
        for name, color in {
            "sky": (70, 130, 180),
            "road": (128, 64, 128),
            "tree": (107, 142, 35),
            "house": (70, 70, 70),
            "car": (0, 0, 142),
            "person": (220, 20, 60),
        }.items()
    ),
)
PNG_START = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Defect:
    """One thing that is wrong.

    Attributes:
        name: of the sample.
        kind: what it must be reported as.
        file: which file, below the folder, must be named.
        plant: changes a good sample into the bad one; called with the folders of photographs and label maps.
        harmless: it works, and is a note and no problem.
    """

    name: str
    kind: str
    file: str
    plant: Callable[[Path, Path], object]
    harmless: bool = False


def label_map(seed: int = 0) -> npt.NDArray[np.uint8]:
    """A layout of areas with every class in it."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(np.arange(6, HEIGHT - 6), 2, replace=False))
    drawn = np.full((HEIGHT, WIDTH), 1, dtype=np.uint8)
    drawn[: rows[0]] = 0
    drawn[rows[0] : rows[1]] = 2
    for index in (3, 4, 5):
        y, x = rng.integers(0, HEIGHT - 12), rng.integers(0, WIDTH - 12)
        drawn[y : y + 10, x : x + 9] = index
    return drawn


def photo(seed: int = 0, size: tuple[int, int] = (HEIGHT, WIDTH)) -> npt.NDArray[np.uint8]:
    """A picture that is no drawing: noise on a slope."""
    noise = np.random.default_rng([seed, 1]).integers(0, 120, (*size, 3))
    slope = np.linspace(0, 120, size[1])[None, :, None]
    return (noise + slope).astype(np.uint8)


def save(array: npt.NDArray[np.generic], **options: object) -> Callable[[Path], object]:
    """How to write an array as an image."""
    return lambda path: Image.fromarray(array).save(path, **options)


def write_pair(images: Path, labels: Path, name: str, seed: int) -> None:
    """A good sample."""
    Image.fromarray(photo(seed)).save(images / f"{name}.jpg", quality=92)
    Image.fromarray(label_map(seed)).save(labels / f"{name}.png")


def plant_all(root: Path) -> list[Defect]:
    """Write the folder: eight good samples, and every defect of `DEFECTS`."""
    images, labels = root / "images", root / "labels"
    for folder in (images, labels):
        folder.mkdir(parents=True)
    for number in range(8):
        write_pair(images, labels, f"good{number}", number)
    for number, defect in enumerate(DEFECTS):
        write_pair(images, labels, defect.name, 100 + number)
        defect.plant(images, labels)
    return list(DEFECTS)


def map_as(write: Callable[[Path], object], name: str = "{}.png") -> Callable[[str], Callable[[Path, Path], object]]:
    """Write the label map another way."""

    def of(sample: str) -> Callable[[Path, Path], object]:
        def plant(images: Path, labels: Path) -> None:
            (labels / f"{sample}.png").unlink()
            write(labels / name.format(sample))

        return plant

    return of


def photo_as(write: Callable[[Path], object], name: str = "{}.jpg") -> Callable[[str], Callable[[Path, Path], object]]:
    """Write the photograph another way."""

    def of(sample: str) -> Callable[[Path, Path], object]:
        def plant(images: Path, labels: Path) -> None:
            (images / f"{sample}.jpg").unlink()
            write(images / name.format(sample))

        return plant

    return of


def bad_map(
    sample: str, kind: str, write: Callable[[Path], object], file: str = "{}.png", harmless: bool = False
) -> Defect:
    """A defect of the label map."""
    return Defect(sample, kind, f"labels/{file.format(sample)}", map_as(write, file)(sample), harmless)


def bad_photo(
    sample: str, kind: str, write: Callable[[Path], object], file: str = "{}.jpg", harmless: bool = False
) -> Defect:
    """A defect of the photograph."""
    return Defect(sample, kind, f"images/{file.format(sample)}", photo_as(write, file)(sample), harmless)


def _bytes(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _cut(array: npt.NDArray[np.generic], share: float = 0.5, form: str = "PNG") -> Callable[[Path], object]:
    def write(path: Path) -> None:
        Image.fromarray(array).save(path, format=form)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return write


def _flipped_bit(path: Path) -> None:
    Image.fromarray(label_map()).save(path, compress_level=0)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _bomb(path: Path) -> None:
    """A PNG that claims to be 60,000 x 60,000."""
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0), b"IDAT" + zlib.compress(b"0"), b"IEND")
    parts = (struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks)
    path.write_bytes(PNG_START + b"".join(parts))


def _npy(array: npt.NDArray[np.generic]) -> Callable[[Path], object]:
    return lambda path: np.save(path, array, allow_pickle=True)


def _resized(colors: bool) -> Callable[[Path], object]:
    array = LABELS.colorize(label_map(7)) if colors else label_map(7)
    small = Image.fromarray(array).resize((WIDTH * 2 // 3, HEIGHT * 2 // 3), Image.Resampling.NEAREST)
    return lambda path: small.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR).save(path)


def _animated(form: str) -> Callable[[Path], object]:
    frames = [Image.fromarray(photo(seed)) for seed in (50, 51)]
    return lambda path: frames[0].save(path, format=form, save_all=True, append_images=frames[1:])


def _turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo(60, (WIDTH, HEIGHT))).save(path, exif=exif)


def _palette(colors: npt.NDArray[np.uint8]) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        image = Image.fromarray(label_map(8))
        image.putpalette(colors.tobytes())
        image.save(path)

    return write


def _with_alpha(array: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.concatenate([array, np.full((*array.shape[:2], 1), 120, np.uint8)], axis=-1)


def _copied(images: Path, labels: Path) -> None:
    (images / "twin-photo.jpg").write_bytes((images / "good0.jpg").read_bytes())


def _same_map(images: Path, labels: Path) -> None:
    (labels / "twin-map.png").write_bytes((labels / "good1.png").read_bytes())


def _renamed(folder: str, old: str, new: str) -> Callable[[Path, Path], object]:
    def plant(images: Path, labels: Path) -> None:
        home = images if folder == "images" else labels
        (home / old).rename(home / new)

    return plant


def _both_renamed(old: str, new: str) -> Callable[[Path, Path], object]:
    def plant(images: Path, labels: Path) -> None:
        (images / f"{old}.jpg").rename(images / f"{new}.jpg")
        (labels / f"{old}.png").rename(labels / f"{new}.png")

    return plant


def _removed(folder: str, name: str) -> Callable[[Path, Path], object]:
    return lambda images, labels: ((images if folder == "images" else labels) / name).unlink()


def _two_suffixes(images: Path, labels: Path) -> None:
    Image.fromarray(label_map(9)).save(labels / "two-suffixes.bmp")


def _broken_link(path: Path) -> None:
    path.symlink_to("nowhere.png")


def _link_to_itself(images: Path, labels: Path) -> None:
    (labels / "circle").symlink_to(labels, target_is_directory=True)


def _link_to_above(images: Path, labels: Path) -> None:
    (images / "upwards").symlink_to("..", target_is_directory=True)


def _self_link(path: Path) -> None:
    path.symlink_to(path.name)


def _extra(name: str, content: bytes = b"x") -> Callable[[Path, Path], object]:
    return lambda images, labels: (labels / name).write_bytes(content)


def _nested(images: Path, labels: Path) -> None:
    (labels / "deep").mkdir()
    (labels / "nested.png").rename(labels / "deep/nested.png")


def _swapped(array: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(array[..., ::-1])


MAP = label_map(11)
COLORED = LABELS.colorize(MAP)
GREY_PHOTO = photo(12)[..., 0]
HTML = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"

DEFECTS = (
    # sizes
    Defect("small-map", "size", "images/small-map.jpg", map_as(save(MAP[:40]))("small-map")),
    bad_photo("photo-turned", "size", save(photo(13, (WIDTH, HEIGHT)))),
    bad_photo("exif-turned", "exif-rotated", _turned),
    # missing, doubled, linked
    Defect("no-photo", "no-partner", "labels/no-photo.png", _removed("images", "no-photo.jpg")),
    Defect("no-map", "no-partner", "images/no-map.jpg", _removed("labels", "no-map.png")),
    Defect("Case", "no-partner", "labels/case.png", _renamed("labels", "Case.png", "case.png")),
    Defect("two-suffixes", "two-of-one-name", "labels/two-suffixes.png", _two_suffixes),
    Defect("nested", "no-partner", "labels/deep/nested.png", _nested),
    Defect("twin-photo", "duplicate-photo", "images/twin-photo.jpg", _copied),
    Defect("twin-map", "duplicate-map", "labels/twin-map.png", _same_map, harmless=True),
    bad_map("broken-link", "bad-link", _broken_link),
    bad_map("own-link", "bad-link", _self_link),
    Defect("loop", "bad-link", "labels/circle", _link_to_itself),
    Defect("upwards", "bad-link", "images/upwards", _link_to_above),
    bad_map("folder-named-png", "folder", lambda path: path.mkdir()),
    # files that are no images
    bad_map("empty-map", "empty", _bytes(b"")),
    bad_photo("empty-photo", "empty", _bytes(b"")),
    bad_map("html-map", "web-page", _bytes(HTML)),
    bad_photo("html-photo", "web-page", _bytes(HTML)),
    bad_photo("lfs", "git-lfs", _bytes(LFS)),
    bad_photo("text", "not-an-image", _bytes(b"a photograph of a street, in words only")),
    bad_map("cut-map", "damaged", _cut(np.random.default_rng(0).integers(0, 6, (HEIGHT, WIDTH), dtype=np.uint8))),
    bad_photo("cut-photo", "damaged", _cut(photo(14), form="JPEG")),
    bad_map("flipped-bit", "damaged", _flipped_bit),
    bad_map("bomb", "too-large", _bomb),
    bad_photo("float-photo", "wrong-mode", save(photo(15)[..., 0].astype(np.float32)), "{}.tiff"),
    # label maps that are stored wrongly
    bad_map("jpeg-map", "lossy-map", save(COLORED), "{}.jpg"),
    bad_map("jpeg-as-png", "lossy-map", save(MAP, format="JPEG")),
    bad_map("lossy-webp", "lossy-map", save(COLORED), "{}.webp"),
    bad_map("float-array", "not-integers", _npy(MAP.astype(np.float32)), "{}.npy"),
    bad_map("one-hot", "wrong-shape", _npy(np.eye(6, dtype=np.uint8)[MAP]), "{}.npy"),
    bad_map("pickled", "damaged", _npy(np.array([{"a": 1}])), "{}.npy"),
    bad_map("negative", "negative-label", _npy(MAP.astype(np.int64) - 1), "{}.npy"),
    # label maps with other values
    bad_map("mask", "mask-0-255", save(np.where(MAP > 2, 255, 0).astype(np.uint8))),
    bad_map("ignored", "ignore-value", save(np.where(MAP > 4, 255, MAP).astype(np.uint8))),
    bad_map("from-one", "off-by-one", save(MAP + 1)),
    bad_map("unknown", "unknown-label", save(np.where(MAP > 4, 77, MAP).astype(np.uint8))),
    bad_map("scaled", "scaled-to-16-bit", save(MAP.astype(np.uint16) * 257)),
    bad_map("grey-photo-as-map", "photo-as-map", save(GREY_PHOTO)),
    bad_map("photo-as-map", "photo-as-map", save(photo(16))),
    bad_map("swapped", "swapped-channels", save(_swapped(COLORED))),
    bad_map("rgb-indices", "indices-as-rgb", save(np.stack([MAP] * 3, -1))),
    bad_map("other-colors", "unknown-colour", save(255 - COLORED)),
    bad_map("other-palette", "palette-order", _palette(LABELS.colors[::-1])),
    bad_map("soft-indices", "interpolated", _resized(colors=False)),
    bad_map("soft-colors", "interpolated", _resized(colors=True)),
    # what works, but deserves a look
    bad_photo("upper-case", "capital-suffix", save(photo(17)), "{}.JPG", harmless=True),
    bad_photo("cmyk", "cmyk-photo", lambda path: Image.fromarray(photo(18)).convert("CMYK").save(path), harmless=True),
    bad_photo("deep", "16-bit-photo", save(photo(19)[..., 0].astype(np.uint16) * 256), "{}.png", harmless=True),
    bad_photo("grey", "grey-photo", save(photo(20)[..., 0]), harmless=True),
    bad_photo("alpha", "alpha", save(_with_alpha(photo(21))), "{}.png", harmless=True),
    bad_map("alpha-map", "alpha", save(_with_alpha(COLORED)), harmless=True),
    bad_map("deep-map", "16-bit-map", save(MAP.astype(np.uint16)), harmless=True),
    bad_photo("png-named-jpg", "wrong-suffix", save(photo(22), format="PNG"), harmless=True),
    bad_photo("gif-named-jpg", "animated", _animated("GIF"), harmless=True),
    bad_photo("webp-named-jpg", "animated", _animated("WEBP"), harmless=True),
    bad_photo("blank", "blank-photo", save(np.zeros((HEIGHT, WIDTH, 3), np.uint8)), harmless=True),
    Defect("umlaut", "name-not-ascii", "labels/straße ü.png", _both_renamed("umlaut", "straße ü"), harmless=True),
    Defect("spaces", "name-with-spaces", "labels/with two spaces.png", _both_renamed("spaces", "with two spaces"),
           harmless=True),
    Defect("reserved", "name-not-for-windows", "labels/con.png", _both_renamed("reserved", "con"), harmless=True),
    Defect("trailing", "name-not-for-windows", "labels/end .png", _both_renamed("trailing", "end "), harmless=True),
    Defect("same", "same-but-for-case", "labels/same.png",
           lambda images, labels: write_pair(images, labels, "SAME", 23), harmless=True),
    Defect("mac", "hidden", "labels/.DS_Store", _extra(".DS_Store"), harmless=True),
    Defect("mac-copy", "hidden", "labels/._mac-copy.png", _extra("._mac-copy.png"), harmless=True),
    Defect("windows", "hidden", "labels/Thumbs.db", _extra("Thumbs.db"), harmless=True),
    Defect("readme", "not-used", "labels/readme.txt", _extra("readme.txt"), harmless=True),
    Defect("targa", "not-used", "labels/other.tga", _extra("other.tga"), harmless=True),
)  # fmt: skip

if hasattr(os, "mkfifo"):
    DEFECTS += (
        Defect("pipe", "not-a-file", "labels/pipe.fifo", lambda images, labels: os.mkfifo(labels / "pipe.fifo")),
    )
if hasattr(os, "geteuid") and os.geteuid() != 0:
    DEFECTS += (Defect("locked", "no-permission", "labels/locked.png",
                       lambda images, labels: (labels / "locked.png").chmod(0)),)  # fmt: skip
