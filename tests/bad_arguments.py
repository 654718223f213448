"""Tables for test_bad_input: what is given, the exception that is due, and its message after the argument's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

import batchnorm as bn
from oracle import Array

SHAPE = (4, 3, 5)
FLOATS = "expected float32 or float64"  # of parameters
DATA_TYPES = r"expected float16, bfloat16 \(of ml_dtypes\), float32.* float64.*"
SWAPPED = np.dtype(np.float64).newbyteorder("S")

TRAIN, INFERENCE, BACKWARD, FROZEN, STATS, UPDATE, DENORMALIZE = FUNCTIONS = (
    "batch_norm_train",
    "batch_norm_inference",
    "batch_norm_backward",
    "batch_norm_inference_backward",
    "channel_stats",
    "update_running_stats",
    "denormalize",
)
WITH_AXIS = (TRAIN, INFERENCE, FROZEN, STATS, DENORMALIZE)
WITH_EPS = (TRAIN, INFERENCE, FROZEN, DENORMALIZE)
WITH_OUT = (TRAIN, INFERENCE, BACKWARD, FROZEN, DENORMALIZE)
WITH_THREADS = (TRAIN, INFERENCE, BACKWARD, FROZEN, STATS, DENORMALIZE)
WITH_MOMENTUM = (TRAIN, UPDATE)
BACKWARDS = (BACKWARD, FROZEN)
GIVEN = (INFERENCE, FROZEN)
WITH_ACTIVATION = (TRAIN, INFERENCE, FROZEN)
WITH_MASK = (TRAIN, INFERENCE, FROZEN, STATS)
FORWARDS = (TRAIN, INFERENCE)
VECTOR_ARGUMENTS = {
    TRAIN: ("weight", "bias", "running_mean", "running_var"),
    INFERENCE: ("running_mean", "running_var", "weight", "bias"),
    BACKWARD: ("weight",),
    FROZEN: ("running_mean", "running_var", "weight", "bias"),
    STATS: (),
    UPDATE: ("running_mean", "running_var"),
    DENORMALIZE: ("mean", "var", "weight", "bias"),
}

Given: TypeAlias = "dict[str, Any]"
Row: TypeAlias = "tuple[Callable[[Any], Any], type[Exception], str]"


def read_only(a: Array) -> Array:
    a = a.copy()
    a.flags.writeable = False
    return a


def masked(a: Array) -> Any:
    return np.ma.masked_array(a, mask=a > 1)


def strided(size: int, *strides: int) -> Array:
    return np.lib.stride_tricks.as_strided(np.ones(size), SHAPE, strides)


def of_forward(g: Given, **options: Any) -> bn.SavedStatistics:
    return bn.batch_norm_train(g["x"], g["weight"], **options)[1]


def saved(channels: int = 3, count: Any = 20, **options: Any) -> bn.SavedStatistics:
    return bn.SavedStatistics(np.ones(channels), np.ones(channels), count, eps=0.0, **options)


# In place of x, or of y in denormalize.
DATA: dict[str, Row] = {
    "int": (lambda x: x.astype(np.int64), TypeError, f"{DATA_TYPES}, got int64"),
    "list of int": (lambda x: np.ones(SHAPE, int).tolist(), TypeError, f"{DATA_TYPES}, got int"),
    "bool": (lambda x: x > 1, TypeError, f"{DATA_TYPES}, got bool"),
    "object": (lambda x: x.astype(object), TypeError, f"{DATA_TYPES}, got object"),
    "str": (lambda x: x.astype(str), TypeError, f"{DATA_TYPES}, got <U"),
    "complex": (lambda x: x.astype(complex), TypeError, f"{DATA_TYPES}, got complex128"),
    "datetime": (lambda x: np.zeros(SHAPE, "M8[s]"), TypeError, f"{DATA_TYPES}, got datetime64"),
    "longdouble": (lambda x: x.astype(np.longdouble), TypeError, f"{DATA_TYPES}, got "),
    "text": (lambda x: "text", TypeError, f"{DATA_TYPES}, got <U"),
    "None": (lambda x: None, TypeError, "expected an array.*, got None"),
    "dict": (lambda x: {}, TypeError, f"{DATA_TYPES}, got object"),
    "masked": (masked, TypeError, "expected .*mask.*, got MaskedArray.*filled"),
    "byte order": (lambda x: x.astype(SWAPPED), TypeError, "expected native byte order, got .*newbyteorder"),
    "0-d": (lambda x: np.array(3.0), ValueError, r"expected at least 2 dimensions, got shape \(\)"),
    "1-d": (lambda x: x[0, 0], ValueError, r"expected at least 2 dimensions, got shape \(5,\)"),
    "number": (lambda x: 3.0, ValueError, r"expected at least 2 dimensions, got shape \(\)"),
}

# In place of a weight, a bias, a mean or a variance.
VECTORS: dict[str, Row] = {
    "too long": (lambda v: np.ones(4), ValueError, r"expected shape \(3,\), got \(4,\)"),
    "too short": (lambda v: v[:2], ValueError, r"expected shape \(3,\), got \(2,\)"),
    "one": (lambda v: v[:1], ValueError, r"expected shape \(3,\), got \(1,\)"),
    "2-d": (lambda v: v[None], ValueError, r"expected shape \(3,\), got \(1, 3\)"),
    "int": (lambda v: np.ones(3, np.int64), TypeError, f"{FLOATS}, got int64"),
    "complex": (lambda v: v.astype(complex), TypeError, f"{FLOATS}, got complex128"),
    "object": (lambda v: v.astype(object), TypeError, f"{FLOATS}, got object"),
    "masked": (masked, TypeError, "expected .*mask.*, got MaskedArray"),
    "byte order": (lambda v: v.astype(SWAPPED), TypeError, "expected native byte order, got "),
}

# In place of a good out. x is in C order.
OUT: dict[str, Row] = {
    "shape": (lambda out: np.ones((4, 3, 6)), ValueError, r"expected .*\(4, 3, 5\), got \(4, 3, 6\)"),
    "dimensions": (lambda out: np.ones((4, 15)), ValueError, r"expected .*\(4, 3, 5\), got \(4, 15\)"),
    "dtype": (lambda out: out.astype(np.float32), TypeError, "expected .*float64, got float32"),
    "int": (lambda out: np.ones(SHAPE, np.int64), TypeError, f"{DATA_TYPES}, got int64"),
    "byte order": (lambda out: out.astype(SWAPPED), TypeError, "expected native byte order, got "),
    "list": (lambda out: out.tolist(), TypeError, "expected a NumPy array, got list"),
    "masked": (masked, TypeError, "expected .*mask.*, got MaskedArray"),
    "read-only": (read_only, ValueError, "expected .*writeable.*, got .*read-only"),
    "memory order": (np.asfortranarray, ValueError, "expected .*memory order.*, got .*strides"),
    "backwards": (lambda out: out[::-1], ValueError, "expected .*memory order.*, got .*strides"),
    "stride 0": (lambda out: strided(5, 0, 0, 8), ValueError, "expected .*memory order.*, got .*strides"),
    "overlaps itself": (lambda out: strided(40, 64, 32, 8), ValueError, "expected .*memory order.*, got .*strides"),
}

# function, option, its value, exception, message
OPTIONS: list[tuple[tuple[str, ...], str, Any, type[Exception], str]] = [
    (WITH_AXIS, "axis", 3, ValueError, r"expected .*\(4, 3, 5\), got 3"),
    (WITH_AXIS, "axis", -4, ValueError, "expected .*, got -4"),
    (WITH_AXIS, "axis", 2**70, ValueError, "expected .*, got 1180591620717411303424"),
    (WITH_AXIS, "axis", 1.0, TypeError, "expected an int, got float"),
    (tuple(f for f in WITH_AXIS if f != STATS), "axis", None, TypeError, "expected an int, got NoneType"),
    (WITH_AXIS, "axis", (0, 1), TypeError, "expected an int, got tuple"),
    (WITH_AXIS, "axis", "C", TypeError, "expected an int, got str"),
    (WITH_EPS, "eps", -1e-5, ValueError, "expected .*, got -1e-05"),
    (WITH_EPS, "eps", np.nan, ValueError, "expected .*, got nan"),
    (WITH_EPS, "eps", np.inf, ValueError, "expected .*, got inf"),
    (WITH_EPS, "eps", None, TypeError, "expected .*, got NoneType"),
    (WITH_EPS, "eps", "1e-5", TypeError, "expected .*, got str"),
    (WITH_EPS, "eps", 1j, TypeError, "expected .*, got complex"),
    (WITH_MOMENTUM, "momentum", -0.1, ValueError, "expected .*, got -0.1"),
    (WITH_MOMENTUM, "momentum", 1.1, ValueError, "expected .*, got 1.1"),
    (WITH_MOMENTUM, "momentum", np.nan, ValueError, "expected .*, got nan"),
    (WITH_MOMENTUM, "momentum", None, TypeError, "expected .*, got NoneType"),
    (WITH_MOMENTUM, "momentum", "0.1", TypeError, "expected .*, got str"),
    (WITH_MOMENTUM, "momentum_of", "both", ValueError, "expected .*new.*old.*, got 'both'"),
    (WITH_MOMENTUM, "momentum_of", None, TypeError, "expected .*new.*old.*, got NoneType"),
    (WITH_MOMENTUM, "unbiased", 1, TypeError, "expected a bool, got int"),
    ((TRAIN,), "update_stats", None, TypeError, "expected a bool, got NoneType"),
    ((TRAIN,), "on_single", "ignore", ValueError, "expected .*error.*warn.*allow.*, got 'ignore'"),
    ((TRAIN,), "on_single", True, TypeError, "expected .*error.*warn.*allow.*, got bool"),
    (WITH_ACTIVATION, "activation", "gelu", ValueError, "expected None, 'relu', .*, got 'gelu'"),
    (WITH_ACTIVATION, "activation", "leaky_relu", ValueError, "expected .*slope.*, got 'leaky_relu'"),
    (WITH_ACTIVATION, "activation", ("relu", 0.0), ValueError, r"expected None, 'relu', .*, got \('relu', 0.0\)"),
    (WITH_ACTIVATION, "activation", ("leaky_relu",), TypeError, r"expected .*, got \('leaky_relu',\)"),
    (WITH_ACTIVATION, "activation", 7, TypeError, "expected None, 'relu', .*, got 7"),
    (WITH_ACTIVATION, "activation", ("leaky_relu", -0.1), ValueError, "expected a finite number >= 0, got -0.1"),
    (WITH_ACTIVATION, "activation", ("leaky_relu", np.inf), ValueError, "expected a finite number >= 0, got inf"),
    (WITH_ACTIVATION, "activation", ("leaky_relu", np.nan), ValueError, "expected a finite number >= 0, got nan"),
    (WITH_ACTIVATION, "activation", ("leaky_relu", "0.1"), TypeError, "expected a number, got str"),
    (WITH_ACTIVATION, "activation", ("prelu", None), TypeError, "expected an array, got None"),
    (WITH_ACTIVATION, "activation", ("prelu", 0.1), ValueError, r"expected shape \(3,\), got \(\)"),
    (WITH_ACTIVATION, "activation", ("prelu", np.ones(4)), ValueError, r"expected shape \(3,\), got \(4,\)"),
    (WITH_ACTIVATION, "activation", ("prelu", np.ones(3, int)), TypeError, f"{FLOATS}, got int64"),
    (WITH_ACTIVATION, "activation", ("prelu", np.full(3, np.inf)), ValueError, "expected no infinity, got .*channel 0"),
    ((TRAIN,), "keep_sign", 1, TypeError, "expected a bool, got int"),
    (WITH_MASK, "mask", np.ones((4, 5)), TypeError, "expected bool, got float64"),
    (WITH_MASK, "mask", np.ones((4, 5), np.uint8), TypeError, "expected bool, got uint8"),
    (WITH_MASK, "mask", np.ones((4, 3, 5), bool), ValueError, r"expected .* \(4, 5\), got \(4, 3, 5\)"),
    (WITH_MASK, "mask", np.ones((3, 5), bool), ValueError, r"expected .* \(4, 5\), got \(3, 5\)"),
    (WITH_MASK, "mask", [[True], [False]], ValueError, r"expected .* \(4, 5\), got \(2, 1\)"),
    (WITH_MASK, "mask", np.ma.ones((4, 5), bool), TypeError, "expected .*mask.*, got MaskedArray"),
    (WITH_MASK, "lengths", [1, 2, 3], ValueError, r"expected shape \(4,\), got \(3,\)"),
    (WITH_MASK, "lengths", [1, 2, 3, 6], ValueError, "expected values from 0 to 5, got 6 of sample 3"),
    (WITH_MASK, "lengths", [1, -2, 3, 6], ValueError, "expected values from 0 to 5, got -2 of sample 1"),
    (WITH_MASK, "lengths", [1.0] * 4, TypeError, "expected an array of ints, got float64"),
    (WITH_MASK, "lengths", [True] * 4, TypeError, "expected an array of ints, got bool"),
    ((STATS,), "weights", np.ones((4, 5), int), TypeError, "expected float32 or float64 .*, got int64"),
    ((STATS,), "weights", np.full((4, 5), -0.5), ValueError, "expected finite values >= 0, got -0.5"),
    ((STATS,), "weights", np.full(5, np.nan), ValueError, "expected finite values >= 0, got nan"),
    ((STATS,), "weights", np.full(5, np.inf), ValueError, "expected finite values >= 0, got inf"),
    ((STATS,), "weights", np.ones((4, 3, 5)), ValueError, r"expected .* \(4, 5\), got \(4, 3, 5\)"),
    ((TRAIN,), "groups", 0, ValueError, "expected a positive int, got 0"),
    ((TRAIN,), "groups", 2.0, TypeError, "expected a positive int, got float"),
    ((TRAIN,), "groups", True, TypeError, "expected a positive int, got bool"),
    ((TRAIN,), "renorm", 3.0, TypeError, r"expected None or \(r_max, d_max\), got 3.0"),
    ((TRAIN,), "renorm", (3.0,), TypeError, r"expected None or \(r_max, d_max\), got \(3.0,\)"),
    ((TRAIN,), "renorm", (0.5, 1.0), ValueError, "expected a number >= 1, got 0.5"),
    ((TRAIN,), "renorm", (1.5, -1.0), ValueError, "expected a number >= 0, got -1.0"),
    ((TRAIN,), "renorm", (np.nan, 1.0), ValueError, "expected a number >= 1, got nan"),
    ((TRAIN,), "renorm", ("3", 1.0), TypeError, "expected a number, got str"),
    ((TRAIN,), "on_nonfinite", "ignore", ValueError, "expected .*propagate.*raise.*skip_update.*, got 'ignore'"),
    ((TRAIN,), "on_nonfinite", None, TypeError, "expected .*propagate.*, got NoneType"),
    (WITH_THREADS, "flush_subnormals", 1, TypeError, "expected a bool, got int"),
    (WITH_THREADS, "num_threads", 0, ValueError, "expected .*, got 0"),
    (WITH_THREADS, "num_threads", -1, ValueError, "expected .*, got -1"),
    (WITH_THREADS, "num_threads", True, TypeError, "expected .*, got bool"),
    (WITH_THREADS, "num_threads", 2.0, TypeError, "expected .*, got float"),
    (WITH_THREADS, "num_threads", "2", TypeError, "expected .*, got str"),
]

NEGATIVE = (1.0, -0.5, 1.0)
TINY = -np.finfo(np.float64).smallest_subnormal
APART_X = "expected memory apart from x, got an array that overlaps x"

# functions, the argument that the message names, what is given, exception, message
OTHERS: list[tuple[tuple[str, ...], str, Callable[[Given], Given], type[Exception], str]] = [
    ((TRAIN,), "running_mean", lambda g: {"running_var": None}, ValueError, "expected .*running_var.*, got .*alone"),
    ((TRAIN,), "running_", lambda g: {"running_mean": None}, ValueError, "expected .*, got running_var alone"),
    ((*GIVEN, UPDATE), "running_mean", lambda g: {"running_mean": None}, TypeError, "expected .*, got None"),
    ((*GIVEN, UPDATE), "running_var", lambda g: {"running_var": None}, TypeError, "expected .*, got None"),
    ((DENORMALIZE,), "mean", lambda g: {"mean": None}, TypeError, "expected .*, got None"),
    (
        WITH_MOMENTUM,
        "running_mean",
        lambda g: {"running_mean": read_only(g["mean"])},
        ValueError,
        "expected .*writeable.*, got .*read-only",
    ),
    (
        WITH_MOMENTUM,
        "running_var",
        lambda g: {"running_var": read_only(g["var"])},
        ValueError,
        "expected .*writeable.*, got .*read-only",
    ),
    (WITH_MOMENTUM, "running_mean", lambda g: {"running_mean": [0.0] * 3}, TypeError, "expected .*array.*, got list"),
    (WITH_MOMENTUM, "running_mean", lambda g: {"running_var": g["running_mean"]}, ValueError, "expected memory apart"),
    (
        (TRAIN,),
        "running_mean",
        lambda g: {"running_mean": g["weight"]},
        ValueError,
        "expected memory apart from weight",
    ),
    ((TRAIN,), "running_var", lambda g: {"running_var": g["x"][0, 0, :3]}, ValueError, "expected memory apart from x"),
    (GIVEN, "running_var", lambda g: {"running_var": np.array(NEGATIVE)}, ValueError, "expected .*, got -0.5.* 1"),
    (GIVEN, "running_var", lambda g: {"running_var": np.full(3, TINY)}, ValueError, "expected .*, got -"),
    ((DENORMALIZE,), "var", lambda g: {"var": np.array(NEGATIVE)}, ValueError, "expected .*, got -0.5.* 1"),
    ((DENORMALIZE,), "weight", lambda g: {"weight": np.array([1.0, 0.0, 1.0])}, ValueError, "expected .*, got 0.* 1"),
    (
        (TRAIN,),
        "x",
        lambda g: {"x": np.ones((1, 3, 1)), "out": np.ones((1, 3, 1))},
        ValueError,
        r"expected more than one value per channel.*, got shape \(1, 3, 1\)",
    ),
    (BACKWARDS, "dy", lambda g: {"dy": g["dy"][:3]}, ValueError, r"expected .*\(4, 3, 5\), got \(3, 3, 5\)"),
    (BACKWARDS, "dy", lambda g: {"dy": g["dy"].swapaxes(1, 2)}, ValueError, r"expected .*, got \(4, 5, 3\)"),
    (BACKWARDS, "dy", lambda g: {"dy": g["dy"].astype(np.float32)}, TypeError, "expected .*float64, got float32"),
    (BACKWARDS, "dy", lambda g: {"dy": np.ones(SHAPE, np.int64)}, TypeError, f"{DATA_TYPES}, got int64"),
    (BACKWARDS, "dy", lambda g: {"dy": masked(g["dy"])}, TypeError, "expected .*mask.*, got MaskedArray"),
    (BACKWARDS, "dy", lambda g: {"dy": np.ones(3)}, ValueError, "expected at least 2 dimensions, got shape"),
    (BACKWARDS, "out", lambda g: {"out": g["x"]}, ValueError, APART_X),
    (BACKWARDS, "out", lambda g: {"x": g["x"][::-1], "out": g["x"]}, ValueError, APART_X),
    ((BACKWARD,), "saved", lambda g: {"saved": (1, 2)}, TypeError, "expected .*SavedStatistics, got tuple"),
    ((BACKWARD,), "saved", lambda g: {"saved": None}, TypeError, "expected .*SavedStatistics, got NoneType"),
    ((BACKWARD,), "saved", lambda g: {"saved": saved(4)}, ValueError, "expected .*3 channels, got .*4"),
    ((BACKWARD,), "saved", lambda g: {"saved": saved(3, 21)}, ValueError, "expected .*20 values per channel, got 21"),
    ((BACKWARD,), "saved", lambda g: {"saved": saved(3, [20, 20, 7])}, ValueError, "expected .*20 values.*, got 7"),
    ((BACKWARD,), "axis", lambda g: {"saved": saved(axis=3)}, ValueError, "expected .*, got 3"),
    ((UPDATE,), "stats", lambda g: {"stats": g["saved"]}, TypeError, "expected .*ChannelStats, got SavedStatistics"),
    (
        (UPDATE,),
        "stats",
        lambda g: {"stats": bn.channel_stats(np.ones((2, 4)))},
        ValueError,
        "expected .*, got ",
    ),
    (
        WITH_ACTIVATION,
        "residual",
        lambda g: {"residual": g["x"][:3]},
        ValueError,
        r"expected .*\(4, 3, 5\), got \(3, 3, 5\)",
    ),
    (
        WITH_ACTIVATION,
        "residual",
        lambda g: {"residual": g["x"].astype("f")},
        TypeError,
        "expected .*float64, got float32",
    ),
    (WITH_ACTIVATION, "residual", lambda g: {"residual": g["x"].astype(int)}, TypeError, f"{DATA_TYPES}, got int64"),
    (
        WITH_ACTIVATION,
        "residual",
        lambda g: {"residual": masked(g["x"])},
        TypeError,
        "expected .*mask.*, got MaskedArray",
    ),
    (
        WITH_ACTIVATION,
        "residual",
        lambda g: {"residual": 1.0},
        ValueError,
        r"expected at least 2 dimensions, got shape \(\)",
    ),
    (FORWARDS, "out", lambda g: {"residual": g["out"]}, ValueError, "expected memory apart from residual"),
    (
        FORWARDS,
        "out",
        lambda g: {"mask": g["out"].view(bool)[:, 0, :5]},
        ValueError,
        "expected memory apart from mask, got an array that overlaps mask",
    ),
    (
        (TRAIN, INFERENCE, STATS),
        "lengths",
        lambda g: {"x": g["x"][..., None].copy(), "lengths": [1] * 4},
        ValueError,
        r"expected x of shape \(N, C, L\) or \(N, L, C\), got shape \(4, 3, 5, 1\)",
    ),
    (
        (TRAIN,),
        "running_mean",
        lambda g: {"running_mean": None, "running_var": None, "renorm": (1.0, 0.0)},
        TypeError,
        "expected an array, because renorm .*, got None",
    ),
    (
        (TRAIN,),
        "running_var",
        lambda g: {"running_var": -g["var"], "renorm": (1.0, 0.0)},
        ValueError,
        "expected no negative variance, got -",
    ),
    (
        (TRAIN,),
        "x",
        lambda g: {"x": g["x"] * np.array([1, np.nan, 1])[:, None], "on_nonfinite": "raise"},
        ValueError,
        "expected finite values, got .* channel 1",
    ),
    (
        (BACKWARD,),
        "saved: mask",
        lambda g: {"saved": of_forward(g, mask=np.ones((4, 5), bool)), "x": g["x"][:3], "dy": g["dy"][:3], "out": None},
        ValueError,
        r"expected .* \(3, 5\), got \(4, 5\)",
    ),
    (
        (BACKWARD,),
        "saved",
        lambda g: {
            "saved": of_forward(g, groups=4),
            "x": g["x"].reshape(2, 3, 10),
            "dy": g["dy"].reshape(2, 3, 10),
            "out": None,
        },
        ValueError,
        "expected statistics of 2 groups, got 4",
    ),
    (
        FORWARDS,
        "out",
        lambda g: {"activation": ("prelu", g["out"][0, :, 0])},
        ValueError,
        "expected memory apart from activation",
    ),
    (BACKWARDS, "y", lambda g: {"y": g["x"][:3]}, ValueError, r"expected .*\(4, 3, 5\), got \(3, 3, 5\)"),
    (BACKWARDS, "y", lambda g: {"y": g["x"].astype("f")}, TypeError, "expected .*float64, got float32"),
    (BACKWARDS, "out", lambda g: {"y": g["out"]}, ValueError, "expected memory apart from y"),
    (BACKWARDS, "residual_out", lambda g: {"residual_out": g["x"]}, ValueError, APART_X),
    (BACKWARDS, "residual_out", lambda g: {"residual_out": g["out"]}, ValueError, "expected memory apart from out"),
    (
        BACKWARDS,
        "residual_out",
        lambda g: {"residual_out": g["out"].tolist()},
        TypeError,
        "expected a NumPy array, got list",
    ),
    (BACKWARDS, "residual_out", lambda g: {"residual_out": np.ones((4, 3, 6))}, ValueError, "expected .*, got "),
    (BACKWARDS, "residual_out", lambda g: {"residual_out": read_only(g["x"])}, ValueError, "expected .*writeable"),
    (BACKWARDS, "x", lambda g: {"x": None}, TypeError, "expected an array.*, got None"),
    ((FROZEN,), "x", lambda g: {"x": None, "y": g["x"]}, TypeError, "expected an array, got None"),
    (
        (BACKWARD,),
        "y",
        lambda g: {"saved": of_forward(g, activation="relu", residual=g["dy"])},
        TypeError,
        "expected the forward's y .*residual=.*keep_sign.*, got None",
    ),
    (
        (BACKWARD,),
        "y",
        lambda g: {"saved": of_forward(g, activation=("prelu", np.ones(3)), residual=g["dy"], keep_sign=True)},
        TypeError,
        "expected the forward's y, or its residual .*, because dslope .*, got None",
    ),
    (
        (BACKWARD,),
        "activation",
        lambda g: {"saved": of_forward(g, activation=("prelu", np.array([0.1, -0.1, 0.1]))), "y": g["x"]},
        ValueError,
        "expected positive slopes.*, got -0.1 in channel 1",
    ),
    (
        (BACKWARD,),
        "x",
        lambda g: {"saved": of_forward(g, residual=g["dy"]), "x": None, "y": g["x"]},
        TypeError,
        "expected the forward's x, because .* after a residual, got None",
    ),
    (
        (BACKWARD,),
        "activation",
        lambda g: {"saved": of_forward(g, activation="relu"), "x": None, "y": g["x"]},
        ValueError,
        "expected slopes >= 0.001, .*, got 'relu'",
    ),
    (
        (BACKWARD,),
        "activation",
        lambda g: {"saved": of_forward(g, activation=("prelu", np.array([0.1, 1e-4, 0.1]))), "x": None, "y": g["x"]},
        ValueError,
        "expected slopes >= 0.001, .*, got 0.0001 in channel 1",
    ),
    (
        (BACKWARD,),
        "out",
        lambda g: {"x": None, "y": g["x"], "out": np.asfortranarray(g["out"])},
        ValueError,
        "expected y's memory order",
    ),
    ((DENORMALIZE,), "out", lambda g: {"out": np.asfortranarray(g["out"])}, ValueError, "expected y's memory order"),
    (
        (BACKWARD,),
        "residual",
        lambda g: {"residual": g["x"][:3]},
        ValueError,
        r"expected x's shape .*, got \(3, 3, 5\)",
    ),
    (
        (BACKWARD,),
        "residual_out",
        lambda g: dict.fromkeys(("residual", "residual_out"), np.ones(SHAPE)),
        ValueError,
        "expected memory apart from residual",
    ),
    (
        (BACKWARD,),
        "weight",
        lambda g: {"weight": np.array([1.0, 1e-4, 1.0]), "x": None, "y": g["x"]},
        ValueError,
        "expected absolute values >= 0.001, .*, got 0.0001 in channel 1",
    ),
]
