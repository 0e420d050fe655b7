"""Who may ask, what every answer carries, and what happens to those who are slow, gone, or many."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient

from segscape.studio.engine import Engine, load_engine
from segscape.studio.guard import Access
from segscape.studio.limits import Limits
from segscape.studio.queue import FairQueue
from segscape.studio.server import create_studio, listen, page_address
from tests.studio.studio_requests import HERE, png, save_models, street

TOKEN = "a-token-of-this-test"
GOOD = {"layout": png(street())}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return load_engine(save_models(tmp_path_factory.mktemp("models"))[:1], "cpu")


@pytest.fixture
def locked(engine: Engine) -> TestClient:
    """A server at another address than this machine's own."""
    app = create_studio(engine, access=Access(TOKEN, None))
    return TestClient(app, base_url="http://studio.example", follow_redirects=False)


def test_this_machine_needs_no_token_and_others_do() -> None:
    for host in ("127.0.0.1", "127.0.0.5", "::1", "localhost"):
        assert Access.at(host).token is None and host in (Access.at(host).hosts or ())
    tokens = {Access.at(host).token for host in ("0.0.0.0", "::", "192.0.2.7", "studio.example", "0.0.0.0")}
    assert len(tokens) == 5 and all(token is not None and len(token) > 30 for token in tokens)
    assert page_address("0.0.0.0", 80, Access("abc")) == "http://0.0.0.0:80/?token=abc"
    assert page_address("::1", 80, Access()) == "http://[::1]:80/"


@pytest.mark.parametrize("path", ["/", "/api/models", "/api/openapi.json", "/api/examples/city-traffic.png", "/x"])
def test_without_the_token_nothing_is_told(locked: TestClient, path: str) -> None:
    wrong: list[dict[str, Any]] = [
        {},
        {"params": {"token": "wrong"}},
        {"params": {"token": ""}},
        {"params": {"token": "\u00e4"}},
        {"headers": {"Authorization": "Bearer wrong"}},
        {"headers": {"Authorization": f"Basic {TOKEN}"}},
        {"headers": {"Cookie": "segscape=wrong"}},
        {"headers": {"Cookie": "segscape"}},
        {"headers": {"Cookie": f"other={TOKEN}"}},
    ]
    for options in wrong:
        answer = locked.get(path, **options)
        assert answer.status_code == 401 and list(answer.json()) == ["error"] and TOKEN not in answer.text
        assert answer.headers["www-authenticate"] == "Bearer" and "content-security-policy" in answer.headers
    assert locked.post("/api/generate", files=GOOD).status_code == 401


def test_the_token_opens(locked: TestClient) -> None:
    assert locked.get("/api/models", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert locked.get("/api/models", params={"token": TOKEN}).status_code == 200
    assert locked.post("/api/generate", files=GOOD, params={"token": TOKEN}).status_code == 200


def test_the_token_moves_from_the_address_into_a_cookie(locked: TestClient) -> None:
    answer = locked.get("/", params={"token": TOKEN, "model": "a b"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/?model=a+b")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie
    assert locked.get("/api/models").status_code == 200, "the cookie is enough"
    assert locked.get("/%2fevil.example/", params={"token": TOKEN}).headers["location"] == "/evil.example/"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[", "localhost.evil", "192.0.2.1:80"])
def test_other_names_of_this_machine_are_refused(engine: Engine, host: str) -> None:
    client = TestClient(create_studio(engine), base_url=HERE)
    answer = client.get("/api/models", headers={"Host": host})
    assert answer.status_code == 421 and list(answer.json()) == ["error"]


@pytest.mark.parametrize("host", ["127.0.0.1:8760", "localhost", "localhost:1", "[::1]:8760"])
def test_own_names_are_not(engine: Engine, host: str) -> None:
    client = TestClient(create_studio(engine), base_url=HERE)
    assert client.get("/api/models", headers={"Host": host}).status_code == 200


def test_pages_of_other_sites_may_not_paint(engine: Engine) -> None:
    """A form with files is sent across sites without asking."""
    client = TestClient(create_studio(engine), base_url=HERE)
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9", "http://127.0.0.1.evil.example"):
        answer = client.post("/api/generate", files=GOOD, headers={"Origin": origin})
        assert answer.status_code == 403 and list(answer.json()) == ["error"]
    assert client.post("/api/generate", files=GOOD, headers={"Origin": HERE}).status_code == 200
    assert "access-control-allow-origin" not in client.get("/api/models", headers={"Origin": "http://x"}).headers


def test_every_answer_carries_the_policy(engine: Engine) -> None:
    client = TestClient(create_studio(engine), base_url=HERE)
    answers = [client.get(path) for path in ("/", "/api/models", "/nowhere", "/api/openapi.json")]
    answers += [client.post("/api/generate"), client.post("/api/models", content=bytes(10_000))]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self';" in policy and "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "cache-control" in answer.headers and "server" not in answer.headers


def test_a_failure_is_a_sentence_and_not_a_trace(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(tasks: object) -> None:
        raise RuntimeError("a secret at /home/somebody")

    monkeypatch.setattr(engine, "run", fail)
    answer = TestClient(create_studio(engine), base_url=HERE).post("/api/generate", files=GOOD)
    assert answer.status_code == 500 and list(answer.json()) == ["error"]
    assert "secret" not in answer.text and "a secret" in caplog.text and "content-security-policy" in answer.headers


def test_too_much_at_once_is_refused(engine: Engine) -> None:
    client = TestClient(create_studio(engine, limits=Limits(bodies=1000)), base_url=HERE)
    for _ in range(3):
        answer = client.post("/api/generate", files={"layout": bytes(2000)})
        assert answer.status_code == 429 and answer.headers["retry-after"] == "1"
    assert client.post("/api/generate", files=GOOD).status_code == 200, "what was refused is not counted on"


class Slow:
    """A real server whose network draws when it may.

    Attributes:
        address: host and port.
        drawn: the widths of the layouts that were drawn.
        permits: one for each batch.
        begun, admitted: released when the network begins a batch, and when a request joins the queue or is refused.
    """

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.address = ""
        self.drawn: list[int] = []
        self.permits, self.begun, self.admitted = (threading.Semaphore(0) for _ in range(3))
        run, admit = engine.run, FairQueue._admit

        def slowly(tasks: Any) -> Any:
            self.begun.release()
            assert self.permits.acquire(timeout=20)
            self.drawn.extend(task.label_map.shape[1] for task in tasks)
            return run(tasks)

        def watched(queue: Any, *arguments: Any) -> None:
            try:
                admit(queue, *arguments)
            finally:
                self.admitted.release()

        monkeypatch.setattr(engine, "run", slowly)
        monkeypatch.setattr(FairQueue, "_admit", watched)

    def ask(self, width: int, client: str = "anna") -> HTTPConnection:
        """Send a layout of a width, and wait until the server has it; the answer is not waited for."""
        content = png(street((32, width)))
        body = (
            b'--x\r\nContent-Disposition: form-data; name="layout"; filename="a"\r\n\r\n' + content + b"\r\n--x--\r\n"
        )
        connection = HTTPConnection(self.address, timeout=20)
        headers = {"Content-Type": "multipart/form-data; boundary=x", "X-Client": client}
        connection.request("POST", "/api/generate", body, headers)
        assert self.admitted.acquire(timeout=20)
        return connection


@pytest.fixture
def slow(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    """The server, its network busy with the layout of somebody else."""
    slow = Slow(engine, monkeypatch)
    server = uvicorn.Server(
        uvicorn.Config(create_studio(engine, limits=Limits(seconds=10, queue=4)), log_level="warning")
    )
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        slow.address = f"127.0.0.1:{listener.getsockname()[1]}"
        first = slow.ask(32, "first")
        assert slow.begun.acquire(timeout=20)
        yield slow
        slow.permits.release(10)
        assert first.getresponse().status == 200
        server.should_exit = True
        thread.join(30)


def test_the_newest_request_of_a_page_wins(slow: Slow) -> None:
    connections = [slow.ask(40 + 4 * number) for number in range(5)]
    assert [connection.getresponse().status for connection in connections[:4]] == [409] * 4
    slow.permits.release(2)
    assert connections[4].getresponse().status == 200 and slow.drawn == [32, 56]


def test_who_has_gone_is_not_drawn(slow: Slow) -> None:
    gone = slow.ask(40, "ben")
    gone.close()
    last = slow.ask(44, "chris")
    threading.Event().wait(0.3)  # until the server has seen that the connection is closed
    slow.permits.release(3)
    assert last.getresponse().status == 200 and slow.drawn == [32, 44]


def test_a_full_queue_says_when_to_come_back(slow: Slow) -> None:
    connections = [slow.ask(40 + 4 * number, f"client-{number}") for number in range(6)]
    refused = [connection.getresponse() for connection in connections[4:]]
    assert [answer.status for answer in refused] == [429] * 2
    assert int(refused[0].headers["Retry-After"]) >= 1 and list(json.load(refused[0])) == ["error"]
    slow.permits.release(9)
    assert [connection.getresponse().status for connection in connections[:4]] == [200] * 4


def test_a_body_that_never_ends_is_given_up(engine: Engine) -> None:
    server = uvicorn.Server(uvicorn.Config(create_studio(engine, limits=Limits(seconds=0.5)), log_level="warning"))
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        connection = HTTPConnection(f"127.0.0.1:{listener.getsockname()[1]}", timeout=20)
        connection.putrequest("POST", "/api/generate")
        connection.putheader("Content-Length", "1000")
        connection.endheaders(b"--x")
        assert connection.getresponse().status == 408
        server.should_exit = True
        thread.join(30)


def test_files_are_read_once(engine: Engine, tmp_path: Path) -> None:
    """What the page's addresses answer is read at the start: no request opens a file."""
    import sys

    app = create_studio(engine)
    opened: list[str] = []
    watching = threading.Event()

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching.is_set() and event == "open" and isinstance(arguments[0], str):
            opened.append(arguments[0])

    sys.addaudithook(watch)
    client = TestClient(app, base_url=HERE)
    client.post("/api/generate", files=GOOD)  # what is imported on first use
    client.get("/"), client.get("/nowhere"), client.get("/api/openapi.json")
    watching.set()
    for path in ("/", "/api/examples/city-traffic.png", "/etc/passwd", "/assets/x", "/nowhere"):
        client.get(path)
    client.post("/api/generate", files={"layout": ("/etc/passwd", png(street()))})
    client.post("/api/layout", files={"file": ("/etc/passwd", png(street()))})
    watching.clear()
    assert opened == []
