"""The derivative of the derivative."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from . import _core
from ._saved import X_IS_GONE, SavedStatistics
from ._threads import context_num_threads

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ._core import FloatArray


class SecondGradients(NamedTuple):
    """What `batch_norm_double_backward` returns.

    Attributes
    ----------
    ddy : ndarray, dtype and shape of x
        Gradient with respect to dy.
    dx : ndarray, dtype and shape of x
        Gradient with respect to x.
    dweight : ndarray, shape (C,)
        Gradient with respect to the weight.

    Examples
    --------
    >>> import numpy as np
    >>> import batchnorm as bn
    >>> x = np.array([[1.0], [3.0]])
    >>> second = bn.batch_norm_double_backward(x, None, None, x, x, bn.batch_norm_train(x)[1])
    >>> second.ddy.shape, second.dweight.shape
    ((2, 1), (1,))
    """

    ddy: FloatArray
    dx: FloatArray
    dweight: FloatArray


def batch_norm_double_backward(
    ddx: ArrayLike | None,
    ddweight: ArrayLike | None,
    ddbias: ArrayLike | None,
    dy: ArrayLike,
    x: ArrayLike,
    saved: SavedStatistics,
    weight: ArrayLike | None = None,
    *,
    training: bool = True,
    out: FloatArray | None = None,
    dx_out: FloatArray | None = None,
    num_threads: int | None = None,
    flush_subnormals: bool = False,
) -> SecondGradients:
    """Differentiate `batch_norm_backward`, as a penalty on gradients asks for.

    Parameters
    ----------
    ddx : array_like, shape of x, or None
        Gradient of the loss with respect to the backward's dx; None for 0.
    ddweight, ddbias : array_like, float32 or float64, shape (C,), or None
        Gradients of the loss with respect to dweight and dbias; None for 0.
    dy : array_like, shape of x
        The backward's.
    x : array_like, float16, bfloat16, float32 or float64, at least 2 dimensions
        The very x of the forward.
    saved : SavedStatistics
        What the forward returned; without an activation, a residual, a mask, groups or a renormalization.
    weight : array_like, float32 or float64, shape (C,), optional
        The forward's, if omitted, which `saved` keeps.
    training : bool, default True
        Whether mean and variance are functions of x. False is for `batch_norm_inference_backward`, with a
        `SavedStatistics` of the running statistics.
    out : ndarray, shape of x, optional
        Array to write ddy to. It may be `ddx` itself, otherwise it overlaps no argument.
    dx_out : ndarray, shape of x, optional
        Array to write dx to. It may be `dy` itself.
    num_threads : int, optional
        Number of threads for this call; the setting if omitted.
    flush_subnormals : bool, default False
        Whether numbers below the normal range are taken for 0, see `batch_norm_train`.

    Returns
    -------
    SecondGradients
        ddy, dx and dweight; the last in the weight's dtype, without a weight in float64 for float64 x, else in float32.

    Raises
    ------
    TypeError
        An argument is of the wrong type or dtype.
    ValueError
        An argument has the wrong shape or value, or the forward had more than a transform.

    Notes
    -----
    The gradients of ``sum(ddx * dx) + sum(ddweight * dweight) + sum(ddbias * dbias)``, for each channel over its m
    values, with ``scale = weight * rstd``::

        p = mean(ddx * xhat),  q = mean(dy * xhat)
        s = sum(ddx * dy) - m * (mean(ddx) * mean(dy) + p * q)
        h = (ddweight - scale * p) * dy - scale * q * ddx

        ddy     = scale * (ddx - mean(ddx) - xhat * p) + ddweight * xhat + ddbias
        dx      = rstd * (h - mean(h) - xhat * mean(h * xhat)) - scale * s * rstd * xhat / m
        dweight = rstd * s

    They follow from the backward of Ioffe & Szegedy (2015), section 3, by the chain rule through xhat and rstd. With
    given statistics ``ddy = scale * ddx + ddweight * xhat + ddbias``, ``dx = ddweight * rstd * dy`` and ``dweight =
    rstd * sum(ddx * dy)``. Two sweeps over three arrays.

    Examples
    --------
    >>> import numpy as np
    >>> import batchnorm as bn
    >>> x = np.array([[0.8], [1.2], [0.9], [1.1]])
    >>> dy = np.array([[1.0], [0.0], [0.0], [0.0]])
    >>> y, saved = bn.batch_norm_train(x)
    >>> second = bn.batch_norm_double_backward(None, np.ones(1), None, dy, x, saved)
    >>> second.ddy.round(3).ravel().tolist() == y.round(3).ravel().tolist()
    True
    """
    if not isinstance(saved, SavedStatistics):
        raise TypeError(f"saved: expected a SavedStatistics, got {type(saved).__name__}")
    state, count, _, axis, weight_dtype, in_place, *more = saved._fields
    if in_place:
        raise ValueError(X_IS_GONE)
    if any(field is not None and field is not False for field in more):
        raise ValueError(
            f"saved: expected a forward without activation, residual, mask, groups and renorm, got {saved!r}"
        )
    if weight is not None:
        weight_dtype = None
    elif weight_dtype is not None:
        weight = state[3]
    threads = context_num_threads() if num_threads is None else num_threads
    return SecondGradients(
        *_core.batch_norm_double_backward(
            ddx,
            ddweight,
            ddbias,
            dy,
            x,
            state[0],
            state[1],
            count,
            weight,
            weight_dtype,
            axis,
            training,
            out,
            dx_out,
            threads,
            flush_subnormals,
        )
    )
