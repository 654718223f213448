"""Values that don't count: what a mask leaves is all that statistics, gradients and outputs know."""

from __future__ import annotations

import pickle
from typing import Any

import ml_dtypes  # noqa: F401  makes "bfloat16" a name that NumPy knows
import numpy as np
import pytest

import batchnorm as bn
import oracle
from activations import activation
from layouts import Case, given_statistics, parameters
from oracle import Array, wide
from tolerances import M2_PER_OFFSET, TABLE, assert_mean, assert_same_bits, assert_var, offset, within


def without_channels(x: Array, axis: int) -> tuple[int, ...]:
    return tuple(n for i, n in enumerate(x.shape) if i != axis % x.ndim)


def some(x: Array, axis: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).random(without_channels(x, axis)) < 0.6


def everywhere(mask: Array, x: Array, axis: int) -> Array:
    return np.broadcast_to(np.expand_dims(mask, axis), x.shape)


def gathered(a: Array, mask: Array, axis: int) -> Array:
    """(values that count, channels)"""
    return np.ascontiguousarray(np.moveaxis(a, axis, -1)[mask])


def spoiled(a: Array, mask: Array, axis: int, seed: int = 0) -> Array:
    """The same view of memory with NaN and infinity where the mask is false, 0 where it has none."""
    bad = np.array([np.nan, np.inf, -np.inf], a.dtype)[np.random.default_rng(seed).integers(0, 3, a.shape)]
    if a.flags.writeable:
        a[...] = np.where(everywhere(mask, a, axis), a, bad)
    return a


def test_channel_stats(isa: str, few_case: Case, dtype: Any) -> None:
    axis, x = few_case.arrays(dtype, mean=3)
    mask = some(x, axis)
    want = bn.channel_stats(gathered(x, mask, axis)) if x.size else bn.channel_stats(x, axis=axis)
    got = bn.channel_stats(spoiled(x, mask, axis), axis=axis, mask=mask)
    count, mean, m2 = oracle.moments(gathered(x, mask, axis)) if mask.any() else (0, want.mean, want.m2)
    assert (got.count == count).all()
    if count:
        row = TABLE["stats"][np.dtype(np.float64)]
        within("mean", got.mean, mean, row * np.maximum(np.abs(mean), np.sqrt(m2 / count)))
        within("m2", got.m2, m2, (row + M2_PER_OFFSET * offset(mean, m2 / count)) * m2)


def test_training(isa: str, few_case: Case, dtype: Any) -> None:
    axis, x = few_case.arrays(dtype, mean=3)
    mask = some(x, axis)
    weight, bias = parameters(x.shape[axis])
    spoiled(x, mask, axis)
    y, saved = bn.batch_norm_train(x, weight, bias, axis=axis, mask=mask, on_single="allow")
    counts = everywhere(mask, x, axis)
    assert not y[~counts].any()
    assert (saved.count == mask.sum()).all()
    if not counts.any():
        return
    want = oracle.train(gathered(x, mask, axis))
    if mask.sum() > 1:
        assert_mean(saved.mean, want, dtype)
        assert_var(saved.var, want, dtype)
    plain = bn.batch_norm_inference(x, saved.mean, saved.var, weight, bias, axis=axis)
    assert_same_bits("y", y[counts], plain[counts])
    assert_same_bits(
        "inference", bn.batch_norm_inference(x, saved.mean, saved.var, weight, bias, axis=axis, mask=mask), y
    )


@pytest.mark.parametrize("kind", [None, "relu", "prelu"])
def test_backward(isa: str, few_case: Case, kind: Any, dtype: Any) -> None:
    axis, x, dy = few_case.arrays(dtype, 2)
    mask = some(x, axis)
    if mask.sum() < 3:
        return
    weight, bias = parameters(x.shape[axis])
    act = activation(kind, x.shape[axis]) if kind else None
    spoiled(x, mask, axis)
    _, saved = bn.batch_norm_train(x, weight, bias, axis=axis, mask=mask, activation=act)
    got = bn.batch_norm_backward(spoiled(dy, mask, axis, 1), x, pickle.loads(pickle.dumps(saved)))
    few, few_dy = gathered(x, mask, axis), gathered(dy, mask, axis)
    by_hand = bn.SavedStatistics(
        saved.mean, saved.rstd, mask.sum(), eps=saved.eps, weight=weight, bias=bias, activation=saved.activation
    )
    want = bn.batch_norm_backward(few_dy, few, by_hand)
    g, xhat = np.abs(wide(few_dy)).sum(0), np.abs((wide(few) - saved.mean) * saved.rstd)
    within("dbias", got.dbias, want.dbias, 2 * TABLE["dbias"][dtype] * g)
    within("dweight", got.dweight, want.dweight, 2 * TABLE["dweight"][dtype] * (np.abs(wide(few_dy)) * xhat).sum(0))
    if kind == "prelu":
        assert got.dslope is not None and want.dslope is not None
        within("dslope", got.dslope, want.dslope, 1e-5 * (1 + g * xhat.max(0)))
    assert not got.dx[~everywhere(mask, x, axis)].any()
    scale = np.abs(saved.scale) * np.abs(wide(few_dy)).max(0)
    within("dx", gathered(got.dx, mask, axis), want.dx, np.broadcast_to(4 * TABLE["dx"][dtype] * scale, few.shape))


@pytest.mark.parametrize("training", [True, False], ids=["train", "inference"])
def test_residual(isa: str, training: bool) -> None:
    axis, x, residual = Case((6, 5, 4, 7), "channels_last").arrays(np.float32, 2)
    dy = Case((6, 5, 4, 7), "channels_last").arrays(np.float32, seed=5)[1]
    mask, weight, bias = some(x, axis), *parameters(5)
    counts = everywhere(mask, x, axis)
    spoiled(residual, mask, axis, 2)
    spoiled(dy, mask, axis, 3)
    if training:
        y, saved = bn.batch_norm_train(
            x, weight, bias, axis=axis, mask=mask, residual=residual, activation="relu", keep_sign=True
        )
        got = bn.batch_norm_backward(dy, x, saved)
    else:
        mean, var = given_statistics(5)
        y = bn.batch_norm_inference(
            x, mean, var, weight, bias, axis=axis, mask=mask, residual=residual, activation="relu"
        )
        got = bn.batch_norm_inference_backward(
            dy, x, mean, var, weight, bias, axis=axis, mask=mask, residual=residual, activation="relu"
        )
    assert got.dresidual is not None
    for a in (y, got.dx, got.dresidual):
        assert not a[~counts].any()
        assert np.isfinite(a).all()
    assert_same_bits("dresidual", got.dresidual[counts], np.where(y[counts] > 0, dy[counts], 0).astype(np.float32))


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision(isa: str, half: Any) -> None:
    axis, x = Case((6, 5, 4, 7), "channels_first").arrays(np.float32, mean=3)
    x = x.astype(half)
    mask = some(x, axis)
    y, saved = bn.batch_norm_train(spoiled(x, mask, axis), axis=axis, mask=mask)
    want = oracle.train(gathered(x, mask, axis).astype(np.float32))
    assert y.dtype == half
    assert_mean(saved.mean, want, np.float32)
    assert_var(saved.var, want, np.float32)
    assert not y[~everywhere(mask, x, axis)].any()
    assert_same_bits("inference", bn.batch_norm_inference(x, saved.mean, saved.var, axis=axis, mask=mask), y)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_integers_are_exact(isa: str, dtype: Any) -> None:
    axis, x = Case((6, 5, 4, 7), "channels_first").arrays(dtype)
    mask = some(x, axis)
    got = bn.channel_stats(x, mask=mask)
    values = gathered(x, mask, axis).astype(object)
    assert (got.mean == [sum(c) / len(c) for c in values.T]).all()


def test_a_constant_is_exact(isa: str) -> None:
    x = np.full((8, 3, 40, 41), 0.1, np.float32)
    mask = some(x, 1)
    got = bn.channel_stats(spoiled(x, mask, 1), mask=mask)
    assert (got.mean == np.float64(np.float32(0.1))).all()
    assert not got.m2.any()
    y, saved = bn.batch_norm_train(x, None, np.ones(3), mask=mask)
    assert not saved.var.any()
    assert (y == everywhere(mask, x, 1)).all()


@pytest.mark.parametrize("mean", [1e4, 1e6], ids=str)
def test_far_from_zero(isa: str, mean: float) -> None:
    axis, x = Case((8, 3, 40, 41), "channels_first").arrays(np.float32, mean=mean)
    mask = some(x, axis)
    mask[:4] = False  # the first chunk too
    _, saved = bn.batch_norm_train(spoiled(x, mask, axis), mask=mask)
    want = oracle.train(gathered(x, mask, axis))
    assert_mean(saved.mean, want, np.float32)
    assert_var(saved.var, want, np.float32)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_nothing_counts(isa: str, layout: str) -> None:
    axis, x, dy = Case((3, 4, 5, 6), layout).arrays(np.float32, 2)
    mask = np.zeros(without_channels(x, axis), bool)
    mean, var = np.full(4, 5.0), np.full(4, 6.0)
    y, saved = bn.batch_norm_train(x * np.nan, np.ones(4), axis=axis, mask=mask, running_mean=mean, running_var=var)
    assert not y.any()
    assert not saved.count.any()
    assert np.isnan(saved.mean).all()
    assert (mean == 5).all()
    assert (var == 6).all()
    got = bn.batch_norm_backward(dy, x, saved)
    for a in (got.dx, got.dweight, got.dbias):
        assert not a.any()
    stats = bn.channel_stats(x, axis=axis, mask=mask)
    assert not stats.count.any()
    assert np.isnan(stats.mean).all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 1, 7), (1, 4, 1), (4, 7), (7,), ()], ids=str)
def test_broadcasts(isa: str, shape: tuple[int, ...]) -> None:
    _, x = Case((5, 3, 4, 7), "channels_first").arrays(np.float64)
    mask = np.random.default_rng(3).random(shape) < 0.7
    mask.flat[0] = True
    whole = np.broadcast_to(mask, (5, 4, 7))
    for given in (mask, mask[..., ::-1][..., ::-1] if shape else mask):
        got, want = bn.channel_stats(x, mask=given), bn.channel_stats(x, mask=whole.copy())
        assert_same_bits("mean", got.mean, want.mean)
        assert_same_bits("m2", got.m2, want.m2)
        assert (got.count == whole.sum()).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 64], ids=str)
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_masks_of_any_strides(isa: str, layout: str, channels: int, dtype: Any) -> None:
    axis, x = Case((6, channels, 31, 13), layout).arrays(dtype)
    n, h, w = without_channels(x, axis)
    memory = np.random.default_rng(4).random((n + 1, 2 * h + 1, 3 * w + 5)) < 0.6
    masks = {
        "offset": memory[1:, 3 : h + 3, 5 : w + 5],
        "steps": memory[1:, 1::2, 5::3],
        "reversed": memory[:n, h - 1 :: -1, w + 4 : 4 : -1],
        "transposed": np.asfortranarray(memory[:n, :h, :w]),
        "any byte": np.where(memory[:n, :h, :w], np.uint8(0x82), np.uint8(0)).view(bool),
    }
    for name, mask in masks.items():
        y, saved = bn.batch_norm_train(x, axis=axis, mask=mask)
        plain = np.not_equal(mask, False, order="C")  # a bool of another byte than 1 becomes one
        want, want_saved = bn.batch_norm_train(x, axis=axis, mask=plain)
        assert_same_bits(name, y, want)
        assert (saved.count == plain.sum()).all(), name
        dy = x[::-1]
        assert_same_bits(name, bn.batch_norm_backward(dy, x, saved).dx, bn.batch_norm_backward(dy, x, want_saved).dx)


@pytest.mark.threaded
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_large_masks(layout: str) -> None:
    """Counted by several threads, part by part: statistics are those of the values that count, and a copy is saved."""
    axis, x, dy = Case((2, 3, 900, 701), layout).arrays(np.float32, 2, mean=3)
    mask = some(x, axis)
    mask[0, 100:300] = True
    mask[1, :200] = False
    want = bn.channel_stats(gathered(x, mask, axis))
    y, saved = bn.batch_norm_train(x, axis=axis, mask=mask, num_threads=3)
    assert (saved.count == mask.sum()).all()
    rows = {name: TABLE[name][np.dtype(np.float32)] for name in ("mean", "var")}
    within("mean", saved.mean, want.mean, rows["mean"] * np.maximum(np.abs(want.mean), want.std()))
    within("var", saved.var, want.var(), rows["var"] * want.var())
    assert_same_bits("y", y, bn.batch_norm_train(x, axis=axis, mask=mask, num_threads=1)[0])
    dx = [bn.batch_norm_backward(dy, x, saved, num_threads=n).dx for n in (1, 3)]
    assert_same_bits("dx", *dx)
    assert saved.mask is not None and (saved.mask == mask).all()
    assert not np.shares_memory(saved.mask, mask) and not saved.mask.flags.writeable


@pytest.mark.parametrize("axis", [1, -1, 2, -2], ids=str)
def test_lengths(axis: int) -> None:
    x = np.random.default_rng(0).normal(size=(5, 6, 7))
    channels_first = axis in (1, -2)
    longest = 7 if channels_first else 6
    lengths = np.array([0, 1, longest, 3, 2])
    mask = np.arange(longest) < lengths[:, None]
    y, saved = bn.batch_norm_train(x, axis=axis, lengths=lengths)
    want, _ = bn.batch_norm_train(x, axis=axis, mask=mask)
    assert_same_bits("y", y, want)
    assert (saved.count == lengths.sum()).all()
    assert bn.channel_stats(x, axis=axis, lengths=lengths) == bn.channel_stats(x, axis=axis, mask=mask)
    got = bn.batch_norm_inference(x, saved.mean, saved.var, axis=axis, lengths=lengths.tolist())
    assert_same_bits("inference", got, y)


@pytest.mark.parametrize(
    "options", [{"lengths": [1, 2]}, {"axis": None}, {"nan_policy": "omit", "extremes": True}], ids=str
)
def test_channel_stats_converts_x_once(options: dict[str, Any]) -> None:
    converted = []

    class Lazy:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            converted.append(1)
            return np.ones((2, 3, 4))

    bn.channel_stats(Lazy(), **options)
    assert converted == [1]


def test_weights(isa: str, few_case: Case, dtype: Any) -> None:
    axis, x = few_case.arrays(dtype, mean=3)
    mask, rng = some(x, axis), np.random.default_rng(1)
    weights = rng.uniform(0, 2, mask.shape) * mask
    got = bn.channel_stats(spoiled(x, mask, axis), axis=axis, weights=weights)
    assert (got.count == mask.size).all()
    total = weights.sum(dtype=np.longdouble)
    within("sum_weights", got.sum_weights, np.full(x.shape[axis], total), 1e-14 * total)
    if not total:
        assert np.isnan(got.mean).all()
        return
    w, values = weights[mask].astype(np.longdouble)[:, None], gathered(x, mask, axis).astype(np.longdouble)
    mean = values[:1] + (w * (values - values[:1])).sum(0) / total
    m2 = (w * (values - mean) ** 2).sum(0)
    within("mean", got.mean, mean[0], 1e-14 * np.maximum(np.abs(mean[0]), np.sqrt(m2 / total)))
    within("m2", got.m2, m2, 2e-14 * m2 + 1e-26)


def test_weights_of_one_value(isa: str) -> None:
    for shape in ((1, 1), (1, 1, 1), (5, 1), (1, 3)):
        x = np.full(shape, 7.0)
        got = bn.channel_stats(x, weights=np.full(without_channels(x, 1), 0.3))
        assert (got.mean == 7).all()
        assert not got.m2.any()


def test_weights_merge() -> None:
    rng = np.random.default_rng(0)
    x, weights = rng.normal(3, 1, (40, 3)), rng.uniform(0, 2, 40)
    whole = bn.channel_stats(x, weights=weights)
    parts = bn.ChannelStats().update(x[:7], weights=weights[:7]).update(x[7:], weights=weights[7:].astype(np.float64))
    np.testing.assert_allclose(parts.sum_weights, whole.sum_weights, rtol=1e-14)
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-13)
    np.testing.assert_allclose(parts.m2, whole.m2, rtol=1e-12)
    ones = bn.channel_stats(x, weights=np.ones(40, np.float32))
    plain = bn.channel_stats(x)
    np.testing.assert_allclose(ones.m2, plain.m2, rtol=1e-13)
    mixed = bn.channel_stats(x[:7]).merge(bn.channel_stats(x[7:], weights=np.ones(33)))
    np.testing.assert_allclose(mixed.mean, plain.mean, rtol=1e-13)
    assert (mixed.sum_weights == 40).all()
    both = bn.channel_stats(x, weights=weights, mask=np.arange(40) < 7)
    np.testing.assert_allclose(both.mean, np.average(x[:7], axis=0, weights=weights[:7]), rtol=1e-13)
    assert (both.count == 7).all()


def test_weights_are_saved(tmp_path: Any) -> None:
    stats = bn.channel_stats(np.arange(12.0).reshape(6, 2), weights=np.arange(6.0))
    stats.save(tmp_path / "stats.npz")
    loaded = bn.ChannelStats.load(tmp_path / "stats.npz")
    assert loaded == stats == pickle.loads(pickle.dumps(stats))
    assert loaded != bn.channel_stats(np.arange(12.0).reshape(6, 2))
    assert_same_bits("sum_weights", loaded.sum_weights, np.full(2, 15.0))
    mean, var = np.zeros(2), np.zeros(2)
    bn.update_running_stats(mean, var, loaded, momentum=1.0)
    np.testing.assert_allclose(var, stats.m2 / 14)
    np.testing.assert_allclose(stats.var(1), stats.m2 / 14)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_in_place(isa: str, layout: str) -> None:
    axis, x, dy = Case((6, 5, 9, 11), layout).arrays(np.float32, 2)
    mask = some(x, axis)
    want, saved = bn.batch_norm_train(x, axis=axis, mask=mask)
    gradients = bn.batch_norm_backward(dy, x, saved)
    y, in_place = bn.batch_norm_train(x, axis=axis, mask=mask, out=x)
    assert y is x
    assert_same_bits("y", x, want)
    undone = bn.batch_norm_backward(dy, None, in_place, y=y, out=dy)
    assert undone.dx is dy
    np.testing.assert_allclose(undone.dx, gradients.dx, atol=1e-5)


@pytest.mark.threaded
def test_any_number_of_threads(isa: str) -> None:
    for layout in ("channels_first", "channels_last"):
        axis, x, dy = Case((16, 6, 40, 41), layout).arrays(np.float32, 2)
        mask, weights = some(x, axis), np.random.default_rng(0).random(without_channels(x, axis))
        found = []
        for threads in (1, 2, 3, 8):
            y, saved = bn.batch_norm_train(x, axis=axis, mask=mask, num_threads=threads)
            dx = bn.batch_norm_backward(dy, x, saved, num_threads=threads).dx
            stats = bn.channel_stats(x, axis=axis, weights=weights, num_threads=threads)
            found.append(b"".join(a.tobytes() for a in (y, saved.mean, saved.var, dx, stats.mean, stats.m2)))
        assert len(set(found)) == 1


def test_the_layer() -> None:
    rng = np.random.default_rng(0)
    x, dy, lengths = rng.normal(size=(5, 3, 8)), rng.normal(size=(5, 3, 8)), np.array([8, 3, 0, 5, 1])
    mask = np.arange(8) < lengths[:, None]
    layer = bn.BatchNorm(3, dtype=np.float64)
    y = layer(x, lengths=lengths)
    want, saved = bn.batch_norm_train(x, layer.weight, layer.bias, mask=mask)
    assert_same_bits("y", y, want)
    assert_same_bits("dx", layer.backward(dy), bn.batch_norm_backward(dy, x, saved).dx)
    assert layer.running_mean is not None
    np.testing.assert_allclose(layer.running_mean, 0.1 * saved.mean)
    layer.eval()
    y = layer(x, mask=mask)
    mask[...] = True  # the layer has its own
    dx = layer.backward(dy)
    assert not dx[:, :, 7][1:].any()
    counts = np.arange(8) < lengths[:, None]
    assert not y[~everywhere(counts, x, 1)].any()
    assert not dx[~everywhere(counts, x, 1)].any()
    assert layer.bias_grad is not None
    np.testing.assert_allclose(layer.bias_grad, gathered(dy, counts, 1).sum(0))
    before = {name: a.copy() for name, a in layer.train().state_dict().items()}
    with pytest.raises(ValueError, match=r"^lengths: expected a mask or lengths, got both$"):
        layer(x, mask=mask, lengths=lengths)
    for name, a in layer.state_dict().items():
        assert_same_bits(name, a, before[name])


def test_where_nothing_is_masked(isa: str, dtype: Any) -> None:
    _, x = Case((6, 5, 9, 11), "channels_first").arrays(dtype)
    want, saved = bn.batch_norm_train(x)
    y, masked = bn.batch_norm_train(x, mask=True)
    np.testing.assert_allclose(masked.var, saved.var, rtol=TABLE["var"][dtype])
    np.testing.assert_allclose(y, want, atol=4 * TABLE["y"][dtype] * np.abs(want).max())


@pytest.mark.parametrize("size", [1e-320, 1e-300, 1e30, 3e307])
def test_weights_far_from_one(isa: str, size: float) -> None:
    """The mean depends on their ratios alone."""
    x = np.random.default_rng(0).normal(1e10, 1e9, (40, 3))
    weights = np.full(40, size / 16)
    weights[::8] = size / 32
    stats, want = bn.channel_stats(x, weights=weights), bn.channel_stats(x, weights=weights / size)
    np.testing.assert_allclose(stats.mean, want.mean, rtol=1e-13)
    np.testing.assert_allclose(stats.sum_weights, weights.sum(), rtol=1e-14)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(stats.m2, want.m2 * size, rtol=1e-13)
    parts = bn.ChannelStats().update(x[:7], weights=weights[:7]).update(x[7:], weights=weights[7:])
    np.testing.assert_allclose(parts.mean, stats.mean, rtol=1e-13)


def test_a_block_of_the_least_weights(isa: str) -> None:
    x = np.random.default_rng(0).normal(3, 1, (2, 3, 100_000))
    weights = np.full((2, 100_000), 5e-324)
    weights[1] = 1
    np.testing.assert_allclose(bn.channel_stats(x, weights=weights).mean, x[1].mean(1), rtol=1e-13)


def test_weights_that_overflow() -> None:
    x = np.array([[1.0], [2.0], [3.0]])
    with pytest.raises(OverflowError, match=r"^sum_weights: the sum passes the largest float64$"):
        bn.channel_stats(x, weights=np.full(3, 1e308))
    stats = bn.channel_stats(x[:1], weights=np.full(1, 1e308))
    before = bn.ChannelStats().merge(stats)
    with pytest.raises(OverflowError, match=r"^sum_weights: the sum passes the largest float64$"):
        stats.update(x[1:2], weights=np.full(1, 1e308))
    assert stats == before
