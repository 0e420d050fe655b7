"""Packages that only some parts need, imported when they are used."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from segscape.errors import DependencyError


def require(module: str, extra: str) -> ModuleType:
    """Import a module of an optional extra, for example `require("matplotlib.figure", "eval")`.

    Raises DependencyError, with the command that installs it, if its package is missing.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        package = error.name.partition(".")[0]
        raise DependencyError(f"this needs the package {package}: pip install 'segscape[{extra}]'.") from None
