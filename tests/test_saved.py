"""SavedStatistics, which a forward leaves for its backward, and Gradients."""

from __future__ import annotations

import copy
import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
import oracle
from layouts import parameters
from oracle import Array
from tolerances import assert_gradients, assert_same_bits, within


@pytest.fixture
def x(dtype: Any) -> Array:
    return np.random.default_rng(0).normal(5, 3, (8, 3, 4)).astype(dtype)


def test_what_a_forward_saves(x: Array) -> None:
    weight, bias = parameters(3, np.float32)
    _, saved = bn.batch_norm_train(x, weight, bias, eps=1e-3)
    for name in ("mean", "rstd", "var", "scale", "shift", "weight", "bias"):
        array = getattr(saved, name)
        assert (array.dtype, array.shape) == (np.float64, (3,)), name
        assert not array.flags.writeable, name
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    assert_same_bits("count", saved.count, np.full(3, 32))
    assert not saved.count.flags.writeable
    assert (saved.eps, saved.axis) == (1e-3, 1)
    within("rstd", saved.rstd, 1 / np.sqrt(saved.var + 1e-3), 1e-15)
    within("scale", saved.scale, weight * saved.rstd, 1e-15)
    within("shift", saved.shift, bias - saved.mean * saved.scale, 1e-14)


def test_without_parameters(x: Array) -> None:
    _, saved = bn.batch_norm_train(x)
    assert saved.weight is saved.bias is None
    assert_same_bits("scale", saved.scale, saved.rstd)
    within("shift", saved.shift, -saved.mean * saved.rstd, 1e-14)
    _, saved = bn.batch_norm_train(x, None, np.ones(3))
    assert saved.weight is None
    assert_same_bits("bias", saved.bias, np.ones(3))


def test_scale_and_shift_are_the_forward(x: Array) -> None:
    weight, bias = parameters(3)
    y, saved = bn.batch_norm_train(x, weight, bias)
    folded = x.astype(np.float64) * saved.scale[:, None] + saved.shift[:, None]
    within("y", folded, y.astype(np.float64), 1e-5 if x.dtype == np.float32 else 1e-13)


def test_they_are_copies(x: Array) -> None:
    weight, bias = parameters(3)
    _, saved = bn.batch_norm_train(x, weight, bias)
    kept = saved.weight.copy(), saved.bias.copy()  # type: ignore[union-attr]
    weight[:] = bias[:] = 0
    assert_same_bits("weight", saved.weight, kept[0])
    assert_same_bits("bias", saved.bias, kept[1])
    mean, rstd, count = np.ones(3), np.ones(3), np.full(3, 4)
    own = bn.SavedStatistics(mean, rstd, count, eps=0.0)
    mean[:] = rstd[:] = count[:] = 0
    assert (own.mean == 1).all()
    assert (own.rstd == 1).all()
    assert (own.count == 4).all()


def test_stats_are_the_batchs(x: Array) -> None:
    _, saved = bn.batch_norm_train(x)
    assert isinstance(saved.stats, bn.ChannelStats)
    assert_same_bits("count", saved.stats.count, saved.count)
    assert_same_bits("mean", saved.stats.mean, saved.mean)
    within("var", saved.stats.var(), saved.var, 1e-15 * saved.var)
    both = saved.stats.merge(bn.channel_stats(x + 1))
    assert (both.count == 64).all()


def test_stats_of_an_empty_batch() -> None:
    _, saved = bn.batch_norm_train(np.empty((0, 3)))
    assert saved.stats == bn.channel_stats(np.empty((0, 3)))


def test_stats_of_one_value_do_not_deviate() -> None:
    """Though the var that rstd and eps imply does, by rounding."""
    rstd = np.full(4, 1 / np.sqrt(1e-5)) * (1 - 1e-12)
    mean = np.array([1.0, np.inf, np.nan, 2.0])
    saved = bn.SavedStatistics(mean, rstd, np.array([1, 1, 1, 2]), eps=1e-5)
    assert (saved.var > 0).all()
    assert_same_bits("mean", saved.stats.mean, mean)
    assert np.array_equal(saved.stats.m2[:3], [0, np.nan, np.nan], equal_nan=True)
    assert saved.stats.m2[3] == 2 * saved.var[3]


def test_the_forward_converts_eps_and_axis_once(x: Array) -> None:
    """A second conversion might fail after everything was written, or answer differently."""

    class Number:
        def __init__(self, *values: Any) -> None:
            self.values = list(values)

        def __float__(self) -> float:
            return float(self.values.pop(0))

        def __index__(self) -> int:
            return int(self.values.pop(0))

    for eps, axis in [(Number(0.5), Number(1)), (Number(0.5, 9.0), Number(1, 0))]:
        y, saved = bn.batch_norm_train(x, eps=eps, axis=axis)  # type: ignore[arg-type]
        assert (saved.eps, saved.axis) == (0.5, 1)
        assert (type(saved.eps), type(saved.axis)) == (float, int)
        assert_same_bits("y", y, bn.batch_norm_train(x, eps=0.5)[0])


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_axis_is_remembered(dtype: Any, axis: int) -> None:
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(2, 4, 5, 6)).astype(dtype)
    _, saved = bn.batch_norm_train(x, axis=axis)
    assert saved.axis in (axis, axis % 3)
    got = bn.batch_norm_backward(dy, x, saved)
    assert_gradients(got, dy, x, oracle.backward(dy, x, axis=axis), oracle.train(x, axis=axis), axis=axis)


def test_another_frameworks_statistics(x: Array) -> None:
    """Built by hand they give the same gradients as the forward's own."""
    weight, _ = parameters(3)
    dy = np.random.default_rng(1).normal(size=x.shape).astype(x.dtype)
    _, saved = bn.batch_norm_train(x, weight)
    for count in (32, np.int64(32), np.full(3, 32), [32, 32, 32]):
        own = bn.SavedStatistics(saved.mean, saved.rstd, count, eps=1e-5, weight=weight)
        want, got = (bn.batch_norm_backward(dy, x, s) for s in (saved, own))
        for name in ("dx", "dweight", "dbias"):
            assert_same_bits(name, getattr(got, name), getattr(want, name))
        within("var", own.var, saved.var, 1e-14 * saved.var)
    given = bn.SavedStatistics(saved.mean, saved.rstd, 32, var=saved.var, eps=1e-5)
    assert_same_bits("var", given.var, saved.var)
    single = bn.SavedStatistics(saved.mean.astype(np.float32), saved.rstd.astype(np.float32).tolist(), 32, eps=1e-5)
    assert single.mean.dtype == single.rstd.dtype == np.float64
    constant = bn.SavedStatistics(np.ones(3), np.zeros(3), 32, eps=0.0)
    assert_same_bits("var", constant.var, np.zeros(3))


def test_after_a_forward_in_place_x_is_gone(x: Array) -> None:
    dy = np.ones_like(x)
    y, saved = bn.batch_norm_train(x, out=x)
    before = x.tobytes()
    for remembered in (saved, pickle.loads(pickle.dumps(saved)), copy.deepcopy(saved)):
        with pytest.raises(ValueError, match=r"^x: expected .*in place|^x: expected .*overwr"):
            bn.batch_norm_backward(dy, x, remembered)
    assert y.tobytes() == before
    view = x[:]
    _, saved = bn.batch_norm_train(x, out=view)  # another object, the same memory
    with pytest.raises(ValueError, match=r"^x: expected "):
        bn.batch_norm_backward(dy, x, saved)


def test_it_pickles(x: Array) -> None:
    weight, bias = parameters(3, np.float32)
    _, saved = bn.batch_norm_train(x, weight, bias, eps=1e-3)
    counts = bn.SavedStatistics(saved.mean, saved.rstd, np.array([32, 32, 32]), eps=1e-3)
    for before in (saved, counts):
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            after = pickle.loads(pickle.dumps(before, protocol))
            for name in ("mean", "rstd", "var", "count"):
                assert_same_bits(name, getattr(after, name), getattr(before, name))
                assert not getattr(after, name).flags.writeable
            assert (after.eps, after.axis) == (before.eps, before.axis)
    dy = np.ones_like(x)
    again = bn.batch_norm_backward(dy, x, pickle.loads(pickle.dumps(saved)))
    want = bn.batch_norm_backward(dy, x, saved)
    for name in ("dx", "dweight", "dbias"):
        assert_same_bits(name, getattr(again, name), getattr(want, name))
    assert again.dweight.dtype == np.float32


def test_it_cannot_be_changed(x: Array) -> None:
    _, saved = bn.batch_norm_train(x)
    for name in ("mean", "eps", "axis", "count"):
        with pytest.raises(AttributeError):
            setattr(saved, name, 1)


def test_gradients_are_frozen_attributes(x: Array) -> None:
    _, saved = bn.batch_norm_train(x)
    gradients = bn.batch_norm_backward(x, x, saved)
    with pytest.raises(AttributeError):
        gradients.dx = x  # type: ignore[misc]
    with pytest.raises(TypeError, match=r"iter|unpack"):
        _dx, *_ = gradients  # type: ignore[misc]
    with pytest.raises(TypeError):
        len(gradients)  # type: ignore[arg-type]
    again = pickle.loads(pickle.dumps(gradients))
    assert_same_bits("dx", again.dx, gradients.dx)
    assert again.dmean is None


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"mean": np.ones((3, 1))}, ValueError, r"^mean: expected shape .*, got \(3, 1\)"),
        ({"mean": np.ones(3, int)}, TypeError, r"^mean: expected float32 or float64.*, got .*int64"),
        ({"rstd": np.ones(4)}, ValueError, r"^rstd: expected shape \(3,\), got \(4,\)"),
        ({"rstd": np.array([1, -1, 1.0])}, ValueError, r"^rstd: expected .*, got -1.0"),
        ({"rstd": np.array([1, np.inf, 1.0])}, ValueError, r"^rstd: expected .*, got inf"),
        ({"count": -1}, ValueError, r"^count: expected .*, got -1"),
        ({"count": 2**63}, ValueError, r"^count: expected .*, got 9223372036854775808"),
        ({"count": 1.5}, TypeError, r"^count: expected .*, got float"),
        ({"count": True}, TypeError, r"^count: expected .*, got bool"),
        ({"count": np.ones(4, int)}, ValueError, r"^count: expected .*, got \(4,\)"),
        ({"var": np.array([1, -1, 1.0])}, ValueError, r"^var: expected .*, got -1.0"),
        ({"var": np.ones(2)}, ValueError, r"^var: expected shape \(3,\), got \(2,\)"),
        ({"eps": -1.0}, ValueError, r"^eps: expected .*, got -1.0"),
        ({"eps": np.nan}, ValueError, r"^eps: expected .*, got nan"),
        ({"eps": "1"}, TypeError, r"^eps: expected .*, got str"),
        ({"eps": True}, TypeError, r"^eps: expected a number, got bool"),
        ({"axis": 1.0}, TypeError, r"^axis: expected .*, got float"),
        ({"axis": True}, TypeError, r"^axis: expected an int, got bool"),
        ({"weight": np.ones(4)}, ValueError, r"^weight: expected shape \(3,\), got \(4,\)"),
        ({"bias": np.ones(3, complex)}, TypeError, r"^bias: expected float32 or float64.*, got .*complex128"),
        ({"mean": np.ma.masked_array(np.ones(3))}, TypeError, r"^mean: expected .*mask.*got MaskedArray"),
    ],
    ids=str,
)
def test_bad_statistics(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    good: dict[str, Any] = {"mean": np.ones(3), "rstd": np.ones(3), "count": 4, "eps": 0.0}
    given = {**good, **arguments}
    with pytest.raises(error, match=message):
        bn.SavedStatistics(given.pop("mean"), given.pop("rstd"), given.pop("count"), **given)


def test_eps_and_axis_become_plain_numbers() -> None:
    saved = bn.SavedStatistics(np.ones(3), np.ones(3), 4, eps=Fraction(1, 2), axis=np.int8(-1))  # type: ignore[arg-type]
    assert (saved.eps, saved.axis) == (0.5, -1)
    assert (type(saved.eps), type(saved.axis)) == (float, int)


def test_eps_has_no_default() -> None:
    with pytest.raises(TypeError, match="eps"):
        bn.SavedStatistics(np.ones(3), np.ones(3), 4)  # type: ignore[call-arg]
