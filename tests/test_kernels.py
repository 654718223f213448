"""The kernels by themselves, against plain loops: tests/cpp/kernel_test.cpp, built and run."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchnorm import _core
from building import run

pytestmark = pytest.mark.no_sanitizer  # a program of its own


def test_every_kernel_on_every_tile(kernel_build: Path) -> None:
    (program,) = (p for p in kernel_build.rglob("kernel_test") if p.is_file())
    assert run(str(program)).split("\n")[:-1] == [f"{isa}: ok" for isa in _core._isas()]
