from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from segscape.errors import CheckpointError, ConfigError
from segscape.labels import LABEL_SETS, LabelClass, LabelSet
from segscape.layout import Layout
from segscape.models import create_model, load_model
from segscape.models.spade import SPADEGenerator


def small(**options: object) -> SPADEGenerator:
    torch.manual_seed(0)
    defaults = {"labels": "camvid", "image_size": (32, 64), "base_channels": 1, "use_instances": True}
    return create_model("clade-icpe", **{**defaults, **options}).eval()  # type: ignore[arg-type]


def layout() -> Layout:
    label_map = torch.randint(0, 12, (1, 32, 64), generator=torch.Generator().manual_seed(0))
    return Layout(label_map, LABEL_SETS["camvid"], label_map)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_round_trip(folder: Path) -> None:
    model, loaded = small(), load_model(folder)
    assert loaded.config == model.config
    assert torch.equal(loaded(layout()), model(layout()))
    assert not loaded.training


@pytest.mark.parametrize("options", [{"norm": ["spade"] * 2 + ["clade"] * 5}, {"latent_dim": 4}, {"labels": 12}])
def test_round_trip_of_options(options: dict[str, object], tmp_path: Path) -> None:
    model = small(**options)
    model.save_pretrained(tmp_path)
    loaded = SPADEGenerator.from_pretrained(tmp_path)
    assert loaded.config == model.config
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())


def test_half_precision_keeps_what_does_not_fit(tmp_path: Path) -> None:
    model = small()
    model.blocks[0].norm_0.statistics.running_var.fill_(1e6)
    model.save_pretrained(tmp_path, half=True)
    assert torch.all(load_model(tmp_path).blocks[0].norm_0.statistics.running_var == 1e6)


def test_half_precision_is_half_the_size_and_read_as_float32(tmp_path: Path) -> None:
    model = small(spectral_norm=False)  # fresh singular vectors would amplify the rounding
    for half in (False, True):
        model.save_pretrained(tmp_path / str(half), half=half)
    sizes = [(tmp_path / str(half) / "model.safetensors").stat().st_size for half in (False, True)]
    assert sizes[1] < 0.75 * sizes[0]  # keys and counters stay
    loaded = load_model(tmp_path / "True")
    assert all(value.dtype != torch.float16 for value in loaded.state_dict().values())
    torch.testing.assert_close(loaded(layout()), model(layout()), rtol=0, atol=0.005)


def test_files(folder: Path) -> None:
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    config = json.loads((folder / "config.json").read_text())
    assert config["format"] == 1 and config["config"]["model"] == "clade-icpe"
    assert config["config"]["labels"]["classes"][0]["name"] == LABEL_SETS["camvid"].names[0]
    assert "load_model" in (folder / "README.md").read_text()


@pytest.mark.usefixtures("ascii_locale")
def test_names_of_classes_in_any_script_on_every_machine(tmp_path: Path) -> None:
    grass = LabelClass(name="草", color=(0, 255, 0))
    small(labels=LabelSet(name="wiese", classes=(grass,))).save_pretrained(tmp_path)
    assert load_model(tmp_path).config.labels.names == ("草",)
    assert "| 草 |" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_an_existing_card_is_kept_unless_another_is_given(folder: Path) -> None:
    (folder / "README.md").write_text("mine")
    small().save_pretrained(folder)
    assert (folder / "README.md").read_text() == "mine"
    small().save_pretrained(folder, card="new")
    assert (folder / "README.md").read_text() == "new"


def test_a_failed_save_leaves_the_old_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("segscape.models.pretrained.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        small().save_pretrained(folder)
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    load_model(folder)


def test_missing_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no config\.json, so it is not a saved Segscape model"):
        load_model(folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 1, "config": {}}', '{"format": 1, "config": 3}'])
def test_damaged_config(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json is not the configuration of a Segscape model"):
        load_model(folder)


def test_config_of_a_newer_segscape(folder: Path) -> None:
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(CheckpointError, match=r"has format 2, this Segscape reads format 1; update Segscape"):
        load_model(folder)


def test_impossible_option_in_the_config(folder: Path) -> None:
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"base_channels": 1', '"base_channels": 0'))
    with pytest.raises(ConfigError, match="base_channels"):
        load_model(folder)


def test_missing_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not exist; the model folder is incomplete"):
        load_model(folder)


def test_truncated_weights(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged and cannot be read"):
        load_model(folder)


def test_weights_of_another_model(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["stem.bias"]
    state["surplus"] = torch.zeros(1)
    state["to_rgb.bias"] = torch.zeros(4)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load_model(folder)
    for part in ("1 weights are missing (first: stem.bias)", "surplus", "to_rgb.bias is (4,), the model has (3,)"):
        assert part in str(caught.value)


def test_a_file_or_nothing_in_place_of_the_folder(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is a file; give the folder"):
        load_model(folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="does not exist"):
        load_model(folder / "nowhere")


def test_from_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def snapshot(repo_id: str, **options: object) -> str:
        asked.update(repo_id=repo_id, **options)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert load_model("someone/streets", revision="v1").config == small().config
    assert asked["repo_id"] == "someone/streets" and asked["revision"] == "v1"
    assert "model.safetensors" in asked["allow_patterns"]


def test_unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot(*_: object, **__: object) -> str:
        raise ConnectionError

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(CheckpointError, match=r"someone/streets is neither a folder nor a model .*ConnectionError"):
        load_model("someone/streets")


def test_push_to_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    pushed: dict[str, object] = {}

    class Api:
        def __init__(self, token: str | None) -> None:
            pushed["token"] = token

        def create_repo(self, repo_id: str, **options: object) -> None:
            pushed.update(created=repo_id, **options)

        def upload_folder(self, repo_id: str, folder_path: str) -> str:
            pushed["files"] = sorted(file.name for file in Path(folder_path).iterdir())
            return f"https://hub/{repo_id}"

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert small().push_to_hub("me/streets", private=True) == "https://hub/me/streets"
    assert pushed["created"] == "me/streets" and pushed["private"] is True
    assert pushed["files"] == ["README.md", "config.json", "model.safetensors"]
