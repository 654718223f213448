"""The kernels by themselves, against plain loops: tests/cpp/kernel_test.cpp, built and run."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchnorm import _core
from test_objects import ROOT, missing_to_build, run

pytestmark = pytest.mark.no_sanitizer  # a program of its own


def test_every_kernel_on_every_tile(tmp_path: Path) -> None:
    if missing := missing_to_build():
        pytest.skip(f"to build the program there is no {', '.join(missing)}")
    run("cmake", "-S", str(ROOT), "-B", str(tmp_path), "-DBATCHNORM_KERNEL_TEST=ON")
    run("cmake", "--build", str(tmp_path), "--target", "kernel_test")
    (program,) = (p for p in tmp_path.rglob("kernel_test") if p.is_file())
    assert run(str(program)).split("\n")[:-1] == [f"{isa}: ok" for isa in _core._isas()]
