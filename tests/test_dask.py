"""Statistics and normalization of dask arrays: lazy, the same bits on any scheduler, also in other processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import batchnorm as bn

dask = pytest.importorskip("dask", reason="needs the extra [dask]")
da = pytest.importorskip("dask.array", reason="needs the extra [dask]")
distributed = pytest.importorskip("distributed", reason="needs the extra [dask]")

from batchnorm.dask import channel_stats, normalize  # noqa: E402

pytestmark = pytest.mark.no_sanitizer  # threads and processes of others

SHAPE = (11, 7, 6, 5)
CHUNKS = {
    "one": SHAPE,
    "batch": (3, 7, 6, 5),
    "planes": (4, 7, 3, 2),
    "channels": (11, 2, 6, 5),
    "all": (2, 3, 4, 2),
    "empty": ((5, 0, 6), (0, 7), (6, 0), 5),
}


@pytest.fixture
def values() -> Any:
    return np.random.default_rng(0).normal(100, 3, SHAPE)


@pytest.fixture(params=list(CHUNKS.values()), ids=list(CHUNKS))
def x(request: pytest.FixtureRequest, values: Any) -> Any:
    return da.from_array(values, chunks=request.param)


def assert_close(stats: bn.ChannelStats, expected: bn.ChannelStats) -> None:
    assert stats.count.tolist() == expected.count.tolist()
    np.testing.assert_allclose(stats.mean, expected.mean, rtol=1e-14)
    np.testing.assert_allclose(stats.m2, expected.m2, rtol=1e-13)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two processes on loopback."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as connected,
    ):
        yield connected


class Chunks:
    """An array that counts how often a chunk is read."""

    dtype, ndim = np.dtype(np.float64), 2

    def __init__(self) -> None:
        self.shape, self.read = (6, 4), 0

    def __getitem__(self, where: Any) -> Any:
        self.read += 1
        return np.arange(24.0).reshape(self.shape)[where]


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_statistics_are_those_of_the_array(x: Any, values: Any, axis: int) -> None:
    assert_close(channel_stats(x, axis=axis).compute(), bn.channel_stats(values, axis=axis))


def test_a_chunk_alone_gives_the_very_bits(values: Any) -> None:
    assert channel_stats(da.from_array(values, chunks=-1)).compute() == bn.channel_stats(values, num_threads=1)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", "bfloat16", "float32"])
def test_dtypes(dtype: Any, values: Any) -> None:
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes", reason="needs the extra [test]").bfloat16
    narrow = values.astype(dtype)
    x = da.from_array(narrow, chunks=(3, 2, 6, 5))
    stats = channel_stats(x).compute()
    assert_close(stats, bn.channel_stats(narrow))
    y = normalize(x, stats)
    expected = bn.batch_norm_inference(narrow, stats.mean, stats.var(), eps=0.0)
    assert y.dtype == expected.dtype
    np.testing.assert_array_equal(y.compute(), expected)


def test_no_chunk_is_read_before_compute() -> None:
    chunks = Chunks()
    x = da.from_array(chunks, chunks=2, meta=np.empty((0, 0)))
    stats = channel_stats(x)
    y = normalize(x, stats)
    assert chunks.read == 0
    dask.compute(stats, scheduler="synchronous")
    assert chunks.read == 6
    assert y.compute(scheduler="synchronous").shape == (6, 4)
    assert chunks.read > 6


def test_statistics_and_result_in_one_go(x: Any, values: Any) -> None:
    stats = channel_stats(x)
    kept, y = dask.compute(stats, normalize(x, stats))
    assert_close(kept, bn.channel_stats(values))
    np.testing.assert_array_equal(y, bn.batch_norm_inference(values, kept.mean, kept.var(), eps=0.0))


def test_bits_do_not_depend_on_the_scheduler(values: Any, client: Any) -> None:
    # Chunks of this one are views that lose their strides on the way to a worker.
    turned = da.from_array(values.astype(np.float32).T, chunks=(2, 6, 3, 4))
    for x in (turned, turned.transpose(2, 0, 3, 1), da.from_array(values[:, ::2, ::-1], chunks=(3, 2, 3, 4))):
        stats = channel_stats(x, split_every=3)
        y = normalize(x, stats)
        expected = dask.compute(stats, y, scheduler="synchronous")
        for options in ({"scheduler": "threads", "num_workers": 2}, {"scheduler": "threads", "num_workers": 5}):
            again = dask.compute(stats, y, **options)
            assert again[0] == expected[0]
            np.testing.assert_array_equal(again[1], expected[1])
        again = client.gather(client.compute([stats, y]))
        assert again[0] == expected[0]
        np.testing.assert_array_equal(again[1], expected[1])


def test_cluster_of_two_processes(client: Any) -> None:
    x = da.random.default_rng(0).normal(5, 2, (4000, 8), chunks=(100, 4)).astype(np.float32)
    pids = set(client.run(lambda: __import__("os").getpid()).values())
    stats = client.compute(channel_stats(x)).result()
    held = client.gather(client.compute(x))
    assert len(pids) == 2
    assert_close(stats, bn.channel_stats(held))
    y = client.compute(normalize(x, stats, np.full(8, 2.0), np.ones(8))).result()
    again = bn.channel_stats(y)
    np.testing.assert_allclose(again.mean, 1, atol=1e-6)
    np.testing.assert_allclose(again.std(), 2, rtol=1e-6)


def test_an_error_of_a_worker_arrives(client: Any) -> None:
    x = da.ones((4, 3), chunks=2)
    wrong = normalize(x, channel_stats(da.ones((4, 2))))
    with pytest.raises(ValueError, match="stats: expected 3 channels, as in x, got 2"):
        client.compute(wrong).result()


def test_merges_are_a_tree() -> None:
    x = da.ones((64, 2), chunks=(1, 2))
    sums = {n: sum("sum" in str(key) for key in dict(channel_stats(x, split_every=n).dask)) for n in (2, 8, 64)}
    assert sums[2] > sums[8] > sums[64]
    for n in sums:
        assert channel_stats(x, split_every=n).compute().count.tolist() == [64, 64]


def test_normalize_with_everything(x: Any, values: Any) -> None:
    stats = bn.channel_stats(values)
    weight, bias = np.arange(1.0, 8), np.arange(7.0)
    expected = bn.batch_norm_inference(values, stats.mean, stats.var(), weight, bias, eps=0.25)
    for given in (stats, dask.delayed(stats)):
        y = normalize(x, given, weight, bias, eps=0.25, num_threads=2)
        assert (y.shape, y.chunks, y.dtype) == (x.shape, x.chunks, x.dtype)
        np.testing.assert_array_equal(y.compute(), expected)


@pytest.mark.parametrize(("dtype", "expected"), [(None, np.float32), ("float16", np.float16), (np.float32, np.float32)])
def test_dtype_of_the_result(dtype: Any, expected: Any) -> None:
    x = da.from_array(np.arange(24, dtype=np.uint8).reshape(8, 3), chunks=2)
    y = normalize(x, channel_stats(x), dtype=dtype)
    assert y.dtype == y.compute().dtype == y._meta.dtype == expected


@pytest.mark.parametrize("shape", [(), (9,), (4, 5), (4, 5, 3)])
def test_all_values_are_one_channel(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(1).normal(3, 2, shape)
    x = da.from_array(values, chunks=2)
    stats = channel_stats(x, axis=None).compute()
    assert stats.count.tolist() == [values.size]
    np.testing.assert_allclose([stats.mean[0], stats.var()[0]], [values.mean(), values.var()], rtol=1e-12, atol=1e-300)
    y = normalize(x, channel_stats(x, axis=None), axis=None).compute()
    np.testing.assert_allclose(y, (values - values.mean()) / (values.std() or 1), rtol=1e-9, atol=1e-12)


def test_unknown_sizes_of_chunks() -> None:
    values = np.arange(60.0).reshape(20, 3)
    x = da.from_array(values, chunks=(6, 3))
    some = x[x[:, 0] > 20]
    assert np.isnan(some.shape[0])
    stats = channel_stats(some)
    assert_close(stats.compute(), bn.channel_stats(values[7:]))
    y = normalize(some, stats, np.ones(3)).compute()
    np.testing.assert_allclose([y.mean(0), y.std(0)], [np.zeros(3), np.ones(3)], atol=1e-12)


def test_unknown_numbers_of_channels() -> None:
    values = np.arange(60.0).reshape(3, 20)
    x = da.from_array(values, chunks=(2, 20))
    few = x[:, x[0] > 7]
    assert_close(channel_stats(few).compute(), bn.channel_stats(values[:, 8:]))
    np.testing.assert_allclose(normalize(few, channel_stats(few)).compute().mean(0), 0, atol=1e-12)
    with pytest.raises(ValueError, match="stats: expected 12 channels, as in x, got 3"):
        normalize(few, bn.channel_stats(np.ones((2, 3)))).compute()
    split = da.from_array(values, chunks=(3, 5))
    split = split[:, split[0] > 7]
    assert_close(channel_stats(split).compute(), bn.channel_stats(values[:, 8:]))
    with pytest.raises(ValueError, match=r"x: expected one chunk or known sizes .* got 4 chunks of unknown sizes"):
        normalize(split, channel_stats(split))


@pytest.mark.parametrize("threads", [None, 3])
def test_threads_of_a_task(threads: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()

    def spy(block: Any, **options: Any) -> bn.ChannelStats:
        seen.add(options["num_threads"])
        return bn.channel_stats(block, **options)

    monkeypatch.setattr("batchnorm.dask.stats_of_array", spy)
    options = {} if threads is None else {"num_threads": threads}
    channel_stats(da.ones((4, 3), chunks=2), **options).compute(scheduler="synchronous")
    assert seen == {threads or 1}


def test_nan_policy(x: Any, values: Any) -> None:
    values[0, 2, 0, 0] = values[9, 6, 5, 4] = np.nan
    x = da.from_array(values, chunks=x.chunks)
    spoiled = channel_stats(x).compute()
    assert np.isnan(spoiled.mean).tolist() == [False, False, True, False, False, False, True]
    assert_close(channel_stats(x, nan_policy="omit").compute(), bn.channel_stats(values, nan_policy="omit"))
    lazy = channel_stats(x, nan_policy="raise")
    with pytest.raises(ValueError, match="x: expected no NaN"):
        lazy.compute()


@pytest.mark.parametrize("axis", [1, -1, None])
def test_extremes(x: Any, values: Any, axis: int | None) -> None:
    stats = channel_stats(x, axis=axis, extremes=True).compute()
    expected = bn.channel_stats(values, axis=axis, extremes=True)
    assert stats.min.tolist() == expected.min.tolist()
    assert stats.max.tolist() == expected.max.tolist()
    assert channel_stats(x, axis=axis).compute().min is None


def test_integers_are_exact() -> None:
    values = np.random.default_rng(2).integers(0, 256, (40, 6, 5), np.uint8)
    x = da.from_array(values, chunks=(3, 4, 2))
    assert channel_stats(x).compute() == bn.channel_stats(values)


def test_chunks_of_another_number_of_channels() -> None:
    wrong = da.ones((4, 3), chunks=(2, 3)).map_blocks(
        lambda block, block_id: block[:, : 2 + block_id[0]], chunks=((2, 2), (np.nan,)), meta=np.empty((0, 0))
    )
    with pytest.raises(ValueError, match="other: expected 2 channels, as in these statistics, got 3"):
        channel_stats(wrong).compute()


def test_no_values() -> None:
    stats = channel_stats(da.ones((0, 3))).compute()
    assert stats.count.tolist() == [0, 0, 0]
    assert np.isnan(normalize(da.ones((2, 3)), stats).compute()).all()
    assert normalize(da.ones((0, 3)), stats).compute().shape == (0, 3)


X = np.zeros((4, 3))
BAD_X: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "NumPy": (X, {}, TypeError, "x: expected a dask array, got ndarray"),
    "int64": (da.zeros((4, 3), dtype=np.int64), {}, TypeError, "x: expected float16.*got int64"),
    "swapped": (da.zeros((4, 3), dtype=">f4"), {}, TypeError, "x: expected .*>f4"),
    "masked": (da.ma.masked_equal(da.zeros((4, 3)), 1), {}, TypeError, "x: expected .* got one of MaskedArray"),
    "vector": (da.zeros(4), {}, ValueError, r"x: expected at least 2 dimensions, got shape \(4,\)"),
    "axis": (da.zeros((4, 3)), {"axis": 2}, ValueError, r"axis: expected -2 .. 1 for shape \(4, 3\), got 2"),
    "name": (da.zeros((4, 3)), {"axis": "c"}, TypeError, "axis: expected an int, got str"),
    "threads": (da.zeros((4, 3)), {"num_threads": 0}, ValueError, "num_threads: expected a positive int"),
}  # fmt: skip


@pytest.mark.parametrize(("x", "options", "error", "match"), list(BAD_X.values()), ids=list(BAD_X))
@pytest.mark.parametrize("normalizes", [False, True], ids=["stats", "normalize"])
def test_bad_x(x: Any, options: dict[str, Any], error: type[Exception], match: str, normalizes: bool) -> None:
    with pytest.raises(error, match=match):
        normalize(x, bn.channel_stats(X), **options) if normalizes else channel_stats(x, **options)


@pytest.mark.parametrize(("option", "value"), [("nan_policy", "drop"), ("extremes", 1)])
def test_bad_policies_are_refused_at_once(option: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=f"{option}: expected"):
        channel_stats(da.zeros((4, 3)), **{option: value})


@pytest.mark.parametrize("split_every", [1, 0, 2.5, True])
def test_bad_split_every(split_every: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="split_every: expected an int"):
        channel_stats(da.zeros((4, 3)), split_every=split_every)


STATS = bn.channel_stats(X)
BAD_OPTIONS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "stats": ({"stats": (0, 1)}, TypeError, "stats: expected a ChannelStats or a Delayed of one, got tuple"),
    "channels": ({"stats": bn.channel_stats(X.T)}, ValueError, "stats: expected 3 channels, as in x, got 4"),
    "empty": ({"stats": bn.ChannelStats()}, ValueError, "stats: expected 3 channels, as in x, got 0"),
    "weight": ({"weight": np.ones(2)}, ValueError, r"weight: expected shape \(3,\), got \(2,\)"),
    "bias": ({"bias": np.ones(3, int)}, TypeError, "bias: expected float32 or float64"),
    "lazy": ({"weight": da.ones(3)}, TypeError, r"weight: expected a NumPy array, got Array \(compute it first\)"),
    "eps": ({"eps": -1.0}, ValueError, "eps: expected"),
    "dtype": ({"dtype": np.float32}, TypeError, "dtype: expected float64 for values of float64, got float32"),
    "int": ({"dtype": int}, TypeError, "dtype: expected float64 for values of float64, got int64"),
}


@pytest.mark.parametrize(("options", "error", "match"), list(BAD_OPTIONS.values()), ids=list(BAD_OPTIONS))
def test_bad_options_are_refused_at_once(options: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        normalize(da.zeros((4, 3), chunks=2), **{"stats": STATS, **options})


def test_a_delayed_of_something_else() -> None:
    y = normalize(da.zeros((4, 3)), dask.delayed(3))
    with pytest.raises(TypeError, match="stats: expected a ChannelStats, got int"):
        y.compute()
