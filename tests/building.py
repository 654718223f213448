"""The program that tests the kernels, built by CMake as the library's are: once for all tests that want it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build_kernel_test(folder: Path) -> None:
    """Or skip, where there is nothing to build it with."""
    compiler = os.environ.get("CXX", "c++").split()[0]
    missing = [name for name in ("cmake", compiler) if shutil.which(name) is None]
    missing += [] if (ROOT / "CMakeLists.txt").is_file() else [str(ROOT / "CMakeLists.txt")]
    if missing:
        pytest.skip(f"to build the program there is no {', '.join(missing)}")
    run("cmake", "-S", str(ROOT), "-B", str(folder), "-DBATCHNORM_KERNEL_TEST=ON")
    run("cmake", "--build", str(folder), "--target", "kernel_test", "--parallel", str(os.cpu_count() or 1))
