"""The compiled module: arrays are checked here, nothing is converted, and the GIL is released while computing.

Every argument is positional. ``None`` stands for "not given". The public functions in ``batchnorm`` document what
each argument means; this file only tells types.
"""

from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray: TypeAlias = NDArray[np.floating[Any]]
Float64Array: TypeAlias = NDArray[np.float64]
Int64Array: TypeAlias = NDArray[np.int64]
IntegerArray: TypeAlias = NDArray[np.integer[Any]]
Activation: TypeAlias = (
    Literal["relu"] | tuple[Literal["leaky_relu"], float] | tuple[Literal["prelu"], ArrayLike] | None
)
Signs: TypeAlias = tuple[NDArray[np.uint8], tuple[int, ...]] | None
BoolArray: TypeAlias = NDArray[np.bool_]
# Read-only: count, mean, m2, what the weights add up to, and the exact sums of integers and of their squares, modulo
# 2**64.
Stats: TypeAlias = tuple[
    Int64Array, Float64Array, Float64Array, Float64Array | None, Int64Array | None, Int64Array | None
]
Parts: TypeAlias = tuple[Float64Array, Int64Array]
SavedFields: TypeAlias = tuple[
    Float64Array,
    int | Int64Array,
    float,
    int,
    np.dtype[Any] | None,
    bool,
    Activation,
    bool,
    Signs,
    BoolArray | None,
    Float64Array | None,
    Parts | None,
]
_Choice = TypeVar("_Choice", bound=str)

__version__: str

def batch_norm_train(
    x: object,
    weight: object,
    bias: object,
    running_mean: object,
    running_var: object,
    momentum: object,
    momentum_of: object,
    unbiased: object,
    update_stats: object,
    on_single: object,
    eps: object,
    axis: object,
    out: object,
    num_threads: object,
    activation: object,
    residual: object,
    keep_sign: object,
    mask: object,
    groups: object,
    renorm: object,
    on_nonfinite: object,
    flush_subnormals: object,
    /,
) -> tuple[FloatArray, SavedFields]:
    """(y, fields).

    fields are (state, count, eps, axis, weight_dtype, in_place, activation, had_residual, signs, mask, factors, parts).
    state is read-only float64 with rows mean, rstd, var, then weight if given, then bias if given. count is the number
    of values per channel. eps and axis are the arguments as the plain numbers that were used. weight_dtype is None
    without a weight. in_place tells whether y overwrote x. activation is the argument with a read-only copy of slopes.
    signs are the bytes of the bits, and the strides in bits. mask is a read-only copy. factors are r and d of the
    parts, (parts, 2, C), None without a renorm. parts are mean, rstd and var of each, (parts, 3, C), and their counts,
    None if there is one.
    """

def batch_norm_inference(
    x: object,
    running_mean: object,
    running_var: object,
    weight: object,
    bias: object,
    eps: object,
    axis: object,
    out: object,
    num_threads: object,
    activation: object,
    residual: object,
    mask: object,
    flush_subnormals: object,
    /,
) -> tuple[FloatArray, bool]:
    """(y, in_place), as in batch_norm_train."""

def batch_norm_backward(
    dy: object,
    x: object,
    mean: Float64Array,
    rstd: Float64Array,
    count: int | Int64Array,
    weight: object,
    weight_dtype: np.dtype[Any] | None,
    bias: Float64Array | None,
    axis: int,
    out: object,
    num_threads: object,
    activation: Activation,
    had_residual: bool,
    signs: Signs,
    y: object,
    residual: object,
    residual_out: object,
    mask: BoolArray | None,
    factors: Float64Array | None,
    parts: Parts | None,
    flush_subnormals: object,
    /,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray | None, FloatArray | None]:
    """(dx, dweight, dbias, dresidual, dslope).

    dweight and dbias come in weight_dtype, else in weight's dtype, else in what x implies. x may be None, where y lets
    it be found.
    """

def batch_norm_inference_backward(
    dy: object,
    x: object,
    running_mean: object,
    running_var: object,
    weight: object,
    bias: object,
    eps: object,
    axis: object,
    out: object,
    num_threads: object,
    activation: object,
    residual: object,
    y: object,
    residual_out: object,
    mask: object,
    flush_subnormals: object,
    /,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray | None, FloatArray | None, FloatArray, FloatArray]:
    """(dx, dweight, dbias, dresidual, dslope, dmean, dvar).

    dmean and dvar come in the dtypes of running_mean and running_var.
    """

def batch_norm_double_backward(
    ddx: object,
    ddweight: object,
    ddbias: object,
    dy: object,
    x: object,
    mean: Float64Array,
    rstd: Float64Array,
    count: int | Int64Array,
    weight: object,
    weight_dtype: np.dtype[Any] | None,
    axis: int,
    training: object,
    out: object,
    dx_out: object,
    num_threads: object,
    flush_subnormals: object,
    /,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(ddy, dx, dweight)."""

def channel_stats(
    x: object, axis: object, num_threads: object, mask: object, weights: object, flush_subnormals: object, /
) -> Stats:
    """Statistics of an array, mean NaN where nothing counts. The mask tells the count alone where there are weights.
    Of integers without weights there are sums, unless they are too large to be kept.
    """

def channel_extremes(
    x: object, axis: object, mask: object, num_threads: object, /
) -> tuple[Float64Array, Float64Array]:
    """(least, greatest) value but for NaN; infinity and -infinity where nothing counts."""

def merge_stats(own: Stats, other: Stats, /) -> Stats:
    """The statistics of the values of both: weights on both sides or on none, sums where both have them and those of
    all can be kept. OverflowError if a count or a sum of weights overflows.
    """

def moments_of_sums(count: Int64Array, total: Int64Array, squares: Int64Array, /) -> tuple[Float64Array, Float64Array]:
    """(mean, m2) of integers with these sums: the mean rounded once where float64 holds the sum."""

def lent_bytes(schema: object, array: object, /) -> NDArray[np.uint8]:
    """What another package lends by the Arrow PyCapsule interface, read-only and not copied: uint8 as shape (n, 1),
    lists of four as (n, 4).
    """

def update_running_stats(
    running_mean: object,
    running_var: object,
    weights: Float64Array,
    mean: Float64Array,
    m2: Float64Array,
    momentum: object,
    momentum_of: object,
    unbiased: object,
    /,
) -> None: ...
def denormalize(
    y: object,
    mean: object,
    var: object,
    weight: object,
    bias: object,
    eps: object,
    axis: object,
    out: object,
    num_threads: object,
    flush_subnormals: object,
    /,
) -> FloatArray: ...
def set_num_threads(n: object, /) -> None:
    """n: a positive int, or None to go back to OpenMP's own default."""

def get_num_threads(n: object, /) -> int:
    """The threads a call with num_threads=n would use; n may be None."""

def check_num_threads(n: object, /) -> None:
    """TypeError or ValueError unless n is a positive int."""

def check_eps(eps: object, /) -> float:
    """eps as a float: TypeError unless it is a number, ValueError unless that is finite and >= 0."""

def check_momentum(momentum: object, /) -> float:
    """momentum as a float: TypeError unless it is a number, ValueError unless that is in 0 .. 1."""

def check_flag(value: object, name: str, /) -> bool:
    """value as a bool: TypeError unless it is one, of Python or of NumPy."""

def check_choice(value: object, name: str, choices: list[_Choice], /) -> _Choice:
    """value as one of the choices: TypeError unless it is a str, ValueError unless it is among them."""

def check_activation(activation: object, channels: int, /) -> Activation:
    """activation with a read-only copy of its slopes: TypeError or ValueError unless it is one."""

def check_renorm(renorm: object, /) -> tuple[float, float] | None:
    """(r_max, d_max) as floats, or None: TypeError unless one of the two, ValueError for r_max < 1 or d_max < 0."""

def check_axis_int(axis: object, /) -> int:
    """axis as an int, clipped to 64 bits: TypeError unless it is one; a bool is none."""

def check_axis(axis: object, shape: tuple[int, ...], /) -> int:
    """axis of an array of that shape, counted from 0: TypeError unless it is an int, ValueError if out of range."""

def config() -> dict[str, Any]:
    """Keys: version, compiler, isas_built, isas_found (lists), isa (used, or an error text), openmp, threads,
    keeps_memory, cache_bytes.
    """

def set_kept_bytes(most: int | None, /) -> None:
    """Keep so many bytes of freed outputs at most; None for the default."""

def get_kept_bytes() -> int:
    """What is kept now."""

def _set_stream_above(bytes: int | None, /) -> None: ...
def _set_group_bytes(bytes: int | None, /) -> None: ...
def _set_isa(name: str | None, /) -> None:
    """Force one instruction set for this process (tests only); None goes back to the choice at start."""

def _isas() -> list[str]:
    """The instruction sets that are built and that this CPU has, slowest first."""

def move_bytes(
    kind: str, stream: bool, a: FloatArray, b: FloatArray | None, out: FloatArray | None, num_threads: object, /
) -> float:
    """Only move bytes: kind is "read1" (a), "copy" (a -> out), "read2" (a, b) or "read2write1" (a, b -> out).

    The arrays are dense, of one dtype and size. stream asks for streaming stores. Returns a number that depends on what
    was read. This is the machine's limit that the benchmark compares with.
    """
