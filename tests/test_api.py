"""Names, signatures and defaults are a contract, section 3 of the design. Later issues may add keyword-only options."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from typing import Any

import numpy as np
import pytest

import batchnorm as bn

REQUIRED = inspect.Parameter.empty

# data by position, then options
SIGNATURES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "batch_norm_train": (
        {"x": REQUIRED, "weight": None, "bias": None},
        {
            "running_mean": None,
            "running_var": None,
            "momentum": 0.1,
            "momentum_of": "new",
            "unbiased": True,
            "update_stats": True,
            "on_single": "error",
            "eps": 1e-5,
            "axis": 1,
            "out": None,
            "num_threads": None,
        },
    ),
    "batch_norm_inference": (
        {"x": REQUIRED, "running_mean": REQUIRED, "running_var": REQUIRED, "weight": None, "bias": None},
        {"eps": 1e-5, "axis": 1, "out": None, "num_threads": None},
    ),
    "batch_norm_backward": (
        {"dy": REQUIRED, "x": REQUIRED, "saved": REQUIRED, "weight": None},
        {"out": None, "num_threads": None},
    ),
    "batch_norm_inference_backward": (
        {
            "dy": REQUIRED,
            "x": REQUIRED,
            "running_mean": REQUIRED,
            "running_var": REQUIRED,
            "weight": None,
            "bias": None,
        },
        {"eps": 1e-5, "axis": 1, "out": None, "num_threads": None},
    ),
    "channel_stats": (
        {"x": REQUIRED},
        {
            "axis": 1,
            "num_threads": None,
            "mask": None,
            "lengths": None,
            "weights": None,
            "flush_subnormals": False,
            "nan_policy": "propagate",
            "extremes": False,
        },
    ),
    "update_running_stats": (
        {"running_mean": REQUIRED, "running_var": REQUIRED, "stats": REQUIRED},
        {"momentum": 0.1, "momentum_of": "new", "unbiased": True},
    ),
    "denormalize": (
        {"y": REQUIRED, "mean": REQUIRED, "var": REQUIRED, "weight": None, "bias": None},
        {"eps": 1e-5, "axis": 1, "out": None, "num_threads": None},
    ),
    "SavedStatistics": (
        {"mean": REQUIRED, "rstd": REQUIRED, "count": REQUIRED},
        {"var": None, "eps": REQUIRED, "axis": 1, "weight": None, "bias": None},
    ),
    "ChannelStats": ({}, {"extremes": False}),
    "ChannelStats.update": (
        {"x": REQUIRED},
        {
            "axis": 1,
            "num_threads": None,
            "mask": None,
            "lengths": None,
            "weights": None,
            "flush_subnormals": False,
            "nan_policy": "propagate",
        },
    ),
    "batch_norm_double_backward": (
        {**dict.fromkeys(("ddx", "ddweight", "ddbias", "dy", "x", "saved"), REQUIRED), "weight": None},
        {"training": True, "out": None, "dx_out": None, "num_threads": None, "flush_subnormals": False},
    ),
    "population_statistics": (
        {"source": REQUIRED, "batches": REQUIRED},
        {"method": "exact", "axis": None, "unbiased": None, "num_threads": None},
    ),
    "convention": ({"name": REQUIRED}, {}),
    "ChannelStats.merge": ({"other": REQUIRED}, {}),
    "ChannelStats.subtract": ({"other": REQUIRED}, {}),
    "ChannelStats.__add__": ({"other": REQUIRED}, {}),
    "ChannelStats.__sub__": ({"other": REQUIRED}, {}),
    "ChannelStats.to_json": ({}, {}),
    "ChannelStats.from_json": ({"text": REQUIRED}, {}),
    "ChannelStats.var": ({"ddof": 0}, {}),
    "ChannelStats.std": ({"ddof": 0}, {}),
    "ChannelStats.save": ({"path": REQUIRED}, {}),
    "ChannelStats.load": ({"path": REQUIRED}, {}),
    "BatchNorm": (
        {"num_features": REQUIRED, "eps": 1e-5, "momentum": 0.1, "affine": True, "track_running_stats": True},
        {
            "weight": True,
            "bias": True,
            "axis": 1,
            "momentum_of": "new",
            "unbiased": True,
            "on_single": "error",
            "dtype": np.float32,
            "num_threads": None,
        },
    ),
    "BatchNorm.forward": ({"x": REQUIRED, "out": None}, {}),
    "BatchNorm.__call__": ({"x": REQUIRED, "out": None}, {}),
    "BatchNorm.backward": ({"dy": REQUIRED}, {}),
    "BatchNorm.train": ({"mode": True}, {}),
    "BatchNorm.eval": ({}, {}),
    "BatchNorm.state_dict": ({}, {}),
    "BatchNorm.load_state_dict": ({"state": REQUIRED, "strict": True}, {}),
    "BatchNorm.parameters": ({}, {}),
    "BatchNorm.gradients": ({}, {}),
    "BatchNorm.reset_running_stats": ({}, {}),
    "BatchNorm.reset_parameters": ({}, {}),
    "set_kept_memory": ({"most": REQUIRED}, {}),
    "set_num_threads": ({"n": REQUIRED}, {}),
    "get_num_threads": ({}, {}),
    "num_threads": ({"n": REQUIRED}, {}),
    "show_config": ({}, {}),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name: str) -> None:
    owner, _, method = name.partition(".")
    function = getattr(bn, owner)
    if method:
        function = inspect.getattr_static(function, method)
        function = getattr(function, "__func__", function)
    parameters = dict(inspect.signature(function).parameters)
    for first in ("self", "cls"):
        if method:
            parameters.pop(first, None)
    data, options = SIGNATURES[name]
    positional = {k: p.default for k, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD}
    keywords = {k: p.default for k, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert list(positional.items()) == list(data.items())
    assert {k: v for k, v in keywords.items() if k in options} == options
    assert [k for k in keywords if k in options] == list(options)
    assert len(parameters) == len(positional) + len(keywords)


def test_everything_public_is_told() -> None:
    told = {name.partition(".")[0] for name in SIGNATURES} | {"Gradients", "__version__"}
    assert told <= set(bn.__all__)
    for name in bn.__all__:
        assert hasattr(bn, name), name
        assert name == "__version__" or getattr(bn, name).__doc__, name


def test_an_option_is_not_positional() -> None:
    x = np.ones((4, 3))
    with pytest.raises(TypeError, match="positional"):
        bn.batch_norm_train(x, None, None, np.zeros(3))  # type: ignore[misc]
    with pytest.raises(TypeError, match="positional"):
        bn.channel_stats(x, 1)  # type: ignore[misc]


def test_what_gradients_hold() -> None:
    names = {name for name in dir(bn.Gradients) if not name.startswith("_")}
    assert {"dx", "dweight", "dbias", "dresidual", "dslope", "dmean", "dvar"} <= names


MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(bn.__path__, "batchnorm.")
    if not module.name.endswith(("__main__", "._core"))
)


@pytest.mark.parametrize("name", ["batchnorm", *MODULES])
def test_examples_in_docstrings(name: str, default_threads: None) -> None:
    if ".bench" in name:
        pytest.importorskip("rich", reason="needs the extra [bench]")
        pytest.importorskip("matplotlib", reason="needs the extra [bench]")
    extra = name.rpartition(".")[2]
    if extra in ("autograd", "dask", "sklearn", "xarray"):
        pytest.importorskip(extra, reason=f"needs the extra [{extra}]")
    failures, _ = doctest.testmod(importlib.import_module(name))
    assert failures == 0


def test_every_public_function_has_an_example() -> None:
    finder = doctest.DocTestFinder(recurse=False)
    for name in bn.__all__:
        if name != "__version__":
            assert any(test.examples for test in finder.find(getattr(bn, name), name)), name
