"""The order of the tests: the long ones first, so that no worker is left with one at the end; and common fixtures."""

from __future__ import annotations

import locale
import sys
from collections.abc import Iterator

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    slow = {_together(item) for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: _together(item) not in slow)


def _together(item: pytest.Item) -> str:
    """What runs in one go: a group of tests that share something dear, or one test."""
    group = item.get_closest_marker("xdist_group")
    return item.nodeid if group is None else str(group.args[0])


@pytest.fixture
def ascii_locale() -> Iterator[None]:
    """A machine on which text files are ASCII unless their encoding is named."""
    if sys.flags.utf8_mode:
        pytest.skip("Python's UTF-8 mode overrides the locale")
    before = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, "C")
    yield
    locale.setlocale(locale.LC_CTYPE, before)
