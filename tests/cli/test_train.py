"""`segscape train`, `report` and `push` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub
import pytest
import yaml

import segscape.training.sanity as sanity
from segscape.training.sanity import Finding
from tests.cli.conftest import Run

TINY = {
    "data": {"kind": "scenes", "count": 4, "size": [32, 32]},
    "model": {"name": "clade", "image_size": [32, 32], "base_channels": 1},
    "discriminator": {"base_channels": 2, "num_scales": 1, "num_layers": 2},
    "objective": {"perceptual": 0.0},
    "images": 4,
    "batch_size": 2,
    "log_images": 2,
    "trackers": [],
}


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return tmp_path / "tiny.yaml"


def test_train_from_a_model_of_other_classes_then_report(run: Run, recipe: Path, models: Path) -> None:
    result = run("train", recipe, "--init-from", models / "plain", "--out", "there")
    assert result.code == 0, result.err
    assert "starting from" in result.out and "classes matched by name" in result.out
    assert f"init_from: {models / 'plain'}" in Path("there/recipe.yaml").read_text()
    result = run("report", "there")
    assert result.code == 0 and result.out == "there/report/report.md\n"
    assert Path("there/report/generator.png").is_file()


def test_init_from_and_resume_contradict_each_other(run: Run, recipe: Path) -> None:
    result = run("train", recipe, "--init-from", "x/y", "--resume")
    assert result.code == 2 and result.errors[0].startswith("error: --resume goes on with the run's own weights")


def test_init_from_stands_in_the_resolved_recipe(run: Run, recipe: Path) -> None:
    assert "init_from: me/streets" in run("train", recipe, "--init-from", "me/streets", "--dry-run").out


@pytest.mark.parametrize("passed", [True, False])
def test_sanity_prints_findings_and_its_exit_code(
    run: Run, recipe: Path, monkeypatch: pytest.MonkeyPatch, passed: bool
) -> None:
    shares = []

    def check(_: object, share: float) -> list[Finding]:
        shares.append(share)
        return [Finding(True, "data", "fine."), Finding(passed, "losses", "so so.")]

    monkeypatch.setattr(sanity, "check_sanity", check)
    result = run("train", recipe, "--sanity", "--share", "0.3")
    assert result.code == (0 if passed else 1) and shares == [0.3]
    assert result.out.splitlines()[0] == "ok    data: fine."
    assert ("FAIL  losses: so so." in result.out) is not passed
    assert not Path("runs").exists()


def test_sanity_has_the_default_of_the_library(run: Run, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []
    monkeypatch.setattr(sanity, "check_sanity", lambda _, share: shares.append(share) or [])
    monkeypatch.setattr(sanity, "SHARE", 0.125)
    assert run("train", recipe, "--sanity").code == 0 and shares == [0.125]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("--sanity --resume", "leave out --out and --resume"),
        ("--sanity --out there", "leave out --out and --resume"),
        ("--share 0.5", "give it with --sanity"),
    ],
)
def test_what_would_be_ignored_is_refused(run: Run, recipe: Path, options: str, found: str) -> None:
    result = run("train", recipe, *options.split())
    assert result.code == 2 and len(result.errors) == 1 and found in result.errors[0]
    assert not Path("there").exists() and not Path("runs").exists()


def test_report_of_nothing_is_one_sentence(run: Run, tmp_path: Path) -> None:
    result = run("report", tmp_path)
    assert result.code == 2 and "holds no run" in result.errors[0]


class FakeHub:
    """What the hub is asked for; `refuse` makes it fail."""

    seen: dict[str, object]
    refuse = False

    def __init__(self, token: str | None = None) -> None:
        FakeHub.seen = {"token": token}

    def create_repo(self, repo_id: str, private: bool, exist_ok: bool) -> None:
        if FakeHub.refuse:
            raise PermissionError("401 Unauthorized")
        FakeHub.seen |= {"repo_id": repo_id, "private": private, "exist_ok": exist_ok}

    def upload_folder(self, repo_id: str, folder_path: Path) -> str:
        FakeHub.seen["files"] = sorted(file.name for file in Path(folder_path).iterdir())
        FakeHub.seen["card"] = (Path(folder_path) / "README.md").read_text()
        return f"https://hub/{repo_id}/commit/1"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[FakeHub]:
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
    monkeypatch.setattr(FakeHub, "refuse", False)
    return FakeHub


def test_push_uploads_the_model_and_its_card_only(run: Run, models: Path, tmp_path: Path, hub: type[FakeHub]) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in (models / "plain").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "samples.png").write_bytes(b"png")
    (folder / "secret.txt").write_text("mine")
    result = run("push", folder, "me/streets", "--private", "--license", "cc-by-nc-4.0")
    assert (result.code, result.out) == (0, "https://hub/me/streets/commit/1\n")
    assert hub.seen["files"] == ["README.md", "config.json", "model.safetensors", "samples.png"]
    assert hub.seen["private"] is True and hub.seen["exist_ok"] is True
    assert "license: cc-by-nc-4.0" in str(hub.seen["card"]) and "| 3 | road |" in str(hub.seen["card"])
    assert "license" not in (folder / "README.md").read_text().split("---")[1]


def test_push_refuses_what_is_no_model(run: Run, tmp_path: Path, models: Path, hub: type[FakeHub]) -> None:
    assert "no config.json" in run("push", tmp_path, "me/streets").errors[0]
    (tmp_path / "config.json").write_text(json.dumps({"format": 1, "config": {"model": "clade"}}))
    assert "model.safetensors does not exist" in run("push", tmp_path, "me/streets").errors[0]
    hub.refuse = True
    result = run("push", models / "plain", "me/streets")
    assert result.code == 2 and "PermissionError: 401 Unauthorized" in result.errors[0]
    assert "hf auth login" in result.errors[0]
