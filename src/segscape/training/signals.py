"""Stopping a run from outside: Ctrl-C, and the SIGTERM that clusters send before they take a machine away."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

PREEMPTED = 75
"""Exit code of a run that SIGTERM has stopped and that can be resumed (EX_TEMPFAIL of sysexits.h: try again)."""

ONE_STOP = 2.0
"""Seconds in which signals count as one: a launcher passes on what the scheduler has sent to every process."""


class StopSignals:
    """Notes SIGINT and SIGTERM, so that the loop can save and leave; a second one acts at once.

    Use it as a context; outside the main thread it notes nothing. True once a signal was noted.

    Attributes:
        noted: the signal that this process got; 0 for none.
    """

    def __enter__(self) -> StopSignals:
        self.noted = 0
        self.since = 0.0
        self.previous: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self.previous = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def __bool__(self) -> bool:
        return self.noted > 0

    def _note(self, number: int, _: FrameType | None) -> None:
        if not self.noted:
            self.noted, self.since = number, time.monotonic()
        elif time.monotonic() - self.since > ONE_STOP:
            self.__exit__()
            signal.raise_signal(number)

    @property
    def terminating(self) -> bool:
        """Whether this process got SIGTERM."""
        return self.noted == signal.SIGTERM

    @property
    def name(self) -> str:
        """What stopped the run, for messages; in distributed runs perhaps another process."""
        return {0: "another process", signal.SIGINT: "Ctrl-C"}.get(self.noted, "SIGTERM")
