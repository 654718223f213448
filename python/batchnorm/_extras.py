"""What is missing where an extra was not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping


def needs(who: str, package: str, extra: str) -> str:
    """Return the message that names a package of an extra, and how to get it."""
    return f"{who} needs {package}: pip install 'batchnorm[{extra}]'"


def first_missing(packages: Mapping[str, str]) -> str | None:
    """Return the first of these packages, by the module that each brings, of which there is no module."""
    return next((name for module, name in packages.items() if importlib.util.find_spec(module) is None), None)
