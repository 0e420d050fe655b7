"""Memory kept between steps: a freed block comes back without new pages."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from contextlib import nullcontext
from segscape.training.memory import kept_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(1 << 24)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
given_back = faults()
with kept_memory():
    torch.ones(1 << 24)
    kept = faults()
print(kept, given_back)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_freed_blocks_are_used_again() -> None:
    output = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    kept, given_back = map(int, output.split())
    pages = (1 << 26) // resource.getpagesize()
    assert kept <= 2 * pages < 10 * pages < given_back
