"""Statistics of a data set, applied to one request after another."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from .._channel_stats import ChannelStats
from .._checks import as_array
from .._float_types import FLOATS, any_of, floats_for
from .._forward import batch_norm_inference
from .._threads import context_num_threads
from ._normalizer_arguments import INTEGERS, as_scale, fold, mean_and_var, output
from ._normalizer_file import read_normalizer, write_normalizer
from ._normalizer_integers import to_integers
from ._result import DatasetStatistics

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from .._core import Float64Array, FloatArray
    from ._normalizer_arguments import Folded


class Normalizer:
    """Normalize arrays by the statistics of a data set: ``(x / scale - mean) / sqrt(var + eps)``.

    Parameters
    ----------
    stats : ChannelStats or DatasetStatistics, optional
        Statistics to normalize by, of C channels; the variance is the biased one.
    mean : array_like, shape (C,), optional
        Mean, in place of `stats`.
    std, var : array_like, shape (C,), optional
        Standard deviation or variance, one of them beside `mean`; not negative.
    scale : float, default 1.0
        What x is divided by first: 255 where x are bytes and the statistics are of values from 0 to 1.
    axis : int, default 1
        Channel axis of x: -1 for images of shape (H, W, C) or (N, H, W, C).
    eps : float, default 0.0
        Added to the variance; finite and >= 0.
    num_threads : int, optional
        Number of threads of each call; the setting if omitted. It is neither saved nor compared.

    Attributes
    ----------
    mean, var : ndarray, float64, shape (C,)
        Mean and variance, read-only.
    scale, axis, eps, num_threads
        As given.

    Raises
    ------
    TypeError
        An argument is of the wrong type.
    ValueError
        An argument has the wrong shape or value, or the statistics are of no values.

    Notes
    -----
    It cannot be changed, so threads may share one. Scale and statistics are folded when it is made, and a call is one
    sweep over x, see `batchnorm.batch_norm_inference`.

    Where ``var + eps`` is 0 the result is 0 for all finite x: a channel that was constant tells nothing. The inverse of
    what is finite is the mean there. What is not finite gives NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from batchnorm.datasets import Normalizer
    >>> normalize = Normalizer(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], scale=255, axis=-1)
    >>> image = np.full((2, 2, 3), 255, np.uint8)
    >>> y = normalize(image)
    >>> y.dtype.name, [round(v, 3) for v in y[0, 0].tolist()]
    ('float32', [2.249, 2.429, 2.64])
    >>> bool((normalize.inverse(y, dtype=np.uint8) == image).all())
    True
    """

    __slots__ = ("_axis", "_eps", "_folded", "_mean", "_num_threads", "_scale", "_var")
    _folded: Folded

    def __init__(
        self,
        stats: ChannelStats | DatasetStatistics | None = None,
        *,
        mean: ArrayLike | None = None,
        std: ArrayLike | None = None,
        var: ArrayLike | None = None,
        scale: float = 1.0,
        axis: int = 1,
        eps: float = 0.0,
        num_threads: int | None = None,
    ) -> None:
        self._mean, self._var = mean_and_var(stats, mean, std, var)
        self._scale = as_scale(scale)
        self._axis = _core.check_axis_int(axis)
        self._eps = _core.check_eps(eps)
        if num_threads is not None:
            _core.check_num_threads(num_threads)
        self._num_threads = num_threads
        self._folded = fold(self._mean, self._var, self._scale, self._eps)

    @property
    def mean(self) -> Float64Array:
        """Mean of each channel."""
        return self._mean

    @property
    def var(self) -> Float64Array:
        """Variance of each channel."""
        return self._var

    @property
    def scale(self) -> float:
        """What x is divided by first."""
        return self._scale

    @property
    def axis(self) -> int:
        """Channel axis of x."""
        return self._axis

    @property
    def eps(self) -> float:
        """What is added to the variance."""
        return self._eps

    @property
    def num_threads(self) -> int | None:
        """Number of threads of each call, or None."""
        return self._num_threads

    def __call__(self, x: ArrayLike, out: FloatArray | None = None, *, dtype: DTypeLike | None = None) -> FloatArray:
        """Normalize an array.

        Parameters
        ----------
        x : array_like, at least 2 dimensions
            Values, with C channels along `axis`; any strides. Of uint8, int8, uint16, int16, float16, bfloat16, float32
            or float64.
        out : ndarray, shape of x, optional
            Array to write y to; it is the very array returned. It may be `x` itself.
        dtype : float16, bfloat16, float32 or float64, optional
            Of y. If omitted that of `out`, else that of x, float32 for integers. float64 is for float64 x, and its only
            one.

        Returns
        -------
        ndarray, shape of x
            y, in x's memory order.

        Raises
        ------
        TypeError
            An argument is of the wrong type or dtype.
        ValueError
            An argument has the wrong shape, or `out` is of another dtype than `dtype`.

        Notes
        -----
        After an error nothing has been written. Where time counts give an `out`: fresh memory costs more than the
        arithmetic.

        Examples
        --------
        >>> import numpy as np
        >>> from batchnorm.datasets import Normalizer
        >>> normalize = Normalizer(mean=[1.0], std=[2.0])
        >>> normalize(np.array([[5]], np.uint8), dtype=np.float16)
        array([[2.]], dtype=float16)
        """
        if dtype is not None:
            x = as_array("x", x)
            out = output("x", x, out, dtype, floats_for(x.dtype))
        mean, var, _, _, _ = self._folded
        threads = context_num_threads() if self._num_threads is None else self._num_threads
        try:  # not by way of batch_norm_inference, whose share of a small call is 5 %
            return _core.batch_norm_inference(
                x, mean, var, None, None, 0.0, self._axis, out, threads, None, None, None, False
            )[0]
        except ValueError:
            self._check_channels("x", x)
            raise

    def inverse(self, y: ArrayLike, out: NDArray[Any] | None = None, *, dtype: DTypeLike | None = None) -> NDArray[Any]:
        """Undo the normalization.

        Parameters
        ----------
        y : array_like, float16, bfloat16, float32 or float64, at least 2 dimensions
            Normalized values, with C channels along `axis`; any strides.
        out : ndarray, shape of y, optional
            Array to write x to; it is the very array returned. It may be `y` itself.
        dtype : float16, bfloat16, float32, float64, uint8, int8, uint16 or int16, optional
            Of x. If omitted that of `out`, else that of y. Integers are rounded, halves to even, and clipped to the
            range of their type. float64 is for float64 y.

        Returns
        -------
        ndarray, shape of y
            x, in y's memory order.

        Raises
        ------
        TypeError
            An argument is of the wrong type or dtype.
        ValueError
            An argument has the wrong shape, `out` is of another dtype than `dtype` or overlaps y, or integers are asked
            for where a NaN would be: of NaN, or of infinity where the standard deviation is 0.

        Notes
        -----
        ``x = (y * sqrt(var + eps) + mean) * scale``. After an error nothing has been written.

        Examples
        --------
        >>> import numpy as np
        >>> from batchnorm.datasets import Normalizer
        >>> Normalizer(mean=[1.0], std=[2.0]).inverse(np.array([[0.8, 900.0]]).T, dtype=np.uint8).ravel().tolist()
        [3, 255]
        """
        array = as_array("y", y)
        if array.dtype.name not in FLOATS:
            raise TypeError(f"y: expected {any_of(FLOATS)}, got {array.dtype}")
        self._check_channels("y", array)
        if dtype is None:
            dtype = array.dtype if out is None else getattr(out, "dtype", array.dtype)
        out = output("y", array, out, dtype, (*floats_for(array.dtype), *INTEGERS))
        if out is not None and out.dtype.name in INTEGERS:
            return to_integers(array, out, self._axis, self._num_threads, self._undo)
        return self._undo(array, out)

    def _undo(self, y: NDArray[Any], out: FloatArray | None) -> FloatArray:
        mean, _, root, zero, one = self._folded
        return batch_norm_inference(
            y, zero, one, root, mean, eps=0.0, axis=self._axis, out=out, num_threads=self._num_threads
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file.

        Parameters
        ----------
        path : str or path-like
            File to write: JSON if its name ends in ``.json``, else a NumPy ``.npz``; nothing is appended to the name. A
            file that is there is replaced, at once and whole, and keeps its permissions; a pipe or a device is written
            to.

        Raises
        ------
        OSError
            The file cannot be written. One that was there is as it was.

        Notes
        -----
        The file has ``format``, ``version``, ``mean``, ``var``, ``scale``, ``axis`` and ``eps``. The numbers are kept
        exactly.

        Examples
        --------
        >>> import os, tempfile
        >>> from batchnorm.datasets import Normalizer
        >>> normalize = Normalizer(mean=[1.0], std=[2.0], scale=255)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     normalize.save(os.path.join(folder, "normalizer.json"))
        ...     Normalizer.load(os.path.join(folder, "normalizer.json")) == normalize
        True
        """
        write_normalizer(path, (self._mean, self._var, self._scale, self._axis, self._eps))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, num_threads: int | None = None) -> Normalizer:
        """Read one that `save` wrote.

        Parameters
        ----------
        path : str or path-like
            File to read.
        num_threads : int, optional
            Number of threads of each call, which is not in the file.

        Returns
        -------
        Normalizer

        Raises
        ------
        OSError
            The file cannot be opened.
        TypeError
            `num_threads` is not an int.
        ValueError
            The file is damaged, was not written by `save`, or by a newer version of it; or `num_threads` is not
            positive.

        Notes
        -----
        Nothing in the file is run: pickled objects are refused.

        Examples
        --------
        >>> import os, tempfile
        >>> from batchnorm.datasets import Normalizer
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Normalizer(mean=[1.0], std=[2.0]).save(os.path.join(folder, "normalizer.npz"))
        ...     Normalizer.load(os.path.join(folder, "normalizer.npz"))
        <Normalizer: 1 channels, mean=[1.], std=[2.], scale=1, axis=1, eps=0>
        """
        if num_threads is not None:
            _core.check_num_threads(num_threads)
        with open(path, "rb") as file:
            try:
                return cls(**read_normalizer(file), num_threads=num_threads)
            except Exception as error:  # a damaged archive raises nearly anything
                raise ValueError(f"{os.fsdecode(path)}: expected a Normalizer file, got {error}") from error

    def _check_channels(self, name: str, x: ArrayLike) -> None:
        """Say that x does not fit, where the core would say that the mean does not."""
        shape, axis, channels = np.shape(x), self._axis, len(self._mean)
        if len(shape) > 1 and -len(shape) <= axis < len(shape) and shape[axis] != channels:
            raise ValueError(
                f"{name}: expected {channels} channels along axis {axis}, got {shape[axis]} in shape {shape}"
            ) from None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Normalizer):
            return NotImplemented
        return self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self._content())

    def _content(self) -> tuple[Any, ...]:
        return tuple(self._mean.tolist()), tuple(self._var.tolist()), self._scale, self._axis, self._eps

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._mean, self._var, self._scale, self._axis, self._eps, self._num_threads)

    def __repr__(self) -> str:
        with np.printoptions(precision=4, threshold=8, edgeitems=2, linewidth=100):
            mean, std = str(self._mean), str(np.sqrt(self._var))
        return (
            f"<Normalizer: {len(self._mean)} channels, mean={mean}, std={std}, scale={self._scale:g}, "
            f"axis={self._axis}, eps={self._eps:g}>"
        )


def _restore(
    mean: Float64Array, var: Float64Array, scale: float, axis: int, eps: float, num_threads: int | None
) -> Normalizer:
    return Normalizer(mean=mean, var=var, scale=scale, axis=axis, eps=eps, num_threads=num_threads)
