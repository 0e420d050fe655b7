"""What stands before every page of a server: who may ask, how much, and the headers of every answer."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

from segscape.studio.refusal import Refusal, answer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "segscape"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every answer that does not set them itself."""

POLICY = (
    "default-src 'none'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The content security policy: nothing from elsewhere, nothing inline."""

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        token: that every request must carry; None lets in all who reach the address.
        hosts: names that the `Host` header may have, so that no other site can be made to point here (DNS rebinding);
            None allows all.
    """

    token: str | None = None
    hosts: frozenset[str] | None = _LOOPBACK

    @classmethod
    def at(cls, host: str) -> Access:
        """For a server at an address: this machine's own needs no token, any other has a new one."""
        try:
            local = host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            local = False
        return cls(None, _LOOPBACK | {host}) if local else cls(secrets.token_urlsafe(24), None)


class Guard:
    """ASGI middleware that lets no request through before it is known to be allowed, small, and complete.

    Args:
        app: what it stands before.
        access: who may ask.
        body_limit: bytes that a request may have, by its path.
        bodies: bytes of all requests that are being read or answered, together.
        seconds: that a body may take to arrive.
    """

    def __init__(
        self, app: ASGIApp, access: Access, body_limit: Callable[[str], int], bodies: int, seconds: float = 30.0
    ) -> None:
        self.app, self.access = app, access
        self.body_limit, self.bodies, self.seconds = body_limit, bodies, seconds
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answered = False

        async def send_with_headers(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                message["headers"] = _complete(message["headers"])
            await send(message)

        try:
            await self._let_in(scope, receive, send_with_headers)
        except Refusal as refusal:
            await answer(refusal.status, str(refusal), refusal.headers)(scope, receive, send_with_headers)
        except Exception:
            logging.getLogger("uvicorn.error").exception("a request failed")
            if not answered:
                sentence = "The server failed to answer this; whoever runs it finds the reason in its log."
                await answer(500, sentence)(scope, receive, send_with_headers)

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        self._check_host(headers)
        if scope["method"] not in ("GET", "HEAD"):
            _check_origin(headers)
        if self._check_token(scope, headers) and scope["method"] == "GET" and not scope["path"].startswith("/api/"):
            await _keep_token(scope, str(self.access.token), receive, send)
            return
        body = _Body(self, self.body_limit(scope["path"]))
        try:
            messages = await body.read_in_time(receive)

            async def replay() -> Message:
                return messages.pop(0) if messages else await receive()

            await self.app(scope, replay, send)
        finally:
            self._held -= body.held

    def _check_host(self, headers: dict[str, str]) -> None:
        host = _host_name(headers.get("host", ""))
        if self.access.hosts is not None and host not in self.access.hosts:
            raise Refusal(421, "This server answers at its own address only; open the address that it printed.")

    def _check_token(self, scope: Scope, headers: dict[str, str]) -> bool:
        """Refuse who has no token; the return value says whether it stood in the address."""
        if self.access.token is None:
            return False
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if _same(query.get("token"), self.access.token):
            return True
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        shown = (bearer if kind.lower() == "bearer" else None, _cookie(headers.get("cookie", "")))
        if not any(_same(token, self.access.token) for token in shown):
            sentence = "This needs the token that the server printed when it started: open the address with it."
            raise Refusal(401, sentence, {"WWW-Authenticate": "Bearer"})
        return False


class _Body:
    """Reads a request's body into messages, as many bytes as are allowed.

    Attributes:
        held: bytes in memory.
    """

    def __init__(self, guard: Guard, limit: int) -> None:
        self.guard, self.limit, self.held = guard, limit, 0

    async def read_in_time(self, receive: Receive) -> list[Message]:
        try:
            return await asyncio.wait_for(self._read(receive), self.guard.seconds)
        except asyncio.TimeoutError:
            raise Refusal(408, f"The request took longer than {self.guard.seconds:g} seconds to arrive.") from None

    async def _read(self, receive: Receive) -> list[Message]:
        messages: list[Message] = []
        more = True
        while more:
            messages.append(await receive())
            self._hold(len(messages[-1].get("body", b"")))
            more = messages[-1].get("more_body", False)
            if self.held > self.limit:
                messages.clear()
                await _discard(receive, 3 * self.limit if more else 0)
                raise Refusal(413, f"A request here has at most {self.limit} bytes.", {"Connection": "close"})
            if self.guard._held > self.guard.bodies:
                raise Refusal(429, "The server is reading too many large requests; try again.", {"Retry-After": "1"})
        return messages

    def _hold(self, size: int) -> None:
        self.held += size
        self.guard._held += size


async def _discard(receive: Receive, limit: int) -> None:
    """Let some more bytes of a body pass by: who still sends them would not read the answer."""
    while limit > 0:
        message = await receive()
        limit -= len(message.get("body", b""))
        if not message.get("more_body", False):
            return


def _host_name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _check_origin(headers: dict[str, str]) -> None:
    """Refuse what a page of another site sends: browsers say where a request comes from."""
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != headers.get("host"):
        raise Refusal(403, "Pages of other sites may not use this server.")


async def _keep_token(scope: Scope, token: str, receive: Receive, send: Send) -> None:
    """Move the token from the address, which gets into histories, into a cookie."""
    from starlette.responses import RedirectResponse

    rest = [(key, value) for key, value in parse_qsl(scope["query_string"].decode("latin-1")) if key != "token"]
    path = "/" + scope["path"].lstrip("/")  # never "//host"
    response = RedirectResponse(path + ("?" + urlencode(rest) if rest else ""), status_code=303)
    response.set_cookie(COOKIE, token, httponly=True, samesite="lax")  # lax: links from a mail must work
    await response(scope, receive, send)


def _cookie(header: str) -> str | None:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value


def _same(shown: str | None, token: str) -> bool:
    return shown is not None and secrets.compare_digest(shown.encode(), token.encode())


def _complete(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    known = {key.lower() for key, _ in headers}
    wanted = {"Content-Security-Policy": POLICY, **HEADERS}
    return [*headers, *((k.lower().encode(), v.encode()) for k, v in wanted.items() if k.lower().encode() not in known)]
