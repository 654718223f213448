"""Running statistics: PyTorch's semantics, and every other framework's one keyword away."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
from oracle import Array
from tolerances import F4, TABLE, assert_same_bits, within


@pytest.fixture
def x() -> Array:
    return np.random.default_rng(0).normal(5, 3, (8, 3, 4))


def running(own: Any = np.float64) -> tuple[Array, Array]:
    return np.array([1, -2, 3], own), np.array([0.5, 2, 1], own)


def moved(old: Array, new: Array, weight: float) -> Array:
    return old.astype(np.float64) * (1 - weight) + weight * np.asarray(new, np.float64)


def assert_moved(name: str, got: Array, old: Array, new: Array, weight: float) -> None:
    """One rounding to the array's own dtype, and a few in float64."""
    __tracebackhide__ = True
    unit = TABLE["mean"][F4] if got.dtype == F4 else 1e-15
    within(name, got, moved(old, new, weight), unit * np.maximum(np.abs(old), np.abs(new)))


@pytest.mark.parametrize("var_dtype", [np.float32, np.float64], ids=["var32", "var64"])
@pytest.mark.parametrize("mean_dtype", [np.float32, np.float64], ids=["mean32", "mean64"])
@pytest.mark.parametrize("unbiased", [True, False], ids=["unbiased", "biased"])
@pytest.mark.parametrize("momentum_of", ["new", "old"])
@pytest.mark.parametrize("momentum", [0, 0.0, 0.1, 0.99, 1, np.float32(0.25)], ids=str)
def test_move_towards_the_batch(
    x: Array, momentum: Any, momentum_of: Any, unbiased: bool, mean_dtype: Any, var_dtype: Any
) -> None:
    mean, var = running(mean_dtype)[0], running(var_dtype)[1]
    old = mean.copy(), var.copy()
    same = mean.copy(), var.copy()
    _, saved = bn.batch_norm_train(
        x, running_mean=mean, running_var=var, momentum=momentum, momentum_of=momentum_of, unbiased=unbiased
    )
    weight = float(momentum) if momentum_of == "new" else 1 - float(momentum)
    assert_moved("running_mean", mean, old[0], saved.mean, weight)
    assert_moved("running_var", var, old[1], saved.var * (32 / 31 if unbiased else 1), weight)
    bn.update_running_stats(*same, saved.stats, momentum=momentum, momentum_of=momentum_of, unbiased=unbiased)
    assert_moved("running_mean", same[0], old[0], saved.mean, weight)
    assert_moved("running_var", same[1], old[1], saved.var * (32 / 31 if unbiased else 1), weight)


def test_the_defaults_are_pytorchs(x: Array) -> None:
    mean, var = running()
    explicit = running()
    bn.batch_norm_train(x, running_mean=mean, running_var=var)
    bn.batch_norm_train(
        x, running_mean=explicit[0], running_var=explicit[1], momentum=0.1, momentum_of="new", unbiased=True
    )
    assert_same_bits("running_mean", mean, explicit[0])
    assert_same_bits("running_var", var, explicit[1])
    flat = np.moveaxis(x, 1, 0).reshape(3, -1)
    within("running_mean", mean, 0.9 * np.array([1, -2, 3]) + 0.1 * flat.mean(axis=1), 1e-14)
    within("running_var", var, 0.9 * np.array([0.5, 2, 1]) + 0.1 * flat.var(axis=1, ddof=1), 1e-14)


def test_momentum_one_takes_the_batch_and_zero_nothing(x: Array) -> None:
    """Bit for bit."""
    mean, var = running()
    _, saved = bn.batch_norm_train(x, running_mean=mean, running_var=var, momentum=1.0, unbiased=False)
    assert_same_bits("running_mean", mean, saved.mean.copy())
    assert_same_bits("running_var", var, saved.var.copy())
    bn.batch_norm_train(x + 1, running_mean=mean, running_var=var, momentum=0.0)
    assert_same_bits("running_mean", mean, saved.mean.copy())


def test_they_do_not_change_y(x: Array) -> None:
    mean, var = running()
    y, _ = bn.batch_norm_train(x, running_mean=mean, running_var=var)
    assert_same_bits("y", y, bn.batch_norm_train(x)[0])


def test_update_stats_false_leaves_them(x: Array) -> None:
    mean, var = running()
    bn.batch_norm_train(x, running_mean=mean, running_var=var, update_stats=False)
    assert_same_bits("running_mean", mean, running()[0])
    assert_same_bits("running_var", var, running()[1])


def test_they_may_be_strided(x: Array) -> None:
    """A column of a table is changed in its place, and nothing beside it."""
    table = np.full((3, 4), 7.0)
    table[:, 1], table[:, 2] = running()
    mean, var = running()
    bn.batch_norm_train(x, running_mean=mean, running_var=var)
    bn.batch_norm_train(x, running_mean=table[:, 1], running_var=table[:, 2])
    assert_same_bits("running_mean", table[:, 1].copy(), mean)
    assert_same_bits("running_var", table[:, 2].copy(), var)
    assert (table[:, [0, 3]] == 7).all()


def test_an_empty_batch_changes_nothing() -> None:
    for shape in ((0, 3), (0, 3, 4), (2, 3, 0)):
        mean, var = running()
        _, saved = bn.batch_norm_train(np.empty(shape), running_mean=mean, running_var=var, momentum=1.0)
        bn.update_running_stats(mean, var, saved.stats, momentum=1.0)
        bn.update_running_stats(mean, var, bn.ChannelStats(), momentum=1.0)
        assert_same_bits("running_mean", mean, running()[0])
        assert_same_bits("running_var", var, running()[1])


@pytest.mark.parametrize("unbiased", [True, False], ids=["unbiased", "biased"])
def test_one_value_moves_the_mean_and_only_the_biased_variance(unbiased: bool) -> None:
    one = np.array([[4.0, 5.0, 6.0]])
    mean, var = running()
    y, saved = bn.batch_norm_train(
        one, None, np.array([1.0, 2.0, 3.0]), running_mean=mean, running_var=var, unbiased=unbiased, on_single="allow"
    )
    again = running()
    bn.update_running_stats(*again, bn.channel_stats(one), unbiased=unbiased)
    assert_same_bits("y", y, np.array([[1.0, 2.0, 3.0]]))
    for got_mean, got_var in ((mean, var), again):
        assert_moved("running_mean", got_mean, running()[0], saved.mean, 0.1)
        if unbiased:
            assert_same_bits("running_var", got_var, running()[1])
        else:
            assert_moved("running_var", got_var, running()[1], np.zeros(3), 0.1)


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1), (1, 3, 1, 1)], ids=str)
def test_on_single(shape: tuple[int, ...]) -> None:
    one = np.ones(shape, np.float32)
    mean, var = running()
    message = r"^x: expected more than one value per channel.*, got shape \(1, 3"
    with pytest.raises(ValueError, match=message):
        bn.batch_norm_train(one, running_mean=mean, running_var=var)
    assert_same_bits("running_mean", mean, running()[0])
    with pytest.warns(UserWarning, match=message) as caught:
        y, _ = bn.batch_norm_train(one, running_mean=mean, running_var=var, on_single="warn")
    assert [w.filename for w in caught] == [__file__]  # it points at the caller
    assert not y.any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bn.batch_norm_train(one, on_single="allow")


def test_on_single_warn_as_an_error_changes_nothing() -> None:
    one, out = np.ones((1, 3)), np.full((1, 3), 7.0)
    mean, var = running()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match=r"^x: expected more than one value"):
            bn.batch_norm_train(one, running_mean=mean, running_var=var, on_single="warn", out=out)
    assert_same_bits("running_mean", mean, running()[0])
    assert (out == 7).all()


def test_nan_stays_in_its_channel(x: Array) -> None:
    mean, var = running()
    x[0, 1, 0] = np.nan
    bn.batch_norm_train(x, running_mean=mean, running_var=var)
    assert np.isnan([mean[1], var[1]]).all()
    assert np.isfinite([mean[0], mean[2], var[0], var[2]]).all()


def test_update_running_stats_of_parts(x: Array) -> None:
    """A batch that was spread over processes counts once, as a whole."""
    mean, var = running()
    bn.batch_norm_train(x, running_mean=mean, running_var=var)
    merged = running()
    bn.update_running_stats(*merged, bn.channel_stats(x[:3]) + bn.channel_stats(x[3:]))
    within("running_mean", merged[0], mean, 1e-14)
    within("running_var", merged[1], var, 1e-14)


def test_no_channel_with_one_value_each_is_no_error() -> None:
    y, saved = bn.batch_norm_train(np.empty((1, 0), np.float32))
    assert y.shape == (1, 0)
    assert saved.mean.shape == (0,)
