"""Statistics and normalization of dask arrays: lazy, chunk by chunk, on any scheduler.

Needs dask: ``pip install 'batchnorm[dask]'``.

Examples
--------
>>> import dask.array as da
>>> from batchnorm.dask import channel_stats, normalize
>>> images = da.from_array(np.arange(96.0).reshape(8, 3, 2, 2), chunks=(2, 3, 2, 2))
>>> stats = channel_stats(images)  # nothing is computed yet
>>> stats.compute().mean.tolist()
[43.5, 47.5, 51.5]
>>> normalize(images, stats).std(axis=(0, 2, 3)).compute().round(12).tolist()
[1.0, 1.0, 1.0]
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ._blocks import axis_of, joined, normalized, parameters_of, result_dtype
from ._channel_stats import ChannelStats
from ._channel_stats import channel_stats as stats_of_array
from ._checks import as_int
from ._extras import needs

try:
    import dask
    import dask.array as da
    from dask.array.utils import meta_from_array
    from dask.delayed import Delayed
except ImportError as error:
    raise ImportError(needs("batchnorm.dask", "dask", "dask")) from error

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

__all__ = ["channel_stats", "normalize"]


def channel_stats(
    x: da.Array,
    *,
    axis: int | None = 1,
    nan_policy: Literal["propagate", "omit", "raise"] = "propagate",
    extremes: bool = False,
    num_threads: int = 1,
    split_every: int = 16,
) -> Delayed:
    """Return the statistics of each channel of a dask array, lazily.

    Parameters
    ----------
    x : dask array of NumPy arrays, at least 2 dimensions
        Values, with C channels along `axis`, of any dtype that `batchnorm.channel_stats` takes. It may be split along
        all axes, the channel axis too; chunks may be empty or of unknown sizes.
    axis : int or None, default 1
        Channel axis. None: all values are one channel.
    nan_policy : {"propagate", "omit", "raise"}, default "propagate"
        What becomes of NaN, see `batchnorm.channel_stats`.
    extremes : bool, default False
        Whether the statistics keep minimum and maximum, too.
    num_threads : int, default 1
        Number of threads of each task; dask runs a task per thread of a worker.
    split_every : int, default 16
        How many statistics are merged by one task, about; at least 2.

    Returns
    -------
    dask Delayed of a ChannelStats
        Nothing is computed before its ``compute()``, which returns a `batchnorm.ChannelStats` of C channels.

    Raises
    ------
    TypeError
        `x` is not a dask array or of the wrong dtype, or another argument is of the wrong type.
    ValueError
        `x` has fewer than 2 dimensions, or an argument is out of range.

    Notes
    -----
    Each chunk is one task, whose statistics are merged by the formula of Chan, Golub & LeVeque (1979) in a tree of a
    fixed order; those of ranges of channels are put side by side. The bits depend on the chunks, on `split_every` and
    on the instruction set, and not on the scheduler or the number of workers. A chunk that isn't contiguous is copied
    first. A NaN that ``nan_policy="raise"`` finds is a ValueError of ``compute()``, as are different numbers of
    channels in chunks that should have the same.

    Examples
    --------
    >>> import dask.array as da
    >>> from batchnorm.dask import channel_stats
    >>> channel_stats(da.ones((1000, 3), chunks=(100, 2))).compute().count.tolist()
    [1000, 1000, 1000]
    """
    empty = _empty_block(x)
    axis = axis_of(axis, x.shape)
    split_every = as_int("split_every", split_every, 2)
    options: dict[str, Any] = {"axis": axis, "num_threads": num_threads, "nan_policy": nan_policy, "extremes": extremes}
    stats_of_array(empty, **options)  # so that a wrong argument is an error here and not in a task
    reduced = tuple(i for i in range(x.ndim) if i != axis)
    # One ChannelStats in place of each chunk: their sum, which is dask's own tree, merges them.
    of_chunks = x.map_blocks(
        _cell,
        options,
        dtype=object,
        chunks=tuple((1,) * n for n in x.numblocks),
        meta=np.empty(empty.shape, object),
    )
    of_ranges = of_chunks.sum(axis=reduced, split_every=split_every)
    return dask.delayed(_joined, pure=True)(of_ranges)


def normalize(
    x: da.Array,
    stats: ChannelStats | Delayed,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    axis: int | None = 1,
    eps: float = 0.0,
    dtype: DTypeLike | None = None,
    num_threads: int = 1,
) -> da.Array:
    """Normalize each channel of a dask array by given statistics, lazily.

    Parameters
    ----------
    x : dask array of NumPy arrays, at least 2 dimensions
        Values, with C channels along `axis`, of any dtype that `batchnorm.batch_norm_inference` takes. Chunks may be
        empty, or of unknown sizes where the channel axis is in one chunk.
    stats : ChannelStats, or dask Delayed of one
        Statistics of C channels to normalize by, such as `channel_stats` returns.
    weight, bias : array_like, float32 or float64, shape (C,), optional
        Scale and shift of each channel, 1 and 0 if omitted.
    axis : int or None, default 1
        Channel axis. None: all values are one channel.
    eps : float, default 0.0
        Added to the variance; finite and >= 0.
    dtype : dtype, optional
        Of the result: x's if omitted, float32 for integers. It is float64 where x's is, else float16, bfloat16 or
        float32.
    num_threads : int, default 1
        Number of threads of each task; dask runs a task per thread of a worker.

    Returns
    -------
    dask array, shape and chunks of x
        Nothing is computed before its ``compute()``.

    Raises
    ------
    TypeError
        `x` is not a dask array or of the wrong dtype, or another argument is of the wrong type.
    ValueError
        An argument has the wrong shape or value, or sizes of several chunks along the channel axis are unknown. Where
        the number of channels isn't known yet, ``compute()`` raises it.

    Notes
    -----
    ``(x - mean) / sqrt(var + eps) * weight + bias`` with the biased variance of `stats`, each chunk in one sweep by
    `batchnorm.batch_norm_inference`. A channel whose ``var + eps`` is 0 becomes the bias, one without values NaN.

    Examples
    --------
    >>> import dask.array as da
    >>> from batchnorm.dask import channel_stats, normalize
    >>> x = da.from_array(np.array([[1.0, 5.0], [3.0, 9.0]]), chunks=1)
    >>> normalize(x, channel_stats(x)).compute().tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    """
    empty = _empty_block(x)
    axis = axis_of(axis, x.shape)
    if not isinstance(stats, (ChannelStats, Delayed)):
        raise TypeError(f"stats: expected a ChannelStats or a Delayed of one, got {type(stats).__name__}")
    for name, value in (("weight", weight), ("bias", bias)):
        if dask.is_dask_collection(value):  # it would be computed here
            raise TypeError(f"{name}: expected a NumPy array, got {type(value).__name__} (compute it first)")
    options: dict[str, Any] = {"axis": axis, "eps": eps, "num_threads": num_threads}
    options["dtype"] = result_dtype(dtype, x.dtype)
    nothing = np.zeros(1 if axis is None else 0)
    normalized(empty, nothing, nothing, None, None, **options)  # so that a wrong argument is an error here
    sizes = (1,) if axis is None else x.chunks[axis]
    channels = None if any(math.isnan(size) for size in sizes) else sum(sizes)
    if channels is None and len(sizes) > 1:
        raise ValueError(
            f"x: expected one chunk or known sizes of chunks along axis {axis}, got {len(sizes)} chunks of unknown"
            " sizes (x.compute_chunk_sizes() finds them)"
        )
    if isinstance(stats, ChannelStats):
        parameters_of(stats, weight, bias, channels)
    parameters = dask.delayed(parameters_of, pure=True)(stats, weight, bias, channels)
    starts = np.cumsum((0, *sizes[:-1])).tolist()
    return x.map_blocks(
        _normalized_range,
        parameters,
        starts,
        options,
        dtype=options["dtype"],
        meta=np.empty(empty.shape, options["dtype"]),
    )


def _empty_block(x: Any) -> np.ndarray[Any, Any]:
    """Return an array without values that is like the chunks of x."""
    if not isinstance(x, da.Array):
        hint = " (batchnorm.xarray takes one)" if type(x).__name__ == "DataArray" else ""
        raise TypeError(f"x: expected a dask array, got {type(x).__name__}{hint}")
    meta = meta_from_array(x)
    if not isinstance(meta, np.ndarray) or isinstance(meta, np.ma.MaskedArray):
        raise TypeError(f"x: expected a dask array of NumPy arrays, got one of {type(meta).__name__}")
    return np.empty((0,) * x.ndim, x.dtype)


def _cell(block: np.ndarray[Any, Any], options: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Return the statistics of a chunk as an array of one; the same bits wherever it comes from.

    Their bits may depend on the strides of the chunk. A view of an array loses its strides on its way to another
    process, a contiguous array of either order keeps them.
    """
    if not block.flags.forc:
        block = np.ascontiguousarray(block)
    cell = np.empty((1,) * block.ndim, object)
    cell[...] = stats_of_array(block, **options)
    return cell


def _joined(of_ranges: np.ndarray[Any, Any]) -> ChannelStats:
    return joined(np.atleast_1d(of_ranges).tolist())


def _normalized_range(
    block: np.ndarray[Any, Any],
    parameters: tuple[np.ndarray[Any, Any], ...],
    starts: list[int],
    options: dict[str, Any],
    block_id: tuple[int, ...],
) -> np.ndarray[Any, Any]:
    """Normalize a chunk by the parameters of its own channels."""
    axis = options["axis"]
    if axis is not None and len(starts) > 1:
        start = starts[block_id[axis]]
        stop = start + block.shape[axis]
        parameters = tuple(p if p is None else p[start:stop] for p in parameters)
    channels = 1 if axis is None else block.shape[axis]
    if len(parameters[0]) != channels:
        raise ValueError(f"stats: expected {channels} channels, as in x, got {len(parameters[0])}")
    return normalized(block, *parameters, **options)
