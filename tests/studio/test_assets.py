"""The built front end in the package is what its sources say."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FRONT_END = ROOT / "frontend"
ASSETS = ROOT / "src" / "segscape" / "studio" / "assets"
MANIFEST = json.loads((ASSETS / "manifest.json").read_text())
BUILD = "run npm ci and npm run build in frontend/"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def sources() -> list[str]:
    """What frontend/build/assets.ts lists as sources."""
    listed = re.search(r"SOURCES = \[(.*?)\]", (FRONT_END / "build" / "assets.ts").read_text(), re.DOTALL)
    assert listed
    found = []
    for name in re.findall(r"'([^']+)'", listed[1]):
        path = FRONT_END / name
        found += [f"{name}/{inside}" for inside in files(path)] if path.is_dir() else [name]
    return sorted(found)


def test_the_assets_are_built_from_these_sources() -> None:
    lines = [f"{name} {sha256((FRONT_END / name).read_bytes())}\n" for name in sources()]
    assert len(lines) > 30
    assert sha256("".join(lines).encode()) == MANIFEST["sources"], f"the front end has changed: {BUILD}"


def test_the_assets_are_those_of_the_build() -> None:
    found = {name: sha256((ASSETS / name).read_bytes()) for name in files(ASSETS) if name != "manifest.json"}
    assert found == MANIFEST["assets"], f"the assets were changed by hand: {BUILD}"


def test_the_pages_load_nothing_from_elsewhere() -> None:
    for page in ("index.html", "static.html"):
        text = (ASSETS / page).read_text()
        loaded = re.findall(r'(?:src|href)="([^"#]+)"', text)
        assert len(loaded) >= 3 and all(address.startswith("./") for address in loaded)
        assert all((ASSETS / address).is_file() for address in loaded)
        assert not re.search(r"<script(?![^>]*\bsrc=)|\bstyle=|\bon[a-z]+=", text), "the policy allows nothing inline"


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("npm") is None or not (FRONT_END / "node_modules" / "vite").is_dir(),
    reason="needs npm ci in frontend/",
)
def test_a_build_gives_the_same_files(tmp_path: Path) -> None:
    command = ["npm", "run", "build", "--", "--outDir", str(tmp_path / "assets")]
    done = subprocess.run(command, cwd=FRONT_END, env={**os.environ, "CI": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "assets" / "manifest.json").read_text()) == MANIFEST


def test_the_examples_are_those_of_the_repository() -> None:
    """`make layouts` draws them into both places."""
    inside = ROOT / "src" / "segscape" / "studio" / "examples"
    drawn = {path.name: path.read_bytes() for path in (ROOT / "examples" / "layouts").glob("*.png")}
    assert drawn and drawn == {path.name: path.read_bytes() for path in inside.glob("*.png")}
