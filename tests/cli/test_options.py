"""What several commands read from the command line and check before they work."""

from __future__ import annotations

from pathlib import Path

import pytest

from segscape.cli.options import (
    check_folder,
    parse_label_set,
    parse_labels,
    prepare_folder,
    require_no_model,
    require_writable,
)
from segscape.errors import CheckpointError, LabelMapError, SegscapeError
from segscape.labels import LABEL_SETS
from tests.cli.conftest import Run
from tests.zoo import build


def test_labels_are_a_number_or_a_name() -> None:
    assert [parse_labels(text) for text in ("12", "camvid", "²", "٣")] == [12, "camvid", "²", "٣"]
    assert parse_label_set("3").num_classes == 3 and parse_label_set("camvid") is LABEL_SETS["camvid"]
    with pytest.raises(LabelMapError, match="unknown label set '²'"):
        parse_label_set("²")


def test_a_folder_is_checked_and_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    check_folder(tmp_path)
    check_folder(Path("a/b"))
    check_folder(Path())
    for path, reason in (("file", r"\(it is a file\)"), ("file/a/b", "file is a file")):
        with pytest.raises(SegscapeError, match=reason):
            check_folder(Path(path))
    monkeypatch.setattr("os.access", lambda *_: False)
    check_folder(tmp_path)  # what is in it may be replaced
    with pytest.raises(SegscapeError, match=f"you cannot write to {tmp_path}"):
        check_folder(Path("a/b"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    prepare_folder(Path("a/b"))
    assert Path("a/b").is_dir()


def test_files_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for good in (None, Path("new.json"), tmp_path / "new.json"):
        require_writable("--json", good)
    for bad, said in ((tmp_path, "is a folder: give the name"), (Path("gone/a"), "the folder gone does not exist")):
        with pytest.raises(SegscapeError, match=f"--json {bad}:? .*{said}" if bad == tmp_path else said):
            require_writable("--json", bad)


def test_a_model_is_replaced_on_request_only(tmp_path: Path) -> None:
    require_no_model(tmp_path, force=False)
    (tmp_path / "config.json").write_text("{}")
    require_no_model(tmp_path, force=True)
    with pytest.raises(CheckpointError, match="add --force"):
        require_no_model(tmp_path, force=False)
    with pytest.raises(SegscapeError, match="it is a file"):
        require_no_model(tmp_path / "config.json", force=True)


REFUSED = [
    "generate street.png --model sean --samples 2",
    "generate street.png --model ./nothing",
    "generate street.png --model models/plain --save-style gone/a.safetensors",
    "analyze modulation --model models/plain --data gone",
    "analyze attention models/plain street.png",
    "export --model ./nothing",
    "export --model models/plain --size 30x30",
    "export --model ./nothing --format web",
    "report gone",
    "dataset init gone",
    "dataset init pairs",
    "segmenter train --data gone --labels camvid",
    "segmenter train --data pairs --labels camvid",
    "scenes --size 8x8",
    "compare models/plain models/styles --vote --data gone",
    "evaluate --model models/plain --data gone",
    "convert street.png --labels camvid",
    "fit-styles models/plain --data gone",
]


@pytest.mark.parametrize("command", REFUSED)
def test_what_is_refused_makes_no_folder(run: Run, workplace: Path, command: str) -> None:
    build("sean", use_instances=False).save_pretrained("sean")
    for folder in ("images", "labels"):
        Path("pairs", folder).mkdir(parents=True)
    result = run(*command.split(), "--out", "out/deep")
    assert result.code == 2 and len(result.errors) == 1, result.err
    assert not Path("out").exists()
