"""A model is data plus code: `config.json` (typed, versioned) beside `model.safetensors`; nothing is unpickled."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from typing_extensions import Self

from segscape.errors import CheckpointError, HubError
from segscape.files import write_atomically, write_text
from segscape.models.card import SAMPLES_FILE, with_license
from segscape.models.config import ModelConfig

PUBLISHED_FILES = ("config.json", "model.safetensors", "README.md", SAMPLES_FILE)
"""What a model's repository holds."""

FORMAT = 1
"""Version of the folder format; raised when an older Segscape could misread a newer folder."""


class PretrainedModel(nn.Module):
    """Base of every published system: saving, loading, pushing to the Hugging Face hub."""

    config_class: ClassVar[type[ModelConfig]]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    def save_pretrained(self, folder: str | Path, *, half: bool = False, card: str | None = None) -> None:
        """Write `config.json`, `model.safetensors` and `README.md` (the model card) into `folder`, each atomically.

        Args:
            half: store the weights in float16; they are read back as float32.
            card: text of the model card; a short one by default, and an existing one is kept.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = {key: _stored(value, half) for key, value in self.state_dict().items()}
        write_atomically(folder / "model.safetensors", lambda path: save_file(state, path))
        text = json.dumps({"format": FORMAT, "config": self.config.model_dump(mode="json")}, indent=1)
        write_text(folder / "config.json", text + "\n")
        if card is not None or not (folder / "README.md").exists():
            write_text(folder / "README.md", card or self.card())

    def card(self) -> str:
        """The text of the model card, as far as the model itself knows it."""
        return f"# {self.config.model}\n\nA Segscape model. Load it with `segscape.load_model`.\n"

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        token: str | None = None,
        card: str | None = None,
        license: str | None = None,
    ) -> str:
        """Upload the model to the Hugging Face hub, as `push_folder` does.

        Args:
            repo_id: `OWNER/NAME`.
            private: of a repository that is made anew.
            token: of the account; by default the one that is logged in.
            card: text of the model card, see `segscape.models.card`; by default `card()`.
            license: for the card's header, as the hub calls it, such as `apache-2.0`.

        Returns:
            The address of the commit. Raises HubError.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, card=card)
            return push_folder(Path(folder), repo_id, private=private, token=token, license=license)

    def load_weights(self, state: dict[str, Tensor], source: str) -> None:
        """Load a state dict strictly; raises CheckpointError that names the first differences."""
        own = self.state_dict()
        missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        shapes = [key for key in own.keys() & state.keys() if own[key].shape != state[key].shape]
        if missing or unexpected or shapes:
            details = [f"{len(missing)} weights are missing (first: {missing[0]})"] if missing else []
            details += [f"{len(unexpected)} are unknown (first: {unexpected[0]})"] if unexpected else []
            for key in sorted(shapes)[:1]:
                found, wanted = tuple(state[key].shape), tuple(own[key].shape)
                details.append(f"{len(shapes)} have another shape (first: {key} is {found}, the model has {wanted})")
            raise CheckpointError(
                f"{source} does not hold the weights of this {self.config.model} model: {'; '.join(details)}; "
                "check the model name, the label set, the width and the up-sampling."
            )
        self.load_state_dict(state)

    @classmethod
    def from_pretrained(cls, path_or_id: str | Path, *, revision: str | None = None) -> Self:
        """Load a saved model in evaluation mode from a folder or the hub.

        Raises:
            CheckpointError: nothing there, broken files, or a model of another class.
        """
        folder = find_folder(path_or_id, revision)
        options = read_config(folder)
        model = cls(cls.config_class.build(**options))
        model.load_weights(read_weights(folder / "model.safetensors"), str(folder / "model.safetensors"))
        return model.eval()


def _stored(value: Tensor, half: bool) -> Tensor:
    """A tensor as it is written; one with values beyond float16's range stays as it is."""
    value = value.detach().cpu().contiguous()
    fits = half and value.is_floating_point() and value.abs().max() <= torch.finfo(torch.float16).max
    return value.half() if fits else value


def push_folder(
    folder: Path, repo_id: str, *, private: bool = False, token: str | None = None, license: str | None = None
) -> str:
    """Upload a saved model and its card to the Hugging Face hub; nothing else that lies in the folder.

    Args:
        folder: with `config.json` and `model.safetensors`.
        repo_id, private, token, license: as in `PretrainedModel.push_to_hub`.

    Returns:
        The address of the commit.

    Raises:
        CheckpointError: the folder holds no model, or a broken one.
        HubError: the hub could not be reached, or refused.
    """
    from huggingface_hub import HfApi

    read_config(folder)
    read_weights(folder / "model.safetensors")
    with tempfile.TemporaryDirectory() as name:
        chosen = Path(name)
        for file in PUBLISHED_FILES:
            if (folder / file).is_file():
                shutil.copyfile(folder / file, chosen / file)
        if license is not None and (chosen / "README.md").is_file():
            card = with_license((chosen / "README.md").read_text(encoding="utf-8"), license)
            write_text(chosen / "README.md", card)
        try:
            api = HfApi(token=token)
            api.create_repo(repo_id, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repo_id, folder_path=chosen))
        except Exception as error:  # the hub client raises a dozen unrelated types
            raise HubError(
                f"{folder} could not be uploaded to {repo_id} ({type(error).__name__}: {error}); check the name "
                "OWNER/NAME, the connection, and that you are logged in (hf auth login)."
            ) from error


def find_folder(path_or_id: str | Path, revision: str | None = None) -> Path:
    """The folder of a saved model: a local one, or a snapshot of a Hugging Face repository (downloaded or cached)."""
    folder = Path(path_or_id)
    if folder.is_dir():
        return folder
    if folder.exists() or str(path_or_id).count("/") != 1 or str(path_or_id).startswith((".", "/", "~")):
        found = "is a file" if folder.exists() else "does not exist"
        raise CheckpointError(f"{path_or_id} {found}; give the folder of a saved model (it holds config.json).")
    from huggingface_hub import snapshot_download

    patterns = ["config.json", "model.safetensors", "README.md"]
    try:
        return Path(snapshot_download(str(path_or_id), revision=revision, allow_patterns=patterns))
    except Exception as error:  # the hub client raises a dozen unrelated types
        raise CheckpointError(
            f"{path_or_id} is neither a folder nor a model that could be fetched from the Hugging Face hub "
            f"({type(error).__name__}); check the path, or download the model first."
        ) from error


def read_config(folder: Path) -> dict[str, Any]:
    """The options in a model folder's `config.json`; raises CheckpointError when it is missing, broken or too new."""
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder} holds no config.json, so it is not a saved Segscape model.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, options = content["format"], content["config"]
        options["model"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise CheckpointError(
            f"{path} is not the configuration of a Segscape model; it is damaged or foreign."
        ) from None
    if version != FORMAT:
        raise CheckpointError(f"{path} has format {version}, this Segscape reads format {FORMAT}; update Segscape.")
    return dict(options)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, half precision widened to float32; raises CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; the model folder is incomplete.")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged and cannot be read ({error}); copy or download it again.") from None
    return {key: value.float() if value.dtype == torch.float16 else value for key, value in state.items()}
