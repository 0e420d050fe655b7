"""64 clients that paint at once, for a moment; `benchmarks/studio.py` lets them paint for a minute."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from benchmarks.studio import paint_together
from segscape.studio.engine import load_engine
from segscape.studio.server import create_studio, listen
from tests.studio.studio_requests import save_models


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    engine = load_engine(save_models(tmp_path)[:1], "cpu")
    server = uvicorn.Server(uvicorn.Config(create_studio(engine), log_level="warning"))
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(30)


@pytest.mark.slow
def test_a_crowd_is_served_fairly(address: str) -> None:
    crowd = paint_together(address, 64, 6, os.getpid())
    assert set(crowd.statuses) == {200, 429}, crowd.statuses
    counts = [crowd.served[str(number)] for number in range(64)]
    assert min(counts) >= 2, f"whoever comes back after Retry-After is served: {sorted(counts)}"
    if crowd.memory:
        assert crowd.memory[-1] - crowd.memory[len(crowd.memory) // 3] < 60, "MB that were not given back"
