"""Run Python code in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

TIMEOUT = 300  # seconds; guards against a hang and says nothing about speed


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The interpreter of these tests with these arguments, and `env` added to the environment."""
    return subprocess.run(
        [sys.executable, *arguments], env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=TIMEOUT
    )


def run_code(code: str, **env: Any) -> str:
    """What `code` prints. It must succeed and write nothing to stderr."""
    done = run("-c", code, env={name: str(value) for name, value in env.items()})
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stderr}"
    assert done.stderr == "", done.stderr
    return done.stdout
