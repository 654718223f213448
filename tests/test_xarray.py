"""DataArrays of NumPy and of dask: the channel axis by its name, and what comes along with the values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import batchnorm as bn

xr = pytest.importorskip("xarray", reason="needs the extra [xarray]")
pytest.importorskip("dask.array", reason="needs the extra [dask]")

from dask.delayed import Delayed  # noqa: E402

from batchnorm import dask as of_dask  # noqa: E402
from batchnorm.xarray import channel_stats, normalize  # noqa: E402

pytestmark = pytest.mark.no_sanitizer  # dask's threads

DIMS = ("time", "band", "y")


@pytest.fixture
def scene() -> Any:
    values = np.random.default_rng(0).normal(50, 4, (9, 3, 8)).astype(np.float32)
    data = xr.DataArray(
        values,
        dims=DIMS,
        coords={"band": ["red", "green", "blue"], "time": np.arange(9) * 2, "height": ("y", np.arange(8.0))},
        name="radiance",
        attrs={"units": "W"},
    )
    data.encoding = {"dtype": "int16", "scale_factor": 0.01}
    return data


@pytest.fixture(params=[None, {"time": 4}, {"time": 2, "band": 2, "y": 3}], ids=["numpy", "dask", "dask, split"])
def x(request: pytest.FixtureRequest, scene: Any) -> Any:
    return scene if request.param is None else scene.chunk(request.param)


def computed(stats: bn.ChannelStats | Delayed) -> bn.ChannelStats:
    return stats if isinstance(stats, bn.ChannelStats) else stats.compute()  # type: ignore[no-any-return]


@pytest.mark.parametrize("axis", ["band", "time", "y", 1, -1])
def test_statistics_by_name(x: Any, scene: Any, axis: Any) -> None:
    position = DIMS.index(axis) if isinstance(axis, str) else axis
    stats = channel_stats(x, axis=axis)
    assert isinstance(stats, bn.ChannelStats if x.chunks is None else Delayed)
    expected = bn.channel_stats(scene.values, axis=position)
    assert computed(stats).count.tolist() == expected.count.tolist()
    np.testing.assert_allclose(computed(stats).mean, expected.mean, rtol=1e-13)
    np.testing.assert_allclose(computed(stats).m2, expected.m2, rtol=1e-12)


def test_order_of_dimensions_does_not_matter(x: Any) -> None:
    stats = computed(channel_stats(x, axis="band"))
    turned = computed(channel_stats(x.transpose("y", "time", "band"), axis="band"))
    np.testing.assert_allclose(turned.mean, stats.mean, rtol=1e-13)
    y = normalize(x.transpose("y", "time", "band"), stats, axis="band")
    assert y.dims == ("y", "time", "band")
    np.testing.assert_array_equal(y.transpose(*DIMS).values, normalize(x, stats, axis="band").values)


def test_the_numbers_are_those_of_arrays(scene: Any) -> None:
    assert channel_stats(scene, axis="band") == bn.channel_stats(scene.values, axis=1)
    chunked = scene.chunk({"time": 2, "y": 3})
    assert channel_stats(chunked, axis="band").compute() == of_dask.channel_stats(chunked.data).compute()


def test_what_comes_along(x: Any) -> None:
    before = x.copy(deep=True)
    y = normalize(x, channel_stats(x, axis="band"), axis="band")
    assert y.chunks == x.chunks
    xr.testing.assert_identical(y.coords.to_dataset(), x.coords.to_dataset())
    assert (y.dims, y.name, y.attrs, y.dtype) == (DIMS, "radiance", {"units": "W"}, np.float32)
    assert y.encoding == {}
    assert x.encoding == {"dtype": "int16", "scale_factor": 0.01}
    y.attrs["units"] = "1"
    xr.testing.assert_identical(x, before)


def test_normalize(x: Any, scene: Any) -> None:
    stats, weight, bias = bn.channel_stats(scene.values), np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0])
    y = normalize(x, stats, weight, bias, axis="band", eps=0.5)
    expected = bn.batch_norm_inference(scene.values, stats.mean, stats.var(), weight, bias, eps=0.5)
    np.testing.assert_array_equal(y.values, expected)


def test_all_values_are_one_channel(x: Any, scene: Any) -> None:
    stats = channel_stats(x, axis=None)
    np.testing.assert_allclose(computed(stats).mean, [scene.values.mean(dtype=float)], rtol=1e-13)
    y = normalize(x, stats, axis=None)
    np.testing.assert_allclose([y.values.mean(), y.values.std()], [0, 1], atol=1e-5)


def test_nan_policy_and_extremes(x: Any, scene: Any) -> None:
    missing = x.where(x.time > 0)
    stats = computed(channel_stats(missing, axis="band", nan_policy="omit", extremes=True))
    kept = scene.values[1:]
    assert stats.count.tolist() == [64, 64, 64]
    assert (stats.min.tolist(), stats.max.tolist()) == (kept.min((0, 2)).tolist(), kept.max((0, 2)).tolist())
    assert np.isnan(computed(channel_stats(missing, axis="band")).mean).all()


def test_bytes_and_dtype(scene: Any) -> None:
    images = scene.astype(np.uint8)
    stats = channel_stats(images, axis="band")
    assert normalize(images, stats, axis="band").dtype == np.float32
    assert normalize(images, stats, axis="band", dtype=np.float16).dtype == np.float16


def test_names_that_are_no_strings() -> None:
    data = xr.DataArray(np.arange(6.0).reshape(3, 2), dims=(1, 0))  # the name comes before the position
    assert channel_stats(data, axis=0).mean.tolist() == [2.0, 3.0]


def test_lazy(scene: Any) -> None:
    reads = []
    chunked = scene.chunk({"time": 3})
    chunked = chunked.copy(
        data=chunked.data.map_blocks(lambda block: reads.append(1) or block, meta=np.empty((0, 0, 0), "f"))
    )
    stats = channel_stats(chunked, axis="band")
    y = normalize(chunked, stats, axis="band")
    assert not reads
    y.compute()
    assert reads


BAD: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "NumPy": (np.zeros((4, 3)), {}, TypeError, "x: expected a DataArray, got ndarray"),
    "set": (xr.Dataset(), {}, TypeError, "x: expected a DataArray, got Dataset"),
    "name": (xr.DataArray(np.zeros((4, 3))), {}, ValueError, r"axis: expected one of \('dim_0', 'dim_1'\), got 'band'"),
    "position": (xr.DataArray(np.zeros((4, 3))), {"axis": 2}, ValueError, r"axis: expected -2 .. 1 for shape \(4, 3\)"),
    "float": (xr.DataArray(np.zeros((4, 3))), {"axis": 1.5}, TypeError, "axis: expected an int, got float"),
    "vector": (xr.DataArray(np.zeros(3), dims="band"), {}, ValueError, r"x: expected at least 2 dim.* \(3,\)"),
    "dtype": (xr.DataArray(np.zeros((4, 3), int), dims=("t", "band")), {}, TypeError, "x: expected float16.*got int64"),
}  # fmt: skip


@pytest.mark.parametrize(("x", "options", "error", "match"), list(BAD.values()), ids=list(BAD))
@pytest.mark.parametrize("normalizes", [False, True], ids=["stats", "normalize"])
def test_bad_x(x: Any, options: dict[str, Any], error: type[Exception], match: str, normalizes: bool) -> None:
    options = {"axis": "band", **options}
    with pytest.raises(error, match=match):
        normalize(x, bn.channel_stats(np.zeros((4, 3))), **options) if normalizes else channel_stats(x, **options)


def test_arrays_that_are_neither_numpy_nor_dask(scene: Any) -> None:
    class Other:
        dtype, shape, ndim = np.dtype(float), (4, 3), 2

        def __array_function__(self, *arguments: Any) -> Any:
            return NotImplemented

        def __array_ufunc__(self, *arguments: Any) -> Any:
            return NotImplemented

    with pytest.raises(TypeError, match="x: expected a DataArray of a NumPy or a dask array, got one of Other"):
        channel_stats(xr.DataArray(Other(), dims=("t", "band")), axis="band")


def test_bad_stats(scene: Any) -> None:
    with pytest.raises(TypeError, match="stats: expected a ChannelStats, got Delayed"):
        normalize(scene, channel_stats(scene.chunk(), axis="band"), axis="band")
    with pytest.raises(ValueError, match="stats: expected 3 channels, as in x, got 9"):
        normalize(scene, channel_stats(scene, axis="time"), axis="band")
    with pytest.raises(
        TypeError, match="dtype: expected float16, bfloat16 or float32 for values of float32, got float64"
    ):
        normalize(scene, channel_stats(scene, axis="band"), axis="band", dtype=float)
