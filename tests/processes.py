"""Run Python code in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

TIMEOUT = 300  # seconds; guards against a hang and says nothing about speed


def run(*arguments: str, env: Mapping[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    """The interpreter of these tests with these arguments, and `env` added to the environment; None takes away."""
    merged = {name: str(value) for name, value in {**os.environ, **(env or {})}.items() if value is not None}
    return subprocess.run(
        [sys.executable, *arguments], env=merged, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )


def run_code(code: str, **env: Any) -> str:
    """What `code` prints. It must succeed and write nothing to stderr."""
    done = run("-c", code, env=env)
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stderr}"
    assert done.stderr == "", done.stderr
    return done.stdout
