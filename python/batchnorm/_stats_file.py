"""The file that holds channel statistics."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from ._core import Float64Array, Int64Array

# count, mean, m2, and what the weights of the values add up to, if they have some
Moments: TypeAlias = "tuple[Int64Array, Float64Array, Float64Array, Float64Array | None]"

_FORMAT = "batchnorm.ChannelStats"
_VERSION, _VERSION_WITH_WEIGHTS = 1, 2


def write_stats(path: str | os.PathLike[str], moments: Moments | None) -> None:
    """Write a file that `read_stats` returns the same from; one that is there is replaced, at once and whole."""
    nothing = np.zeros(0)
    count, mean, m2, weights = (nothing.astype(np.int64), nothing, nothing, None) if moments is None else moments
    more: dict[str, Any] = {} if weights is None else {"sum_weights": weights}
    version = _VERSION_WITH_WEIGHTS if more else _VERSION
    channels = -1 if moments is None else len(count)
    target = os.path.realpath(os.fsdecode(path))  # through a symbolic link, to what it names
    temporary = os.path.join(os.path.dirname(target), f".batchnorm-{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            np.savez(file, format=_FORMAT, version=version, channels=channels, count=count, mean=mean, m2=m2, **more)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        if (
            isinstance(error, OSError) and error.errno is not None
        ):  # about the file that was asked for, not the temporary one
            raise OSError(error.errno, error.strerror, os.fsdecode(path)) from error
        raise


def read_stats(path: str | os.PathLike[str]) -> Moments | None:
    """Return what `write_stats` wrote; a ValueError tells of any other file."""
    with open(path, "rb") as file:
        try:
            return _read(file)
        except Exception as error:  # a damaged archive raises nearly anything
            raise ValueError(f"{os.fsdecode(path)}: expected a ChannelStats file, got {error}") from error


def _read(file: Any) -> Moments | None:
    """Return what `write_stats` wrote, None for empty statistics; any exception otherwise."""
    if file.read(4) != b"PK\x03\x04":
        raise ValueError("a file that is no .npz")
    file.seek(0)
    with np.load(file, allow_pickle=False) as archive:
        if "format" not in archive or np.asarray(archive["format"]).tolist() != _FORMAT:
            raise ValueError("another .npz file")
        version = _integer("version", archive["version"])
        if version not in (_VERSION, _VERSION_WITH_WEIGHTS):
            raise ValueError(
                f"version {version!r} (this batchnorm reads versions {_VERSION} and {_VERSION_WITH_WEIGHTS})"
            )
        channels = _integer("channels", archive["channels"])
        count = _of_dtype(archive["count"], np.dtype(np.int64))
        mean, m2 = (_of_dtype(archive[name], np.dtype(np.float64)) for name in ("mean", "m2"))
        weights = None
        if version == _VERSION_WITH_WEIGHTS:
            weights = _of_dtype(archive["sum_weights"], np.dtype(np.float64))
    measure = count if weights is None else weights  # what counts how much
    shapes = count.shape, measure.shape, mean.shape, m2.shape
    if channels < -1 or shapes != ((max(channels, 0),),) * 4:
        raise ValueError(f"shapes {shapes} for {channels} channels")
    # NaN and Inf in the data, and deviations whose squares overflow, leave NaN or Inf in m2, so no more can be said.
    deviates = (m2 != 0) & ~(np.isnan(m2) & ~np.isfinite(mean))
    for impossible, what in (
        (count < 0, "a negative count"),
        (m2 < 0, "a negative m2"),
        (~((measure >= 0) & np.isfinite(measure)), "a negative or infinite sum of weights"),
        ((measure > 0) & (count == 0), "weights of no values"),
        ((measure == 0) & ~np.isnan(mean), "a mean of no values"),
        ((measure == 0) & (m2 != 0), "an m2 of no values that is not 0"),
        ((count == 1) & deviates, "an m2 of one value that is not 0"),
    ):
        if impossible.any():
            raise ValueError(f"impossible numbers: {what} in channel {int(impossible.argmax())}")
    return None if channels < 0 else (count, mean, m2, weights)


def _integer(name: str, value: Any) -> int:
    array = np.asarray(value)
    if array.shape or array.dtype.kind not in "iu":
        raise ValueError(f"{name} of dtype {array.dtype} and shape {array.shape} in place of one int")
    return int(array)


def _of_dtype(value: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    array = np.asarray(value)
    if array.dtype.newbyteorder("=") != dtype:
        raise ValueError(f"an array of {array.dtype} in place of {dtype}")
    return array.astype(dtype)
