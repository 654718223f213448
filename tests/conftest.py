"""Fixtures: every instruction set that this CPU has, every dtype, every shape in every layout, with readable ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
from batchnorm import _core
from batchnorm.datasets import _chunked, _windows
from building import build_kernel_test
from data_sets import SMALL
from layers import trained_layer
from layouts import CASES, DENSE_CASES, FEW_CASES, WRITEABLE_CASES, Case


@pytest.fixture(params=_core._isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """The test runs on this instruction set."""
    _core._set_isa(request.param)
    yield request.param
    _core._set_isa(None)


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Any:
    return np.dtype(request.param)


@pytest.fixture(params=list(CASES.values()), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=list(DENSE_CASES.values()), ids=list(DENSE_CASES))
def dense_case(request: pytest.FixtureRequest) -> Case:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=list(WRITEABLE_CASES.values()), ids=list(WRITEABLE_CASES))
def writeable_case(request: pytest.FixtureRequest) -> Case:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=list(FEW_CASES.values()), ids=list(FEW_CASES))
def few_case(request: pytest.FixtureRequest) -> Case:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def kernel_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the kernels' test program and its objects are."""
    folder = tmp_path_factory.mktemp("kernels")
    build_kernel_test(folder)
    return folder


@pytest.fixture
def layer() -> bn.BatchNorm:
    return trained_layer()


@pytest.fixture
def default_threads() -> Iterator[None]:
    """The test may call set_num_threads."""
    yield
    bn.set_num_threads(None)


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (_windows, _chunked):
        monkeypatch.setattr(module, "WINDOW", SMALL)


@pytest.fixture
def long_items(small_windows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small windows, several of which are an item however small the array is."""
    monkeypatch.setattr(_windows, "_FEWEST_ITEMS", 1)
