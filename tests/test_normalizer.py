"""Normalizer: what inference gives, in any dtype, and back; its file, its errors."""

from __future__ import annotations

import copy
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
from batchnorm.datasets import Normalizer, statistics
from batchnorm.datasets import _normalizer_integers as module

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
RNG_SEED = 5

# by shape and channel axis
SHAPES = [((4, 3, 5, 6), 1), ((4, 5, 6, 3), -1), ((7, 3), 1), ((3, 11), 0), ((1, 3, 700, 130), 1), ((3, 0, 4), 0)]


def images(shape: tuple[int, ...], dtype: Any = np.uint8) -> np.ndarray[Any, Any]:
    return np.random.default_rng(RNG_SEED).integers(0, 256, shape).astype(dtype)


def along(values: np.ndarray[Any, Any], ndim: int, axis: int) -> np.ndarray[Any, Any]:
    return values.reshape([-1 if i == axis % ndim else 1 for i in range(ndim)])


@pytest.fixture
def bytes_to_floats() -> Normalizer:
    return Normalizer(mean=MEAN, std=STD, scale=255, axis=-1)


@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
@pytest.mark.parametrize(
    ("given", "made", "tolerance"),
    [
        (np.uint8, None, 1e-6),
        (np.uint8, np.float16, 1e-3),
        (np.uint16, np.float32, 1e-6),
        (np.float16, np.float32, 1e-6),
        (np.float32, np.float16, 1e-3),
        (np.float64, None, 1e-13),
    ],
    ids=str,
)
def test_formula(shape: tuple[int, ...], axis: int, given: Any, made: Any, tolerance: float) -> None:
    x = images(shape, given)
    y = Normalizer(mean=MEAN, std=STD, scale=255, axis=axis, eps=0.01)(x, dtype=made)
    mean, var = (along(v, x.ndim, axis) for v in (MEAN, STD**2))
    want = (x.astype(np.float64) / 255 - mean) / np.sqrt(var + 0.01)
    assert y.dtype == (made or (np.float32 if np.dtype(given).kind == "u" else given))
    np.testing.assert_allclose(y.astype(np.float64), want, rtol=tolerance, atol=tolerance)


def test_is_inference_bit_by_bit() -> None:
    stats = bn.channel_stats(images((8, 3, 9)))
    x = images((2, 3, 9), np.float32)
    want = bn.batch_norm_inference(x, stats.mean, stats.std() ** 2, eps=0.0)
    assert Normalizer(stats)(x).tobytes() == want.tobytes()


def test_ways_to_give_statistics() -> None:
    stats = bn.channel_stats(images((8, 3, 9)))
    by_var = Normalizer(mean=stats.mean, var=stats.var())
    assert Normalizer(stats) == by_var
    assert Normalizer(statistics(images((8, 3, 9)))) == by_var
    assert Normalizer(stats=statistics([images((8, 3, 9))])) == by_var
    np.testing.assert_allclose(Normalizer(mean=stats.mean, std=stats.std()).var, by_var.var, rtol=1e-15)
    assert Normalizer(mean=[1, 2], std=[3, 4]) == Normalizer(mean=np.float32([1, 2]), var=(9.0, 16.0))


def test_statistics_are_copied() -> None:
    mean = np.zeros(1)
    n = Normalizer(mean=mean, std=[1.0])
    mean[:] = 5
    assert n.mean.tolist() == [0.0]
    stats = bn.channel_stats(np.array([[1.0], [3.0]]))
    n = Normalizer(stats)
    stats.update(np.array([[100.0]]))
    assert n.mean.tolist() == [2.0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_in_place(dtype: Any) -> None:
    n = Normalizer(mean=MEAN * 255, std=STD * 255)
    x = images((4, 3, 5), dtype)
    want = n(x)
    assert n(x, x) is x
    assert x.tobytes() == want.tobytes()
    back = n.inverse(x)
    assert n.inverse(x, out=x) is x
    assert x.tobytes() == back.tobytes()


def test_out_and_dtype_agree(bytes_to_floats: Normalizer) -> None:
    x = images((5, 4, 3))
    out = np.empty(x.shape, np.float16)
    assert bytes_to_floats(x, out=out, dtype=np.float16) is out
    assert out.tobytes() == bytes_to_floats(x, dtype="float16").tobytes()
    back = np.empty(x.shape, np.uint8)
    assert bytes_to_floats.inverse(out, out=back) is back
    assert bytes_to_floats.inverse(out, back, dtype=np.uint8) is back
    assert back.tobytes() == x.tobytes()


@pytest.mark.parametrize("between", [np.float16, np.float32])
@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
def test_every_byte_comes_back(shape: tuple[int, ...], axis: int, between: Any) -> None:
    n = Normalizer(mean=MEAN, std=STD, scale=255, axis=axis)
    x = images(shape)
    back = n.inverse(n(x, dtype=between), dtype=np.uint8)
    assert back.dtype == np.uint8 and back.shape == x.shape
    assert (back == x).all()


def test_all_values_of_16_bits_come_back() -> None:
    x = np.arange(2**16, dtype=np.uint16)[:, None]
    n = Normalizer(bn.channel_stats(x))
    assert (n.inverse(n(x), dtype=np.uint16) == x).all()


@pytest.mark.parametrize("given", [np.float16, np.float32, np.float64])
def test_integers_are_rounded_to_even_and_clipped(given: Any) -> None:
    n = Normalizer(mean=[1.0], std=[2.0])
    y = np.array([[-0.25, 0.25, 0.75, 1e4, -1e4, np.inf, -np.inf]], given)
    assert n.inverse(y.T, dtype=np.uint8).ravel().tolist() == [0, 2, 2, 255, 0, 255, 0]
    assert n.inverse(y.T, dtype=np.int8).ravel().tolist() == [0, 2, 2, 127, -128, 127, -128]


def test_bfloat16(bytes_to_floats: Normalizer) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="needs the extra [test]")
    x = images((5, 4, 3))
    y = bytes_to_floats(x, dtype=ml_dtypes.bfloat16)
    assert y.dtype == ml_dtypes.bfloat16
    np.testing.assert_allclose(y.astype(np.float32), bytes_to_floats(x), rtol=2**-8)
    want = np.rint(np.clip(bytes_to_floats.inverse(y.astype(np.float32)), 0, 255))
    assert (bytes_to_floats.inverse(y, dtype=np.uint8) == want).all()


def test_memory_order_is_kept(bytes_to_floats: Normalizer) -> None:
    x = np.asfortranarray(images((5, 4, 3)))
    for y in (bytes_to_floats(x), bytes_to_floats(x, dtype=np.float16)):
        assert y.flags.f_contiguous
        assert bytes_to_floats.inverse(y, dtype=np.uint8).flags.f_contiguous


def test_integers_in_blocks_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    n = Normalizer(mean=MEAN, std=STD, scale=255, axis=1)
    y = n(images((2, 3, 41, 7)))
    whole = n.inverse(y, dtype=np.uint8)
    monkeypatch.setattr(module, "_VALUES_PER_BLOCK", 100)
    assert n.inverse(y, dtype=np.uint8).tobytes() == whole.tobytes()


@pytest.mark.parametrize("shape", [(256, 256, 256, 256), (2, 3, 2000, 1000), (10**6, 3), (5, 2**18)], ids=str)
def test_a_block_stays_in_the_cache(shape: tuple[int, ...]) -> None:
    """Also where one index of the longest axis has far more values than a block."""
    for axis in range(len(shape)):
        whole = np.broadcast_to(np.float32(0), shape)
        sizes = [whole[block].size for block in module._blocks(shape, axis)]
        assert sum(sizes) == whole.size and max(sizes) <= max(module._VALUES_PER_BLOCK, shape[axis])
        assert {whole[block].shape[axis] for block in module._blocks(shape, axis)} == {shape[axis]}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_infinity_in_a_constant_channel_is_nan(dtype: Any) -> None:
    constant, other = Normalizer(mean=[4.0], std=[0.0]), Normalizer(mean=[4.0], std=[2.0])
    y, out = np.array([[5.0], [np.inf], [-np.inf]], dtype), np.full((3, 1), 9, np.uint8)
    np.testing.assert_array_equal(constant(y).ravel(), [0, np.nan, np.nan])
    np.testing.assert_array_equal(constant.inverse(y).ravel(), [4, np.nan, np.nan])
    with pytest.raises(
        ValueError, match=r"y: expected no NaN to make uint8 of, got infinity times a standard dev.* of 0"
    ):
        constant.inverse(y, out=out)
    assert (out == 9).all()
    assert other.inverse(y, out=out).ravel().tolist() == [14, 255, 0]


def test_a_constant_channel_gives_0_and_comes_back() -> None:
    n = Normalizer(mean=[4.0, 1.0], std=[0.0, 1.0])
    x = np.array([[4.0, 2.0], [9.0, 3.0]])
    assert n(x).tolist() == [[0.0, 1.0], [0.0, 2.0]]
    assert n.inverse(n(x)).tolist() == [[4.0, 2.0], [4.0, 3.0]]
    assert Normalizer(mean=[4.0], std=[0.0], eps=0.25)(np.array([[5.0]])).tolist() == [[2.0]]


def test_num_threads_of_one_call_and_of_the_setting() -> None:
    x = images((64, 3, 1000), np.float32)
    one, three = (Normalizer(mean=MEAN, std=STD, num_threads=n) for n in (1, 3))
    assert one.num_threads == 1 and one == three
    assert one(x).tobytes() == three(x).tobytes()


def test_it_cannot_be_changed(bytes_to_floats: Normalizer) -> None:
    for name in ("mean", "var", "scale", "axis", "eps", "num_threads", "other"):
        with pytest.raises(AttributeError):
            setattr(bytes_to_floats, name, 1)
    for array in (bytes_to_floats.mean, bytes_to_floats.var):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@pytest.mark.parametrize("name", ["n.npz", "n.json", "n.JSON", "n"])
def test_save_and_load(tmp_path: Path, bytes_to_floats: Normalizer, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"what was there")
    bytes_to_floats.save(path)
    again = Normalizer.load(path, num_threads=2)
    assert again == bytes_to_floats and again.num_threads == 2
    assert type(again.scale) is float and type(again.axis) is int
    assert os.listdir(tmp_path) == [name]
    assert (path.read_bytes()[:1] == b"{") == name.lower().endswith("json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.update(format="other"), "another one"),
        (lambda f: f.update(version=2), r"version 2 \(this batchnorm reads version 1\)"),
        (lambda f: f.pop("version"), "version None"),
        (lambda f: f.pop("var"), "one without 'var'"),
        (lambda f: f.update(var=[1.0, -1.0, 1.0]), "var: expected values >= 0, got -1.0 in channel 1"),
        (lambda f: f.update(var=[1.0]), r"var: expected shape \(3,\), got \(1,\)"),
        (lambda f: f.update(mean=["a", "b", "c"]), "mean: expected numbers"),
        (lambda f: f.update(scale="255"), "scale: expected a number, got str"),
        (lambda f: f.update(axis=[1]), "axis: expected an int"),
    ],
    ids=["format", "version", "no version", "no var", "negative", "shape", "text", "scale", "axis"],
)
@pytest.mark.parametrize("name", ["n.npz", "n.json"])
def test_foreign_and_damaged_files(
    tmp_path: Path, bytes_to_floats: Normalizer, name: str, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = tmp_path / name
    bytes_to_floats.save(path)
    if name.endswith("json"):
        fields = json.loads(path.read_text())
        change(fields)
        path.write_text(json.dumps(fields))
    else:
        fields = dict(np.load(path).items())
        change(fields)
        np.savez(path, **fields)
    with pytest.raises(ValueError, match=f"{name}: expected a Normalizer file, got .*{message}"):
        Normalizer.load(path)


@pytest.mark.parametrize("name", ["n.npz", "n.json"])
def test_files_that_are_cut_short(tmp_path: Path, bytes_to_floats: Normalizer, name: str) -> None:
    path = tmp_path / name
    bytes_to_floats.save(path)
    data = path.read_bytes()
    for length in range(0, len(data) - 1, 17):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match="expected a Normalizer file, got"):
            Normalizer.load(path)


def test_a_file_of_statistics_is_none_of_a_normalizer(tmp_path: Path) -> None:
    for path in (tmp_path / "stats.npz", tmp_path / "stats.json"):
        bn.channel_stats(images((4, 3))).save(path)
        with pytest.raises(ValueError, match="expected a Normalizer file, got another one"):
            Normalizer.load(path)
        Normalizer(mean=[0.0], std=[1.0]).save(path)
        with pytest.raises(ValueError, match="expected a ChannelStats file"):
            bn.ChannelStats.load(path)


def test_files_that_cannot_be_opened(tmp_path: Path, bytes_to_floats: Normalizer) -> None:
    with pytest.raises(FileNotFoundError, match="none"):
        Normalizer.load(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"none/n\.npz"):
        bytes_to_floats.save(tmp_path / "none" / "n.npz")


def test_copies_and_pickles() -> None:
    n = Normalizer(mean=MEAN, std=STD, scale=255, axis=-1, eps=1e-3, num_threads=2)
    for again in (pickle.loads(pickle.dumps(n)), copy.copy(n), copy.deepcopy(n)):
        assert again == n and hash(again) == hash(n) and again.num_threads == 2


def test_equality() -> None:
    n = Normalizer(mean=MEAN, std=STD)
    others = [
        Normalizer(mean=MEAN + 1, std=STD),
        Normalizer(mean=MEAN, std=STD + 1),
        Normalizer(mean=MEAN, std=STD, scale=2),
        Normalizer(mean=MEAN, std=STD, axis=0),
        Normalizer(mean=MEAN, std=STD, eps=1),
        "n",
    ]
    assert n == Normalizer(mean=MEAN, std=STD)
    assert all(n != other for other in others)


def test_repr(bytes_to_floats: Normalizer) -> None:
    assert repr(bytes_to_floats) == (
        "<Normalizer: 3 channels, mean=[0.485 0.456 0.406], std=[0.229 0.224 0.225], scale=255, axis=-1, eps=0>"
    )
    assert len(repr(Normalizer(mean=np.zeros(1000), std=np.ones(1000)))) < 150


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, TypeError, "stats: expected a ChannelStats or DatasetStatistics, or a mean and either std or var"),
        ({"mean": [0.0]}, TypeError, "a mean and either std or var"),
        ({"std": [1.0]}, TypeError, "a mean and either std or var"),
        ({"mean": [0.0], "std": [1.0], "var": [1.0]}, TypeError, "a mean and either std or var"),
        (
            {"stats": [0.0]},
            TypeError,
            "stats: expected a ChannelStats or DatasetStatistics, got list; give a mean as mean=",
        ),
        ({"stats": bn.ChannelStats()}, ValueError, "stats: expected statistics of at least one channel"),
        ({"stats": bn.channel_stats(np.ones((0, 2)))}, ValueError, "stats: mean: expected finite values, got nan"),
        ({"stats": bn.channel_stats(np.ones((2, 1))), "std": [1.0]}, TypeError, "stats: expected statistics alone"),
        ({"mean": [np.nan], "std": [1.0]}, ValueError, "mean: expected finite values, got nan in channel 0"),
        ({"mean": [0.0, 0.0], "std": [1.0, -1.0]}, ValueError, "std: expected values >= 0, got -1.0 in channel 1"),
        ({"mean": [0.0], "std": [np.inf]}, ValueError, "std: expected values with a square, got inf"),
        ({"mean": [0.0], "std": [1e-200]}, ValueError, "std: expected values with a square, got 1e-200"),
        ({"mean": [0.0], "var": [-1.0]}, ValueError, "var: expected values >= 0, got -1.0"),
        ({"mean": [0.0], "var": [np.nan]}, ValueError, "var: expected values >= 0, got nan"),
        ({"mean": [0.0], "var": [np.inf]}, ValueError, "var: expected finite values, got inf"),
        ({"mean": [0.0], "std": [1.0, 1.0]}, ValueError, r"std: expected shape \(1,\), got \(2,\)"),
        ({"mean": 0.0, "std": [1.0]}, ValueError, r"mean: expected shape \(C,\), got \(\)"),
        ({"mean": ["a"], "std": [1.0]}, TypeError, "mean: expected numbers, got <U1"),
        ({"mean": [0j], "std": [1.0]}, TypeError, "mean: expected numbers, got complex128"),
        ({"mean": np.ma.array([0.0]), "std": [1.0]}, TypeError, "mean: expected an array without a mask"),
        ({"mean": [0.0], "std": [1.0], "scale": 0}, ValueError, "scale: expected a finite number > 0, got 0"),
        ({"mean": [0.0], "std": [1.0], "scale": np.inf}, ValueError, "scale: expected a finite number > 0, got inf"),
        ({"mean": [0.0], "std": [1.0], "scale": True}, TypeError, "scale: expected a number, got bool"),
        ({"mean": [0.0], "std": [1.0], "scale": 1e300}, ValueError, "scale: expected one that keeps mean and variance"),
        ({"mean": [0.0], "std": [1.0], "scale": 1e-300}, ValueError, "scale: expected one that keeps mean and var"),
        ({"mean": [0.0], "std": [1.0], "axis": 1.0}, TypeError, "axis: expected an int, got float"),
        ({"mean": [0.0], "std": [1.0], "eps": -1.0}, ValueError, "eps: expected"),
        ({"mean": [0.0], "std": [1.0], "num_threads": 0}, ValueError, "num_threads: expected"),
    ],
)
def test_bad_statistics_and_options(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Normalizer(**arguments)


BAD_CALLS: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (np.ones((2, 4), "f"), {}, ValueError, r"x: expected 3 channels along axis -1, got 4 in shape \(2, 4\)"),
    (np.ones(3, "f"), {}, ValueError, r"x: expected at least 2 dimensions, got shape \(3,\)"),
    (np.ones((2, 3), int), {}, TypeError, "x: expected float16"),
    (np.ones((2, 3), int), {"dtype": np.float16}, TypeError, "x: expected float16"),
    (np.ones((2, 3), "u1"), {"dtype": np.float64}, TypeError, "dtype: .* or float32 for uint8, got float64"),
    (np.ones((2, 3)), {"dtype": np.float32}, TypeError, "dtype: expected float64 for float64, got float32"),
    (np.ones((2, 3), "f"), {"dtype": np.uint8}, TypeError, "dtype: expected float16, bfloat16 or float32 for float32"),
    (np.ones((2, 3), "f"), {"dtype": "no"}, TypeError, "dtype: expected float16, bfloat16 or float32, got 'no'"),
    (np.ones((2, 3), "u1"), {"out": np.ones((2, 3), "u1")}, TypeError, "out: expected float16"),
    (np.ones((2, 3), "f"), {"out": np.ones((3, 3), "f")}, ValueError, "out: expected x's shape"),
    (
        *(np.ones((2, 3), "f"), {"out": np.ones((2, 3), "f"), "dtype": "f2"}),
        *(ValueError, "out: expected dtype float16, as asked for, got float32"),
    ),
    (
        *(np.ones((2, 3), "f"), {"out": np.ones((3, 3), "f2"), "dtype": "f2"}),
        *(ValueError, r"out: expected x's shape \(2, 3\), got \(3, 3\)"),
    ),
    (np.ones((2, 3), "f"), {"out": [1.0], "dtype": "f"}, TypeError, "out: expected an array, got list"),
]


@pytest.mark.parametrize(("x", "options", "error", "message"), BAD_CALLS)
def test_bad_calls(
    bytes_to_floats: Normalizer, x: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        bytes_to_floats(x, **options)


def test_axis_that_x_does_not_have() -> None:
    with pytest.raises(ValueError, match=r"axis: expected -2 \.\. 1 for shape \(2, 3\), got 2"):
        Normalizer(mean=MEAN, std=STD, axis=2)(np.ones((2, 3)))
    for options in ({}, {"dtype": np.uint8}):
        with pytest.raises(ValueError, match=r"axis: expected -2 \.\. 1 for shape \(2, 3\), got 2"):
            Normalizer(mean=MEAN, std=STD, axis=2).inverse(np.ones((2, 3)), **options)


SHARED = np.zeros(24, np.uint8)
BAD_INVERSES: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (np.ones((2, 4), "f"), {}, ValueError, r"y: expected 3 channels along axis -1, got 4 in shape \(2, 4\)"),
    (np.ones((2, 3), int), {}, TypeError, "y: expected float16, bfloat16, float32 or float64, got int64"),
    (np.ones((2, 3), "u1"), {"dtype": "u1"}, TypeError, "y: expected float16, bfloat16, float32 or float64, got uint8"),
    (np.ones((2, 3), "f"), {"dtype": np.int32}, TypeError, "dtype: .*int16 for float32, got int32"),
    (np.ones((2, 3), "f"), {"dtype": np.float64}, TypeError, "dtype: expected .* for float32, got float64"),
    (np.ones((2, 3), "f"), {"out": np.ones((2, 3), "i4")}, TypeError, "dtype: .* for float32, got int32"),
    (
        np.ones((2, 3), "f"),
        {"out": np.ones((1, 3), "u1")},
        ValueError,
        r"out: expected y's shape \(2, 3\), got \(1, 3\)",
    ),
    (np.ones((2, 3), "f"), {"out": [1.0]}, TypeError, "out: expected an array, got list"),
    (
        *(np.ones((2, 3), "f"), {"out": np.frombuffer(bytes(6), "u1").reshape(2, 3)}),
        *(ValueError, "out: expected a writeable array"),
    ),
    (
        *(SHARED.view("f").reshape(2, 3), {"out": SHARED[6:12].reshape(2, 3)}),
        *(ValueError, "out: expected memory apart from y"),
    ),
]


@pytest.mark.parametrize(("y", "options", "error", "message"), BAD_INVERSES)
def test_bad_inverses(
    bytes_to_floats: Normalizer, y: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        bytes_to_floats.inverse(y, **options)


def test_no_integer_is_made_of_nan_and_nothing_is_written(bytes_to_floats: Normalizer) -> None:
    y = np.zeros((700, 130, 3), np.float32)
    y[-1, -1, -1] = np.nan
    out = np.full(y.shape, 7, np.uint8)
    with pytest.raises(ValueError, match="y: expected no NaN to make uint8 of, got one"):
        bytes_to_floats.inverse(y, out)
    assert (out == 7).all()
    assert np.isnan(bytes_to_floats.inverse(y)[-1, -1, -1])
