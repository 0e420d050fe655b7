"""The failure drills in short, in one process of their own: `python -m tests.drills` does them in full."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("drills")  # one worker, as what it shares is dear

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if "def drill(" in path.read_text())


@pytest.fixture(scope="module")
def summaries() -> dict[str, str]:
    """What the drills have printed, by the name in their last line."""
    command = [sys.executable, "-m", "tests.drills", "--short"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2])
    texts, lines = {}, []
    for line in done.stdout.splitlines():
        lines.append(line)
        if not line.startswith(" "):
            texts[line.partition(":")[0]] = "\n".join(lines)
            lines = []
    return texts | {"rest": done.stderr}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the drills fork processes and look into /proc")
@pytest.mark.parametrize("name", [name for name in NAMES if name != Path(__file__).stem])
def test_drill(summaries: dict[str, str], name: str) -> None:
    assert f"{name}: passed" in summaries.get(name, ""), summaries.get(name, summaries["rest"])
