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
    # Below a copy of the sources as pip builds are, so that the compiler sees the same paths from its folder on, and a
    # ccache that compares those has the library's objects.
    for name in ("CMakeLists.txt", "cpp", "tests/cpp"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    build = folder / "build" / "kernel_test"
    run("cmake", "-S", str(folder), "-B", str(build), "-DBATCHNORM_KERNEL_TEST=ON")
    run("cmake", "--build", str(build), "--target", "kernel_test", "--parallel", str(os.cpu_count() or 1))
