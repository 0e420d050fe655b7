"""The command line as a whole: help without heavy imports, version, interrupts, usage errors."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer.main

import segscape.cli
from segscape import __version__
from segscape.errors import SegscapeError
from tests.cli.conftest import Run

GROUP = typer.main.get_command(segscape.cli.app)
COMMANDS = tuple(GROUP.commands)
INNER = tuple(f"{name} {inner}" for name, one in GROUP.commands.items() for inner in getattr(one, "commands", ()))
HEAVY = ("torch", "numpy", "PIL", "scipy", "yaml", "safetensors", "huggingface_hub", "tqdm")
"""What takes long to import and is ours to avoid (newer versions of typer import pydantic by themselves)."""


@pytest.mark.parametrize("command", [None, *COMMANDS, *INNER])
def test_help_imports_nothing_heavy(command: str | None) -> None:
    arguments = ["--help"] if command is None else [*command.split(), "--help"]
    script = (
        "import sys\nfrom segscape.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as leaving:\n    assert not leaving.code\n"
        f"print('heavy:', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("heavy: []\n")
    for name in COMMANDS if command is None else [f"segscape {command}"]:
        assert name in done.stdout


def test_version(run: Run) -> None:
    assert run("--version").out == f"segscape {__version__}\n"


@pytest.mark.parametrize("arguments", [("nonsense",), ("generate",), ("generate", "a.png", "--outt", "b")])
def test_usage_errors_leave_with_2(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.code == 2 and "Usage: segscape" in result.err and "Traceback" not in result.err


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (SegscapeError("one\nsentence"), 2, "error: one sentence"),
        (PermissionError(13, "Permission denied", "out/a.png"), 2, "error: out/a.png: Permission denied"),
    ],
)
def test_errors_become_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, line: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr("segscape.models.list_models", fail)
    result = run("models")
    assert (result.code, result.err) == (code, line + "\n")
