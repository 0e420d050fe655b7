"""What one request, and all of them together, may ask of the studio's server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The limits of a server; each has a status code of its own.

    Attributes:
        body: bytes of a request with files (413).
        side: of an image, in pixels (413).
        read: pixels of all images in one request together (413).
        drawn: pixels of all pictures that one request asks for, together (413).
        queue: requests that wait for the network (429).
        seconds: that a request may take to arrive (408), and to wait and be drawn (503).
        bodies: bytes of all requests that are being read or answered (429).
    """

    body: int = 20_000_000
    side: int = 4096
    read: int = 4 * 4096 * 4096
    drawn: int = 2048 * 2048
    queue: int = 32
    seconds: float = 30.0
    bodies: int = 256_000_000
