"""Statistics and normalization of xarray's DataArrays, with the channel axis given by its name.

Needs xarray: ``pip install 'batchnorm[xarray]'``; for DataArrays of dask arrays also the extra ``dask``.

Examples
--------
>>> import xarray as xr
>>> from batchnorm.xarray import channel_stats, normalize
>>> scene = xr.DataArray(np.arange(8.0).reshape(2, 2, 2), dims=("y", "x", "band"), coords={"band": ["red", "nir"]})
>>> stats = channel_stats(scene, axis="band")
>>> stats.mean.tolist()
[3.0, 4.0]
>>> normalize(scene, stats, axis="band").sel(band="nir").values.round(3).tolist()
[[-1.342, -0.447], [0.447, 1.342]]
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ._blocks import axis_of, normalized, parameters_of, result_dtype
from ._channel_stats import channel_stats as stats_of_array
from ._extras import needs

try:
    import xarray as xr
except ImportError as error:
    raise ImportError(needs("batchnorm.xarray", "xarray", "xarray")) from error

if TYPE_CHECKING:
    from dask.delayed import Delayed
    from numpy.typing import ArrayLike, DTypeLike

    from ._channel_stats import ChannelStats

__all__ = ["channel_stats", "normalize"]


def channel_stats(
    x: xr.DataArray,
    *,
    axis: Hashable,
    nan_policy: Literal["propagate", "omit", "raise"] = "propagate",
    extremes: bool = False,
    num_threads: int | None = None,
    split_every: int = 16,
) -> ChannelStats | Delayed:
    """Return the statistics of each channel of a DataArray.

    Parameters
    ----------
    x : DataArray of a NumPy or a dask array
        Values, with C channels along `axis`, of any dtype that `batchnorm.channel_stats` takes.
    axis : hashable, int or None
        Name of the channel dimension, the one that is kept; or its position. None: all values are one channel.
    nan_policy : {"propagate", "omit", "raise"}, default "propagate"
        What becomes of NaN, see `batchnorm.channel_stats`.
    extremes : bool, default False
        Whether the statistics keep minimum and maximum, too.
    num_threads : int, optional
        Number of threads; if omitted, the setting for a NumPy array, and 1 for each task of a dask array.
    split_every : int, default 16
        As for `batchnorm.dask.channel_stats`.

    Returns
    -------
    ChannelStats, or dask Delayed of one
        Of a dask array lazily, as by `batchnorm.dask.channel_stats`.

    Raises
    ------
    TypeError
        `x` is not a DataArray of a NumPy or a dask array, or an argument is of the wrong type or dtype.
    ValueError
        There is no dimension `axis`, or another argument has the wrong value.

    Notes
    -----
    A DataArray that was opened from a file without ``chunks=`` is loaded.

    Examples
    --------
    >>> import xarray as xr
    >>> from batchnorm.xarray import channel_stats
    >>> channel_stats(xr.DataArray([[1.0, 2.0], [3.0, 6.0]], dims=("time", "sensor")), axis="sensor").mean.tolist()
    [2.0, 4.0]
    """
    along, data = _position(x, axis), _array(x)
    options: dict[str, Any] = {"axis": along, "nan_policy": nan_policy, "extremes": extremes}
    if x.chunks is not None:
        from . import dask as lazily

        threads = 1 if num_threads is None else num_threads
        return lazily.channel_stats(data, num_threads=threads, split_every=split_every, **options)
    return stats_of_array(data, num_threads=num_threads, **options)


def normalize(
    x: xr.DataArray,
    stats: ChannelStats | Delayed,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    axis: Hashable,
    eps: float = 0.0,
    dtype: DTypeLike | None = None,
    num_threads: int | None = None,
) -> xr.DataArray:
    """Normalize each channel of a DataArray by given statistics.

    Parameters
    ----------
    x : DataArray of a NumPy or a dask array
        Values, with C channels along `axis`, of any dtype that `batchnorm.batch_norm_inference` takes.
    stats : ChannelStats; or for a dask array dask Delayed of one
        Statistics of C channels to normalize by.
    weight, bias : array_like, float32 or float64, shape (C,), optional
        Scale and shift of each channel, 1 and 0 if omitted.
    axis : hashable, int or None
        Name of the channel dimension, or its position. None: all values are one channel.
    eps : float, default 0.0
        Added to the variance; finite and >= 0.
    dtype : dtype, optional
        Of the result, as for `batchnorm.dask.normalize`.
    num_threads : int, optional
        Number of threads; if omitted, the setting for a NumPy array, and 1 for each task of a dask array.

    Returns
    -------
    DataArray
        With x's name, dimensions, coordinates and attributes, but not its encoding, which is about the values in the
        file that x was read from. Of a dask array lazily, as by `batchnorm.dask.normalize`.

    Raises
    ------
    TypeError
        `x` is not a DataArray of a NumPy or a dask array, or an argument is of the wrong type or dtype.
    ValueError
        There is no dimension `axis`, or another argument has the wrong shape or value.

    Examples
    --------
    >>> import xarray as xr
    >>> from batchnorm.xarray import channel_stats, normalize
    >>> x = xr.DataArray([[1.0, 5.0], [3.0, 9.0]], dims=("time", "sensor"), name="level", attrs={"units": "m"})
    >>> y = normalize(x, channel_stats(x, axis="sensor"), axis="sensor")
    >>> y.values.tolist(), y.name, y.attrs
    ([[-1.0, -1.0], [1.0, 1.0]], 'level', {'units': 'm'})
    """
    along, data = _position(x, axis), _array(x)
    options: dict[str, Any] = {"axis": along, "eps": eps}
    y: Any
    if x.chunks is not None:
        from . import dask as lazily

        threads = 1 if num_threads is None else num_threads
        y = lazily.normalize(data, stats, weight, bias, dtype=dtype, num_threads=threads, **options)
    else:
        parameters = parameters_of(stats, weight, bias, 1 if along is None else data.shape[along])
        y = normalized(data, *parameters, dtype=result_dtype(dtype, data.dtype), num_threads=num_threads, **options)
    result = x.copy(deep=False, data=y)
    result.encoding = {}
    return result


def _position(x: Any, axis: Hashable) -> int | None:
    """Return where the dimension of that name is."""
    if not isinstance(x, xr.DataArray):
        raise TypeError(f"x: expected a DataArray, got {type(x).__name__}")
    if axis is None:
        return None
    if axis in x.dims:
        return int(x.dims.index(axis))
    if isinstance(axis, str):
        raise ValueError(f"axis: expected one of {x.dims}, got {axis!r}")
    return axis_of(axis, x.shape)


def _array(x: xr.DataArray) -> Any:
    data = x.data
    if x.chunks is None and not isinstance(data, np.ndarray):
        raise TypeError(f"x: expected a DataArray of a NumPy or a dask array, got one of {type(data).__name__}")
    return data
