"""The web application of a study: what it says, what it hides, and what it refuses."""

from __future__ import annotations

import io
import re
import socket
import sqlite3
from collections import Counter
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from segscape.errors import DataError, EvaluationError, SegscapeError
from segscape.studio.application import SMALL_BODY as BODY_LIMIT
from segscape.studio.server import serve
from segscape.studio.study import Study
from segscape.studio.survey import arrange, create_app
from segscape.studio.votes import Votes
from tests.studio.conftest import COLOURS

HERE = "http://127.0.0.1"


@pytest.fixture
def client(study: Study) -> TestClient:
    return TestClient(create_app(study.folder), base_url=HERE)


def pairs(client: TestClient, rater: str = "anna") -> list[dict[str, Any]]:
    answer = client.get("/api/pairs", params={"rater": rater})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["pairs"]
    return found


def vote(client: TestClient, item: int, choice: str = "left", rater: str = "anna", **more: object) -> Any:
    return client.post("/api/votes", json={"rater": rater, "item": item, "choice": choice, "seconds": 1.5, **more})


def side_of(client: TestClient, address: str) -> str:
    """Which side a picture is of, by its colour."""
    answer = client.get(address)
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
    colour = tuple(np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"))[0, 0].tolist())
    return next(side for side, own in COLOURS.items() if own == colour)


def test_every_pair_shows_both_sides_of_one_layout(client: TestClient, study: Study) -> None:
    found = pairs(client)
    assert sorted(pair["item"] for pair in found) == list(range(6))
    for pair in found:
        assert {side_of(client, pair["left"]), side_of(client, pair["right"])} == {"a", "b"}
        item = study.plan.items[pair["item"]]
        assert client.get(pair["layout"]).content == study.picture("layouts", item).read_bytes()
        assert (pair["height"], pair["width"]) == (24, 36)


def test_sides_are_balanced_for_every_rater(client: TestClient) -> None:
    for rater in ("anna", "ben", "chris"):
        assert Counter(side_of(client, pair["left"]) for pair in pairs(client, rater)) == {"a": 3, "b": 3}


def test_order_and_sides_differ_between_raters_but_not_between_visits(client: TestClient, study: Study) -> None:
    again = TestClient(create_app(study.folder), base_url=HERE)
    sessions = [pairs(client, f"rater {number}") for number in range(8)]
    assert [pairs(again, f"rater {number}") for number in range(8)] == sessions
    assert len({tuple(pair["item"] for pair in session) for session in sessions}) > 4
    assert len({tuple(sorted((pair["item"], pair["left"]) for pair in session)) for session in sessions}) > 4


def test_the_arrangement_is_fair() -> None:
    """Over many raters each place, each item and each pair of neighbours has either side equally often."""
    plans = [arrange("key", f"rater {number}", 7) for number in range(2000)]
    for plan in plans:
        assert sorted(place.item for place in plan) == list(range(7))
        assert Counter(place.left for place in plan)["a"] in (3, 4)
    for position in range(7):
        assert abs(np.mean([plan[position].left == "a" for plan in plans]) - 0.5) < 0.05
        assert abs(np.mean([plan[position].item for plan in plans]) - 3) < 0.2
    for item in range(7):
        lefts = [place.left == "a" for plan in plans for place in plan if place.item == item]
        assert abs(np.mean(lefts) - 0.5) < 0.05
    repeats = [one.left == two.left for plan in plans for one, two in pairwise(plan)]
    assert abs(np.mean(repeats) - 3 / 7) < 0.05  # 3 and 4 of 7 in random order: (3 * 2 + 4 * 3) / 42


def test_addresses_tell_nothing(client: TestClient, study: Study) -> None:
    session = pairs(client)
    addresses = [pair[key] for pair in session for key in ("left", "right", "layout")]
    assert all(re.fullmatch(r"/pictures/[0-9a-f]{20}", address) for address in addresses)
    assert len(set(addresses)) == 18
    by_side: dict[str, list[str]] = {"a": [], "b": []}
    for pair in session:
        for key in ("left", "right"):
            by_side[side_of(client, pair[key])].append(pair[key])
    headers = [dict(client.get(address).headers) for side in "ab" for address in by_side[side]]
    for header in headers:
        assert header.keys() <= {name.lower() for name in headers[0]} and "last-modified" not in header
    text = client.get("/api/pairs", params={"rater": "anna"}).text
    assert not any(name in text for name in (*study.plan.items, *study.titles, study.plan.data) if len(name) > 1)


def test_a_vote_names_the_side_that_was_seen(client: TestClient, study: Study) -> None:
    expected = {}
    for number, pair in enumerate(pairs(client)):
        choice = ("left", "right")[number % 2]
        expected[study.plan.items[pair["item"]]] = (side_of(client, pair["left"]), side_of(client, pair[choice]))
        answer = vote(client, pair["item"], choice)
        assert (answer.status_code, answer.json()) == (200, {"answered": number + 1, "total": 6})
    found = Votes(study.votes_path).done("anna")
    assert {one.item: (one.left, one.choice) for one in found} == expected
    assert all(one.seconds == 1.5 for one in found)


def test_a_session_says_what_was_answered(client: TestClient, study: Study) -> None:
    order = [pair["item"] for pair in pairs(client)]
    for item, choice in ((order[2], "left"), (order[0], "right"), (order[2], "right")):
        vote(client, item, choice)
    vote(client, order[1], rater="ben")
    restarted = TestClient(create_app(study.folder), base_url=HERE)
    answered = restarted.get("/api/pairs", params={"rater": "anna"}).json()["answered"]
    assert answered == [{"item": order[0], "choice": "right"}, {"item": order[2], "choice": "right"}]


def test_a_name_has_one_spelling(client: TestClient, study: Study) -> None:
    vote(client, 0, rater="  Anna   Lee ")
    vote(client, 0, rater="Anna\u00a0Lee")
    assert [one.rater for one in Votes(study.votes_path).all()] == ["Anna Lee"]


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"rater": ""}, 422, "rater"),
        ({"rater": "   "}, 422, "rater"),
        ({"rater": "x" * 65}, 422, "rater"),
        ({"rater": "a\x1b[2Jb"}, 422, "printable"),
        ({"rater": None}, 422, "rater"),
        ({"choice": "both"}, 422, "choice"),
        ({"choice": "a"}, 422, "choice"),
        ({"item": -1}, 422, "item"),
        ({"item": 6}, 404, "6 pairs"),
        ({"item": 10**30}, 404, "6 pairs"),
        ({"item": "../study.json"}, 422, "item"),
        ({"seconds": -1}, 422, "seconds"),
        ({"seconds": 1e9}, 422, "seconds"),
        ({"left": "a"}, 422, "left"),
    ],
)
def test_wrong_votes_are_refused_in_a_sentence(
    client: TestClient, study: Study, change: dict[str, object], status: int, said: str
) -> None:
    answer = client.post("/api/votes", json={"rater": "anna", "item": 0, "choice": "left", "seconds": 1, **change})
    assert answer.status_code == status
    assert isinstance(answer.json()["error"], str) and said in answer.json()["error"]
    assert Votes(study.votes_path).all() == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"seconds": NaN}'])
def test_broken_bodies_are_refused(client: TestClient, body: bytes) -> None:
    answer = client.post("/api/votes", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422 and isinstance(answer.json()["error"], str)


def test_a_form_of_another_site_cannot_vote(client: TestClient, study: Study) -> None:
    """A browser sends these types across sites without asking; JSON it does not."""
    body = b'{"rater": "anna", "item": 0, "choice": "left", "seconds": 1}'
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        assert client.post("/api/votes", content=body, headers={"content-type": kind}).status_code == 422
    assert "access-control-allow-origin" not in client.options("/api/votes", headers={"origin": "http://x"}).headers
    assert Votes(study.votes_path).all() == []


def test_large_bodies_are_refused(client: TestClient, study: Study) -> None:
    def stream() -> Any:
        for _ in range(100):
            yield b" " * 1000

    json_type = {"content-type": "application/json"}
    for content in (b" " * (BODY_LIMIT + 1), stream()):
        answer = client.post("/api/votes", content=content, headers=json_type)
        assert answer.status_code == 413 and str(BODY_LIMIT) in answer.json()["error"]
    padded = b'{"rater": "anna", "item": 0, "choice": "left", "seconds": 1}'.ljust(BODY_LIMIT)
    assert client.post("/api/votes", content=padded, headers=json_type).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/pictures/../study.json",
        "/pictures/..%2fstudy.json",
        "/pictures/%2e%2e/study.json",
        "/pictures/a%2ftown%2f00.png",
        "/pictures/a/town/00.png",
        "/pictures/" + "0" * 20,
        "/pictures/" + "0" * 5000,
        "/pictures/%00",
        "/study.json",
        "/votes.sqlite",
        "/survey.py",
        "/docs",
        "/api/report",
    ],
)
def test_nothing_else_can_be_fetched(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/", "/survey.css", "/survey.js", "/survey.svg"])
def test_the_page_needs_nobody_else(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    outside = set(re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]+", answer.text))
    assert outside <= {"http://www.w3.org"}  # the name of SVG, which nobody fetches
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "style=" not in answer.text and not re.search(
        r"<script(?![^>]*src=)", answer.text
    )  # or the policy breaks it


def test_refusals_carry_the_policy_too(client: TestClient) -> None:
    for answer in (client.get("/nowhere"), vote(client, -1), client.post("/api/votes", content=b" " * 9999)):
        assert answer.status_code >= 400 and "content-security-policy" in answer.headers


def test_the_interface_is_described(client: TestClient) -> None:
    description = client.get("/api/openapi.json").json()
    assert set(description["paths"]) == {"/api/pairs", "/api/votes", "/pictures/{address}"}
    assert set(description["components"]["schemas"]["NewVote"]["required"]) == {"rater", "item", "choice", "seconds"}


def test_votes_that_cannot_be_kept_are_said(
    client: TestClient, study: Study, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The rater reads a sentence without paths, and the server's log names the file and the reason."""
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, timeout: connect(path, timeout=0))
    with closing(connect(study.votes_path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = vote(client, 0)
        assert answer.status_code == 503 and "try again" in answer.json()["error"]
        assert str(study.folder) not in answer.text and "database is locked" in caplog.text
        other.execute("ROLLBACK")
    assert vote(client, 0).status_code == 200


def test_a_study_without_pictures_is_refused(study: Study) -> None:
    study.picture("b", study.plan.items[0]).unlink()
    with pytest.raises(EvaluationError, match="lacks pictures of 1 layouts"):
        create_app(study.folder)
    with pytest.raises(EvaluationError, match="holds no study"):
        create_app(study.folder / "pictures")


def test_a_damaged_picture_is_named(study: Study) -> None:
    damaged = study.picture("a", study.plan.items[0])
    damaged.write_bytes(b"")
    with pytest.raises(DataError, match=rf"{damaged} is not a readable image"):
        create_app(study.folder)


def test_a_taken_port_is_refused(client: TestClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SegscapeError, match=f"--port {port} is in use"):
            serve(client.app, "127.0.0.1", port, print)  # type: ignore[arg-type]


def test_an_address_of_nobody_is_refused(client: TestClient) -> None:
    with pytest.raises(SegscapeError, match=r"cannot listen at 192\.0\.2\.1"):
        serve(client.app, "192.0.2.1", 0, print)  # type: ignore[arg-type]  # an address that no machine has


def test_the_assets_are_beside_the_code() -> None:
    from segscape.studio import survey

    folder = Path(survey.__file__).parent
    assert all((folder / name).is_file() for name, _ in survey.ASSETS.values())
