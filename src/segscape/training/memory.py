"""Memory of a training step on the CPU: kept by the process between steps."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

M_TRIM_THRESHOLD: Final = -1
M_MMAP_MAX: Final = -4
LARGEST: Final = 2**31 - 1
DEFAULTS: Final = {M_MMAP_MAX: 65536, M_TRIM_THRESHOLD: 128 * 1024}


@contextmanager
def kept_memory() -> Iterator[None]:
    """Inside the block the C library keeps the memory of freed tensors for the next ones.

    By default glibc gives large blocks back to the system at once, which then clears every page again when it is next
    touched: measured, a seventh of a step of CLADE at 256x256. The process takes no more than at its peak. Other C
    libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        yield
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, LARGEST)
    try:
        yield
    finally:
        for parameter, value in DEFAULTS.items():
            mallopt(parameter, value)
