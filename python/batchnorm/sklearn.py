"""A scaler for scikit-learn: its StandardScaler at the speed of memory, for any number of dimensions.

Needs the package ``scikit-learn``: ``pip install 'batchnorm[sklearn]'``.

Examples
--------
>>> import numpy as np
>>> from sklearn.linear_model import LinearRegression
>>> from sklearn.pipeline import make_pipeline
>>> from batchnorm.sklearn import ChannelScaler
>>> X, y = np.array([[0.0, 10.0], [1.0, 30.0], [2.0, 20.0]]), np.array([0.0, 1.0, 2.0])
>>> make_pipeline(ChannelScaler(), LinearRegression()).fit(X, y).predict(X).round(6).tolist()
[0.0, 1.0, 2.0]
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from ._channel_stats import ChannelStats, channel_stats
from ._checks import as_array
from ._extras import needs
from ._forward import batch_norm_inference, denormalize
from ._threads import context_num_threads

try:
    from sklearn import get_config
    from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
    from sklearn.utils import assert_all_finite, check_array
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(needs("batchnorm.sklearn", "scikit-learn 1.6 or newer", "sklearn")) from error

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from typing_extensions import Self

    from ._core import Float64Array, FloatArray

__all__ = ["ChannelScaler"]

_FLOATS: list[Any] = [np.float64, np.float32, np.float16]  # of what is none of these, scikit-learn makes the first
_FLOATS_AND_INTEGERS = [*_FLOATS, np.uint8, np.int8, np.uint16, np.int16]  # integers are summed as they are, exactly


class ChannelScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Standardize each feature by removing its mean and scaling it to unit variance.

    A drop-in for `sklearn.preprocessing.StandardScaler` on dense data, which also takes arrays of more dimensions.

    Parameters
    ----------
    copy : bool, default True
        Whether `transform` and `inverse_transform` leave their input alone. Otherwise an array of floats that can be
        written to is changed in place.
    with_mean : bool, default True
        Whether the mean is removed.
    with_std : bool, default True
        Whether values are divided by the standard deviation.
    axis : int, default 1
        Axis of the features, or channels: 1 for tables and for images of shape (N, C, H, W), -1 for (N, H, W, C).

    Attributes
    ----------
    mean_ : ndarray, float64, shape (n_features,), or None
        Mean of each feature; None if neither `with_mean` nor `with_std`.
    var_ : ndarray, float64, shape (n_features,), or None
        Biased variance of each feature; None without `with_std`.
    scale_ : ndarray, float64, shape (n_features,), or None
        What values are divided by, the square root of `var_`, or 1 where the feature is as good as constant; None
        without `with_std`.
    n_samples_seen_ : int or float, or ndarray of shape (n_features,)
        Number of values per feature that are not NaN; with weights, what their weights add up to. An array where
        features differ.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str, shape (n_features,)
        Names of the features, where X has names that are all strings.
    stats_ : ChannelStats
        The statistics themselves, which can be saved and merged.

    Notes
    -----
    Results are those of StandardScaler up to rounding: the statistics are those of `batchnorm.channel_stats`, right at
    any offset, and float32 is normalized in one sweep by float64 statistics. NaNs are missing values: disregarded in
    fit, and kept in transform. Infinities are refused where they count; ``sklearn.set_config(assume_finite=True)``
    spares the sweep that looks for them in transform.

    What differs: a sparse matrix is refused, and so is a negative weight; after an error the scaler is as it was.
    A feature is as good as constant where ``var <= n * e * var + (n * mean * e)**2`` with the machine's epsilon e of
    float64, the error bound of the two-pass variance (Chan, Golub & LeVeque 1983), which is scikit-learn's rule.

    References
    ----------
    T. F. Chan, G. H. Golub, R. J. LeVeque, Algorithms for computing the sample variance: analysis and recommendations,
    The American Statistician 37 (1983) 242-247.

    Examples
    --------
    >>> import numpy as np
    >>> from batchnorm.sklearn import ChannelScaler
    >>> scaler = ChannelScaler().fit([[0.0, 5.0], [2.0, 5.0]])
    >>> scaler.mean_.tolist(), scaler.scale_.tolist()
    ([1.0, 5.0], [1.0, 1.0])
    >>> scaler.transform([[3.0, 6.0]]).tolist()
    [[2.0, 1.0]]
    >>> images = np.arange(24, dtype=np.float32).reshape(2, 2, 2, 3)
    >>> ChannelScaler(axis=-1).fit(images).mean_.tolist()
    [10.5, 11.5, 12.5]
    """

    mean_: Float64Array | None
    var_: Float64Array | None
    scale_: Float64Array | None
    n_samples_seen_: Any
    n_features_in_: int
    stats_: ChannelStats

    def __init__(self, *, copy: bool = True, with_mean: bool = True, with_std: bool = True, axis: int = 1) -> None:
        self.copy = copy
        self.with_mean = with_mean
        self.with_std = with_std
        self.axis = axis

    def fit(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Take the statistics of X, and forget those from before.

        Parameters
        ----------
        X : array_like, at least 2 dimensions
            Values, n_features of them along `axis`.
        y : None
            Ignored.
        sample_weight : array_like, shape (n_samples,), or float, optional
            How much each sample counts, not negative. Samples lie along the first axis, or along the second where the
            first one is that of the features.

        Returns
        -------
        ChannelScaler
            This very object.

        Raises
        ------
        TypeError
            X is sparse or has a mask, or a parameter is of the wrong type.
        ValueError
            X has fewer than 2 dimensions, no samples or no features, or holds infinity or what is no number; or an
            argument has the wrong shape or value.

        Examples
        --------
        >>> from batchnorm.sklearn import ChannelScaler
        >>> ChannelScaler().fit([[0.0], [4.0]], sample_weight=[3.0, 1.0]).mean_.tolist()
        [1.0]
        """
        return self._learn(X, sample_weight, None)

    def partial_fit(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Add the statistics of X to those from before.

        Parameters
        ----------
        X : array_like, at least 2 dimensions
            Values, n_features of them along `axis`.
        y : None
            Ignored.
        sample_weight : array_like, shape (n_samples,), or float, optional
            As for `fit`. A sample without weight, before or after, weighs 1.

        Returns
        -------
        ChannelScaler
            This very object.

        Raises
        ------
        TypeError, ValueError
            As for `fit`, or X has other features than before.

        Examples
        --------
        >>> from batchnorm.sklearn import ChannelScaler
        >>> ChannelScaler().partial_fit([[0.0], [2.0]]).partial_fit([[4.0]]).mean_.tolist()
        [2.0]
        """
        return self._learn(X, sample_weight, getattr(self, "stats_", None))

    def transform(self, X: ArrayLike, copy: bool | None = None) -> FloatArray:
        """Remove the mean and divide by the scale.

        Parameters
        ----------
        X : array_like, at least 2 dimensions
            Values, n_features of them along `axis`.
        copy : bool, optional
            In place of the parameter `copy`.

        Returns
        -------
        ndarray, shape of X
            In the dtype of X, if that is float64, float32 or float16, else in float64; or what `set_output` tells.

        Raises
        ------
        NotFittedError
            The scaler was not fitted.
        TypeError, ValueError
            As for `fit`, or X has other features.

        Examples
        --------
        >>> from batchnorm.sklearn import ChannelScaler
        >>> ChannelScaler().fit([[0.0], [2.0]]).transform([[4.0]]).tolist()
        [[3.0]]
        """
        return self._apply(batch_norm_inference, X, copy, named=True)

    def inverse_transform(self, X: ArrayLike, copy: bool | None = None) -> FloatArray:
        """Multiply by the scale and add the mean.

        Parameters
        ----------
        X : array_like, at least 2 dimensions
            Normalized values, n_features of them along `axis`.
        copy : bool, optional
            In place of the parameter `copy`.

        Returns
        -------
        ndarray, shape of X
            In the dtype of X, if that is float64, float32 or float16, else in float64.

        Raises
        ------
        NotFittedError
            The scaler was not fitted.
        TypeError, ValueError
            As for `transform`.

        Examples
        --------
        >>> from batchnorm.sklearn import ChannelScaler
        >>> ChannelScaler().fit([[0.0], [2.0]]).inverse_transform([[3.0]]).tolist()
        [[4.0]]
        """
        return self._apply(denormalize, X, copy, named=False)

    def _learn(self, X: ArrayLike, sample_weight: ArrayLike | None, before: ChannelStats | None) -> Self:
        with_mean = _core.check_flag(self.with_mean, "with_mean")
        with_std = _core.check_flag(self.with_std, "with_std")
        array, axis = self._as_array(X, _FLOATS_AND_INTEGERS)
        weights = None if sample_weight is None else _as_weights(sample_weight, array, axis)
        batch = channel_stats(array, axis=axis, weights=weights, nan_policy="omit")
        _refuse_infinity(array, batch)
        self._check_features(X, array, axis, reset=before is None)
        stats = batch if before is None else before + batch  # a new one: a copy of this scaler may hold the old one

        weighted = weights is not None or (before is not None and np.asarray(self.n_samples_seen_).dtype.kind == "f")
        seen = stats.sum_weights if weighted else stats.count
        mean, var = stats.mean, stats.var()
        self.stats_ = stats
        self.n_samples_seen_ = seen[0] if (seen == seen[0]).all() else seen
        self.mean_ = mean.copy() if with_mean or with_std else None
        self.var_ = var if with_std else None
        self.scale_ = np.where(_as_good_as_constant(var, mean, seen), 1.0, np.sqrt(var)) if with_std else None
        return self

    def _apply(
        self, function: Callable[..., FloatArray], X: ArrayLike, copy: bool | None, *, named: bool
    ) -> FloatArray:
        """Put X, of which the features may be `named`, through a function of mean and variance, in one sweep."""
        check_is_fitted(self)
        copy = _core.check_flag(self.copy if copy is None else copy, "copy")
        array, axis = self._as_array(X, _FLOATS)
        if named:
            self._check_features(X, array, axis, reset=False)
        elif array.shape[axis] != self.n_features_in_:  # scikit-learn would warn of names that are missing
            raise ValueError(f"X: expected {self.n_features_in_} features along axis {axis}, got {array.shape[axis]}")
        if array.dtype.kind == "f" and not get_config()["assume_finite"]:
            least, greatest = _core.channel_extremes(array, axis, None, context_num_threads())
            if (least == -np.inf).any() or (greatest == np.inf).any():
                _refuse(array)
        in_place = isinstance(X, np.ndarray) and (
            not np.may_share_memory(X, array)  # it had to be converted
            or (not copy and array.flags.writeable and min(array.strides) > 0)
        )
        # As they are now: they may have been set since fit.
        mean = self.mean_ if _core.check_flag(self.with_mean, "with_mean") else None
        scale = self.scale_ if _core.check_flag(self.with_std, "with_std") else None
        return function(
            array,
            np.zeros(self.n_features_in_) if mean is None else mean,
            np.ones(self.n_features_in_) if scale is None else scale**2,  # whose root is the very scale
            eps=0.0,
            axis=axis,
            out=array if in_place else None,
        )

    def _as_array(self, X: ArrayLike, dtypes: list[Any]) -> tuple[NDArray[Any], int]:
        """Return X as an array of one of the dtypes, not scanned for what is not finite, and its axis of features."""
        if isinstance(X, np.ndarray):
            as_array("X", X)  # scikit-learn would lose a mask
        array = check_array(X, dtype=dtypes, ensure_all_finite=False, allow_nd=True, estimator=self, input_name="X")
        return array, _core.check_axis(self.axis, array.shape)

    def _check_features(self, X: ArrayLike, array: NDArray[Any], axis: int, *, reset: bool) -> None:
        """Compare number and names of the features with those in fit, or set them."""
        # Scikit-learn counts features along axis 1, and names are those of columns.
        validate_data(self, X if axis == 1 else np.moveaxis(array, axis, 1), reset=reset, skip_check_array=True)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32", "float16"]
        return tags


def _as_weights(value: Any, array: NDArray[Any], axis: int) -> NDArray[Any]:
    """Return weights of samples that broadcast against the values of a feature."""
    samples = array.shape[0 if axis else 1]
    if isinstance(value, Real):
        value = np.full(samples, value)
    weights: NDArray[Any] = check_array(value, dtype=_FLOATS[:2], ensure_2d=False, input_name="sample_weight")
    if weights.shape != (samples,):
        raise ValueError(f"sample_weight: expected shape ({samples},), got {weights.shape}")
    if not weights.any():
        raise ValueError("sample_weight: expected a weight that is not zero, got none")
    return weights.reshape(-1, *(1,) * (array.ndim - 2))


def _refuse_infinity(array: NDArray[Any], stats: ChannelStats) -> None:
    """Raise scikit-learn's error if there is infinity in the values that the statistics are of."""
    # Infinity leaves no finite mean, but neither does NaN, nor a sum that overflows.
    if not (np.isfinite(stats.mean) | (stats.count == 0)).all():
        _refuse(array)


def _refuse(array: NDArray[Any]) -> None:
    """Raise scikit-learn's error if there is infinity."""
    with np.errstate(invalid="ignore"):  # it adds infinities
        assert_all_finite(array, allow_nan=True, input_name="X")


def _as_good_as_constant(var: Float64Array, mean: Float64Array, count: NDArray[Any]) -> NDArray[np.bool_]:
    e = np.finfo(np.float64).eps
    with np.errstate(over="ignore", invalid="ignore"):
        constant: NDArray[np.bool_] = var <= count * e * var + (count * mean * e) ** 2
    return constant
