"""Malformed and hostile uploads: every one is a clear 4xx, quickly, without memory, and the server goes on."""

from __future__ import annotations

import io
import resource
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from segscape.studio.application import SMALL_BODY
from segscape.studio.engine import Engine, load_engine
from segscape.studio.limits import Limits
from segscape.studio.server import create_studio
from tests.studio.studio_requests import HERE, bare_png, chunk, photo, png, save_models, saved, street

MEGABYTE = 1 << 20
BOMB = zlib.compress(bytes(200 * MEGABYTE), 1)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return load_engine(save_models(tmp_path_factory.mktemp("models"))[:1], "cpu")


@pytest.fixture(scope="module")
def client(engine: Engine) -> Iterator[TestClient]:
    with TestClient(create_studio(engine), base_url=HERE) as client:
        yield client


def flat(side: int) -> bytes:
    """The compressed rows of a black grey picture."""
    return zlib.compress(bytes((side + 1) * side), 9)


def progressive_bomb() -> bytes:
    """A progressive JPEG whose last scan comes 5000 times."""
    content = saved(Image.new("RGB", (512, 512), "red"), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * 5000 + b"\xff\xd9"


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
GOOD = png(street())
HOSTILE: dict[str, tuple[bytes, set[int]]] = {
    "empty": (b"", {415}),
    "text": (b"hello", {415}),
    "svg": (SVG, {415}),
    "svg with a preamble": (b'<?xml version="1.0"?>' + SVG, {415}),
    "html": (b"<!doctype html><script>alert(1)</script>", {415}),
    "gif": (saved(Image.fromarray(street()), "GIF"), {415}),
    "bmp": (saved(Image.fromarray(street()), "BMP"), {415}),
    "tiff": (saved(Image.fromarray(street()), "TIFF"), {415}),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", {415}),
    "pdf": (b"%PDF-1.4\n", {415}),
    "zip": (b"PK\x03\x04" + bytes(100), {415}),
    "npy": (b"\x93NUMPY\x01\x00" + bytes(100), {415}),
    "pickle": (b"\x80\x04cos\nsystem\n", {415}),
    "wave file": (b"RIFF\x10\0\0\0WAVEfmt ", {415}),
    "only the magic of png": (GOOD[:8], {422}),
    "truncated": (GOOD[: len(GOOD) // 2], {422}),
    "wrong checksum": (GOOD[:29] + b"\0\0\0\0" + GOOD[33:], {422}),
    "100k x 100k": (bare_png(100_000, 100_000, data=flat(8)), {413}),
    "9k x 9k": (bare_png(9_000, 9_000, data=flat(8)), {413}),
    "2^31 wide": (bare_png(2**31 - 1, 1, data=flat(8)), {413}),
    "no width": (bare_png(0, 5, data=flat(8)), {422}),
    "less data than pixels": (bare_png(4096, 4096, data=flat(8)), {422}),
    "a bomb of text": (bare_png(8, 8, chunk(b"zTXt", b"a\0\0" + BOMB)), {413, 422}),
    "a bomb of a profile": (
        bare_png(8, 8, chunk(b"iCCP", b"a\0\0" + BOMB), data=flat(8)),
        {200, 413, 422},  # a profile is never read
    ),
    "more data than pixels": (bare_png(8, 8, data=BOMB), {200, 413, 422}),
    "jpeg as a layout": (photo(), {422}),
    "only the magic of jpeg": (b"\xff\xd8\xff\xe0", {422}),
    "jpeg of many scans": (progressive_bomb(), {413}),
    "lossy webp": (saved(Image.fromarray(street()).convert("RGB"), "WEBP", quality=50), {422}),
    "only the magic of webp": (b"RIFF\0\0\0\0WEBPVP8X", {422}),
    "16k x 16k webp": (
        b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (16383).to_bytes(3, "little") * 2,
        {413, 422},
    ),
    "a label that does not exist": (png(np.full((8, 8), 255, dtype=np.uint8)), {422}),
    "65535 in 16 bits": (png(np.full((8, 8), 65535, dtype=np.uint16)), {422}),
    "the largest picture": (bare_png(4096, 4096, data=flat(4096)), {200, 413}),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_layouts_are_refused(client: TestClient, case: str) -> None:
    content, wanted = HOSTILE[case]
    before, start = peak(), time.monotonic()
    for path, field in (("/api/generate", "layout"), ("/api/layout", "file")):
        answer = client.post(path, files={field: content})
        assert answer.status_code in wanted, (path, answer.text[:200])
        if answer.status_code != 200:
            sentence = answer.json()["error"]
            assert list(answer.json()) == ["error"] and 10 < len(sentence) < 400 and "Traceback" not in sentence
    assert time.monotonic() - start < 20, "a bomb went off"
    assert peak() - before < 700, "MB: a bomb went off"
    assert client.post("/api/layout", files={"file": GOOD}).status_code == 200


@pytest.mark.parametrize("case", [case for case in HOSTILE if case != "jpeg as a layout"])
def test_hostile_photos_are_refused_or_read_as_pictures(client: TestClient, case: str) -> None:
    content, _ = HOSTILE[case]
    before = peak()
    answer = client.post("/api/segment", files={"photo": content})
    assert answer.status_code in (200, 413, 415, 422), answer.text[:200]
    assert answer.headers["content-type"] == ("image/png" if answer.status_code == 200 else "application/json")
    assert peak() - before < 700, "MB: a bomb went off"


def peak() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


NAMES = [
    "../../../../etc/passwd",
    "..\\..\\windows\\win.ini",
    "/etc/passwd",
    "layout.svg",
    "<script>alert(1)</script>.png",
    '"; drop table votes; --.png',
    "a\r\nSet-Cookie: x=y.png",
    "nul\0.png",
    "\u202egnp.exe",
    "x" * 4000,
    "~/.ssh/id_rsa",
    "file:///etc/passwd",
    "http://192.0.2.1/layout.png",
    "|touch pwned",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_files_mean_nothing(
    client: TestClient, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    good = client.post("/api/layout", files={"file": (name, GOOD, "text/html")})
    assert good.status_code in (200, 400, 422), good.text
    bad = client.post("/api/layout", files={"file": (name, b"hello", "image/png")})
    assert bad.status_code in (400, 415, 422) and name not in bad.text
    assert "set-cookie" not in good.headers and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "layout\0", "layout/../../x", "<script>", "model"])
def test_fields_that_are_named_in_a_form_are_fields(client: TestClient, name: str) -> None:
    import json

    entry = json.dumps({"class": "car", "photo": name})
    answer = client.post("/api/generate", files={"layout": GOOD}, data={"class_style": entry, "model": "plain"})
    assert answer.status_code == 422 and "no file" in answer.json()["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../server.py",
        "/assets/..%2fserver.py",
        "/assets/%2e%2e/server.py",
        "/assets/%2e%2e%2f%2e%2e%2fengine.py",
        "//etc/passwd",
        "/%00",
        "/assets/\u2025/x",
        "/api/examples/../../secret.png",
        "/api/examples/..%2f..%2fsecret.png",
        "/api/examples/%2fetc%2fpasswd.png",
        "/api/examples/" + "x" * 5000 + ".png",
        "/server.py",
        "/docs",
        "/redoc",
        "/api",
        "/examples/city-traffic.png",
    ],
)
def test_nothing_else_can_be_fetched(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404 and list(answer.json()) == ["error"]


def test_other_methods_are_refused(client: TestClient) -> None:
    for method, path in (("PUT", "/api/generate"), ("GET", "/api/generate"), ("POST", "/api/models")):
        answer = client.request(method, path)
        assert answer.status_code == 405 and "allow" in answer.headers and list(answer.json()) == ["error"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "multipart/form-data; boundary=x"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (b"--x\r\nContent-Disposition: form-data; name=layout\r\n\r\n", "multipart/form-data; boundary=x"),
        (b"--x\r\n\r\n\r\n--x--\r\n", "multipart/form-data; boundary=x"),
        (b"anything", "multipart/form-data"),
        (b"anything", "multipart/form-data; boundary=" + "y" * 500),
        (b"layout=1", "application/x-www-form-urlencoded"),
        (b"{}", "application/json"),
        (b"\xff\xfe\x00", "text/plain"),
        (b"", ""),
    ],
)
def test_broken_forms_are_refused(client: TestClient, content: bytes, kind: str) -> None:
    answer = client.post("/api/generate", content=content, headers={"content-type": kind})
    assert answer.status_code in (400, 422) and list(answer.json()) == ["error"], answer.text


def test_a_form_of_a_thousand_fields(client: TestClient) -> None:
    many = client.post("/api/generate", files=[("layout", GOOD), *((f"f{n}", b"x") for n in range(3000))])
    assert many.status_code in (400, 422)
    styles = client.post("/api/generate", files={"layout": GOOD}, data={"class_style": ["{}"] * 100})
    assert styles.status_code == 422


def stream(size: int) -> Iterator[bytes]:
    for _ in range(size // 100_000 + 1):
        yield bytes(100_000)


def test_large_bodies_are_refused(engine: Engine) -> None:
    client = TestClient(create_studio(engine, limits=Limits(body=MEGABYTE)), base_url=HERE)
    form = {"content-type": "multipart/form-data; boundary=x"}
    contents: list[Any] = [bytes(MEGABYTE + 1), stream(2 * MEGABYTE), stream(30 * MEGABYTE)]
    for content in contents:
        answer = client.post("/api/generate", content=content, headers=form)
        assert answer.status_code == 413 and str(MEGABYTE) in answer.json()["error"]
    small = client.post("/api/models", content=bytes(SMALL_BODY + 1))
    assert small.status_code == 413


def test_many_pixels_in_many_images(engine: Engine) -> None:
    client = TestClient(create_studio(engine, limits=Limits(read=100 * 100)), base_url=HERE)
    assert client.post("/api/generate", files={"layout": png(street((100, 100)))}).status_code == 200
    two = {"layout": png(street((100, 60))), "style": photo((100, 60))}
    answer = client.post("/api/generate", files=two)
    assert answer.status_code == 413 and "together" in answer.json()["error"]


def test_an_animation_is_its_first_picture(client: TestClient) -> None:
    buffer = io.BytesIO()
    frames = [Image.fromarray(street()) for _ in range(3)]
    frames[0].save(buffer, format="PNG", save_all=True, append_images=frames[1:])
    assert client.post("/api/layout", files={"file": buffer.getvalue()}).content == (
        client.post("/api/layout", files={"file": GOOD}).content
    )
