"""`pytest tests/conformance --vectors DIR` checks every vector file of a folder, one test per file."""

from __future__ import annotations

from pathlib import Path

import pytest

STORED = Path(__file__).parent / "vectors"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--vectors", metavar="DIR", default=None, help=f"folder of *.safetensors (default: {STORED})")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "vector_file" in metafunc.fixturenames:
        given = metafunc.config.getoption("--vectors", default=None)
        folder = Path(given) if given else STORED
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise pytest.UsageError(f"--vectors: {folder} holds no *.safetensors files")
        metafunc.parametrize("vector_file", files, ids=[file.stem for file in files])
