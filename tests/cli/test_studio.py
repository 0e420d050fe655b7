"""`segscape studio` and `segscape export --format web`, end to end on tiny models."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from segscape.models.generator import Generator
from tests.cli.conftest import Run


def serve(folder: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    """A server in a process of its own, and its address."""
    command = [sys.executable, "-m", "segscape", "studio", "--device", "cpu", "--port", "0", *options]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("open "):
            return process, line.split()[1]
    raise AssertionError(process.communicate()[1])


def interrupt(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "") and "stopped" in out


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent in another way here")
def test_two_models_are_served(workplace: Path) -> None:
    process, address = serve(workplace, "--model", "models/plain", "--model", "models/styles")
    try:
        models = json.load(urlopen(f"{address}api/models"))
        assert [model["id"] for model in models] == ["plain", "styles"]
        part = b'--x\r\nContent-Disposition: form-data; name="layout"; filename="x"\r\n\r\n'
        body = part + Path("street.png").read_bytes() + b"\r\n--x--\r\n"
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        answer = json.load(urlopen(Request(f"{address}api/generate", body, headers)))
        assert answer["snippet"].startswith("from segscape") and "'models/plain'" in answer["snippet"]
    finally:
        interrupt(process)


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent in another way here")
def test_elsewhere_it_needs_the_token_that_is_printed(workplace: Path) -> None:
    process, printed = serve(workplace, "--model", "models/plain", "--host", "0.0.0.0")
    try:
        address, _, token = printed.replace("0.0.0.0", "127.0.0.1").partition("?token=")
        assert len(token) > 30
        with pytest.raises(HTTPError, match="401"):
            urlopen(f"{address}api/models")
        assert json.load(urlopen(f"{address}api/models?token={token}"))
    finally:
        interrupt(process)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--model", "models/nothing"), "nothing"),
        (("--model", "models/plain", "--survey", "nowhere"), "holds no study"),
        (("--model", "models/plain", "--device", "toaster"), "toaster"),
        (("--model", "models/plain", "--host", "192.0.2.1"), "cannot listen"),
        (("--model", "models/plain", "--segmenter", "nowhere"), "nowhere"),
        (("--port", "70000"), "--port"),
    ],
)
def test_mistakes_are_one_sentence(run: Run, workplace: Path, options: tuple[str, ...], said: str) -> None:
    result = run("studio", *options)
    assert result.code == 2 and said in result.err and "Traceback" not in result.err


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "python_multipart"])
def test_without_the_extra_it_says_what_to_install(
    run: Run, workplace: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    result = run("studio", "--model", "models/plain")
    assert result.code == 2 and "segscape[studio]" in result.errors[0]


def test_a_site_for_browsers(run: Run, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command; what it writes is tried in tests/studio/test_site.py."""
    written = []

    def write(model: Generator, folder: Path, name: str) -> SimpleNamespace:
        written.append((model.config.image_size, str(folder), name))
        return SimpleNamespace(difference=1e-6)

    monkeypatch.setattr("segscape.studio.site.write_site", write)
    result = run("export", "--format", "web", "--model", "models/plain", "--out", "a site")
    assert result.code == 0 and "http.server --directory 'a site'" in result.out, result.err
    assert written == [((32, 32), "a site", "plain")]


def test_a_site_takes_no_other_options(run: Run, workplace: Path) -> None:
    for options in (("--size", "64x64"), ("--int8", "--calibrate", "street.png")):
        result = run("export", "--format", "web", "--model", "models/plain", "--out", "site", *options)
        assert result.code == 2 and "omit" in result.errors[0]
