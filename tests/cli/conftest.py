"""A command line that runs in this process, and a tiny model and street to run it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from segscape.cli import main
from segscape.label_files import write_label_map
from segscape.labels import LABEL_SETS
from segscape.models import create_model


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines that begin with `error:`."""
        return [line for line in self.err.splitlines() if line.startswith("error:")]


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("generate", path, ...)` -> Result."""

    def run(*arguments: object) -> Result:
        with pytest.raises(SystemExit) as leaving:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(int(leaving.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three tiny models of the CamVid classes: plain, instances, styles."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    variants: dict[str, dict[str, object]] = {
        "plain": {},
        "instances": {"use_instances": True},
        "styles": {"latent_dim": 4},
    }
    for name, options in variants.items():
        model = create_model("clade", labels="camvid", image_size=(32, 32), base_channels=1, **options)
        model.save_pretrained(folder / name)
    return folder


@pytest.fixture
def street() -> np.ndarray:
    """A label map of CamVid classes, 40 x 56."""
    label_map = np.zeros((40, 56), dtype=np.int64)
    label_map[20:] = 3
    label_map[15:30, 5:20] = 8
    return label_map


@pytest.fixture
def workplace(tmp_path: Path, models: Path, street: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: `models` links to the tiny models, `street.png` is a good layout."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").symlink_to(models, target_is_directory=True)
    write_label_map(tmp_path / "street.png", street, LABEL_SETS["camvid"])
    return tmp_path
