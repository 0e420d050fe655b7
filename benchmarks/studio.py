"""The studio as it is used: time to the first photograph, from a stroke to the photograph, 64 clients painting at once.

The server runs in a process of its own (`segscape studio`, the shipped model unless `--model` names another). A stroke
is a request with a changed layout at the model's size; the time is that of the whole answer, as a browser waits for it.
The first photograph is timed in a Chromium that is running, from opening the page in a new profile until it is shown;
the page that is opened first is the first request of all to the server (without playwright and Chromium: left out).
The crowd paints for `--seconds`: each client sends the next stroke as soon as it has the photograph, or, where the
server refuses it (429), after the time that the server asks for. Memory is the server's (Linux only). `--quick` takes
five strokes and a crowd of eight for three seconds. Other work on the machine shows in all times: the load is printed.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""The browser that is installed, or None."""
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
STROKES = 40
PAGES = 5
CLIENTS = 64
SECONDS = 60.0


@dataclass
class Crowd:
    """What happened to clients that painted at once.

    Attributes:
        statuses: how often each status code was the answer.
        served: photographs of each client.
        seconds: that each of them took, refusals and waiting included.
        memory: of the server in MB, each second.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    served: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


def main() -> None:
    """Measure, print, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder or Hugging Face id (the shipped one)")
    parser.add_argument("--clients", type=int, default=CLIENTS, help=f"of the crowd (default {CLIENTS})")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"that it paints (default {SECONDS:g})")
    parser.add_argument("--quick", action="store_true", help="five strokes; eight clients for three seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    options = parser.parse_args()
    strokes, clients, seconds = (5, 8, 3.0) if options.quick else (STROKES, options.clients, options.seconds)
    start = time.perf_counter()
    server, address = run_server(options.model)
    try:
        report = {"quick": options.quick, "start_seconds": time.perf_counter() - start}
        print(f"{'server ready':<22}{report['start_seconds']:>8.2f} s")
        report["load"] = os.getloadavg()[0]  # in the last minute
        print(f"{'load':<22}{report['load']:>8.2f} on {os.cpu_count()} cores")
        report["first_photo"] = measure_page(address, 2 if options.quick else PAGES)
        report["strokes"] = measure_strokes(address, strokes)
        report["crowd"] = measure_crowd(address, clients, seconds, server.pid)
    finally:
        server.terminate()
        server.wait()
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def run_server(model: str | None) -> tuple[subprocess.Popen[str], str]:
    """The server, and the host and port where it listens."""
    command = [sys.executable, "-m", "segscape", "studio", "--port", "0", *(["--model", model] if model else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("open "):
            return process, urlsplit(line.split()[1]).netloc
    raise SystemExit("the server did not start")


def measure_page(address: str, count: int) -> dict[str, float]:
    """Opens the page, in a new profile each time; empty where there is no browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return {}
    if CHROMIUM is None:
        return {}
    times = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for _ in range(count):
            page = browser.new_context().new_page()
            start = time.perf_counter()
            page.goto(f"http://{address}", wait_until="commit")
            page.locator("#latency:has-text('ms')").wait_for()
            times.append(1000 * (time.perf_counter() - start))
            page.context.close()
        browser.close()
    found = {"first_page_ms": times[0], "later_pages_ms": statistics.median(times[1:])}
    for key, value in found.items():
        print(f"{key:<22}{value:>8.0f} ms")
    return found


def measure_strokes(address: str, count: int) -> dict[str, float]:
    """One client that paints, stroke after stroke."""
    layouts = Layouts(address, seed=0)
    times, network = [], []
    for _ in range(count + 1):
        status, answer, seconds = generate(address, layouts.next(), "alone")
        if status != 200:
            raise SystemExit(f"the server answered {status}: {answer}")
        times.append(1000 * seconds)
        network.append(float(answer["milliseconds"]))
    first, *rest = times
    found = {
        "first_ms": first,
        "median_ms": statistics.median(rest),
        "p95_ms": sorted(rest)[int(0.95 * (len(rest) - 1))],
        "network_median_ms": statistics.median(network[1:]),
    }
    for key, value in found.items():
        print(f"{key:<22}{value:>8.0f} ms")
    return found


def measure_crowd(address: str, clients: int, seconds: float, server: int) -> dict[str, object]:
    """Many clients that paint at once."""
    crowd = paint_together(address, clients, seconds, server)
    counts = [crowd.served[str(number)] for number in range(clients)]
    found: dict[str, object] = {
        "clients": clients,
        "seconds": seconds,
        "statuses": {str(status): count for status, count in sorted(crowd.statuses.items())},
        "served_least": min(counts),
        "served_median": statistics.median(counts),
        "served_most": max(counts),
        "wait_median_ms": 1000 * statistics.median(crowd.seconds or [0.0]),
        "memory_first_mb": crowd.memory[len(crowd.memory) // 4] if crowd.memory else None,
        "memory_last_mb": crowd.memory[-1] if crowd.memory else None,
    }
    for key, value in found.items():
        print(f"{key:<22}{round(value) if isinstance(value, float) else value!s:>8}")
    return found


def paint_together(address: str, clients: int, seconds: float, server: int | None = None) -> Crowd:
    """Let clients paint for some seconds.

    Args:
        address: host and port of the server.
        clients: how many.
        seconds: how long they begin new strokes.
        server: its process, whose memory is watched.
    """
    crowd, end = Crowd(), time.monotonic() + seconds

    def paint(number: int) -> None:
        layouts, client = Layouts(address, seed=number), str(uuid.UUID(int=number + 1))
        while time.monotonic() < end:
            layout, start = layouts.next(), time.monotonic()
            while time.monotonic() < end + 60:
                status, answer, _ = generate(address, layout, client)
                crowd.statuses[status] += 1
                if status != 429:
                    break
                if time.monotonic() + float(str(answer["retry_after"])) > end:
                    return
                time.sleep(float(str(answer["retry_after"])))
            if status == 200:
                crowd.served[str(number)] += 1
                crowd.seconds.append(time.monotonic() - start)

    threads = [threading.Thread(target=paint, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        crowd.memory += [] if server is None else memory(server)
        time.sleep(1 if seconds > 5 else 0.2)
    return crowd


class Layouts:
    """Layouts of a model's size, one stroke after another.

    Args:
        address: of the server, which says the size and the classes.
        seed: of the strokes.
    """

    def __init__(self, address: str, seed: int) -> None:
        connection = HTTPConnection(address, timeout=120)
        connection.request("GET", "/api/models")
        model = json.load(connection.getresponse())[0]
        self.random = np.random.default_rng(seed)
        self.classes = len(model["labels"]["classes"])
        self.map = np.zeros(model["size"], dtype=np.uint8)
        self.map[self.map.shape[0] // 2 :] = 3 % self.classes

    def next(self) -> bytes:
        """The layout after another stroke, as PNG."""
        height, width = self.map.shape
        top, left = int(self.random.integers(height)), int(self.random.integers(width))
        self.map[top : top + height // 4, left : left + width // 4] = self.random.integers(self.classes)
        buffer = io.BytesIO()
        Image.fromarray(self.map).save(buffer, format="PNG")
        return buffer.getvalue()


def generate(address: str, layout: bytes, client: str) -> tuple[int, dict[str, object], float]:
    """Ask for a photograph: the status, the answer, and the seconds that it took."""
    head = b'--x\r\nContent-Disposition: form-data; name="layout"; filename="layout.png"\r\n\r\n'
    connection = HTTPConnection(address, timeout=120)
    headers = {"Content-Type": "multipart/form-data; boundary=x", "X-Client": client}
    start = time.perf_counter()
    connection.request("POST", "/api/generate", head + layout + b"\r\n--x--\r\n", headers)
    response = connection.getresponse()
    answer = json.load(response)
    seconds = time.perf_counter() - start
    connection.close()
    return response.status, {**answer, "retry_after": response.headers.get("Retry-After", "1")}, seconds


def memory(process: int) -> list[float]:
    """What a process has in memory, in MB; nothing where there is no /proc."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return []
    return [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")]


if __name__ == "__main__":
    main()
