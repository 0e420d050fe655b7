"""Values that several commands read from the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segscape.errors import CheckpointError, SegscapeError

if TYPE_CHECKING:
    from segscape.labels import LabelSet

LARGEST_SIDE = 16384


def parse_size(text: str) -> tuple[int, int]:
    """`HxW` as (height, width), for example `256x512`.

    Raises:
        SegscapeError: another form, or a side outside 1..16384.
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise SegscapeError(f"--size {text!r} is not HEIGHTxWIDTH: write it like 256x512.")
    height, width = (int(part) for part in parts)
    if not (1 <= height <= LARGEST_SIDE and 1 <= width <= LARGEST_SIDE):
        raise SegscapeError(f"--size {text!r} is out of range: each side is 1 to {LARGEST_SIDE}.")
    return height, width


def parse_labels(text: str) -> str | int:
    """`--labels` as `create_model` takes it: a number of classes, or the name or file of a label set."""
    return int(text) if text.isascii() and text.isdecimal() else text


def parse_label_set(text: str) -> LabelSet:
    """`--labels` as a label set; raises LabelMapError if there is none of that name, or the file is none."""
    from segscape.labels import as_label_set

    return as_label_set(parse_labels(text))


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """`--set key=value` options as keyword arguments, the values in YAML.

    Raises:
        SegscapeError: one has another form.
    """
    import yaml

    options = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.isidentifier():
            raise SegscapeError(f"--set {setting!r} is not of the form key=value, for example use_instances=true.")
        try:
            options[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise SegscapeError(f"--set {setting!r}: the value is not valid YAML.") from None
    return options


def require_writable(option: str, file: Path | None) -> None:
    """Find out before the work whether a file can be written, if one is wanted.

    Raises:
        SegscapeError: it is a folder, or its folder does not exist.
    """
    if file is None:
        return
    if file.is_dir():
        raise SegscapeError(f"{option} {file} is a folder: give the name of a file.")
    if not file.absolute().parent.is_dir():
        raise SegscapeError(f"{option} {file}: the folder {file.parent} does not exist; make it first.")


def require_no_model(out: Path, force: bool) -> None:
    """Find out before the work whether a model can be saved in `--out`.

    Raises:
        CheckpointError: it holds one already, and `--force` is not given.
        SegscapeError: it cannot be a folder.
    """
    check_folder(out)
    if (out / "config.json").exists() and not force:
        raise CheckpointError(f"{out} holds a model already: choose another --out, or add --force to replace it.")


def check_folder(folder: Path) -> None:
    """Find out before the work whether `--out` can be a folder; nothing is made.

    Raises:
        SegscapeError: it is a file, below one, or in a folder that this user cannot write to.
    """
    found = folder.absolute()
    while not found.exists():
        found = found.parent
    if not found.is_dir():
        reason = "it is a file" if found == folder.absolute() else f"{found} is a file"
    elif found != folder.absolute() and not os.access(found, os.W_OK):
        reason = f"you cannot write to {found}"
    else:
        return
    raise SegscapeError(f"--out {folder}: cannot make this folder ({reason}); choose another.")


def prepare_folder(folder: Path) -> None:
    """Make the folder that `--out` names, with its parents: just before the first file in it, see `check_folder`.

    Raises:
        SegscapeError: it is a file, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror
        raise SegscapeError(f"--out {folder}: cannot make this folder ({reason}); choose another.") from None


def report(path: Path, error: Exception) -> None:
    """Print `error: <sentence>` about one file, which the sentence names, on stderr, above a progress bar."""
    from tqdm import tqdm

    sentence = str(error) if str(path) in str(error) else f"{path}: {error}"
    tqdm.write(f"error: {' '.join(sentence.split())}", file=sys.stderr)
