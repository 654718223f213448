"""ChannelScaler: scikit-learn's own checks, and what its StandardScaler gives."""

from __future__ import annotations

import copy
import io
import pickle
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import batchnorm as bn

sklearn = pytest.importorskip("sklearn", minversion="1.6", reason="needs the extra [sklearn]")

from sklearn import datasets  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

from batchnorm.sklearn import ChannelScaler  # noqa: E402

BUNDLED: dict[str, Callable[..., Any]] = {
    "iris": datasets.load_iris,
    "wine": datasets.load_wine,
    "breast_cancer": datasets.load_breast_cancer,
    "digits": datasets.load_digits,
    "diabetes": datasets.load_diabetes,
}
FLAGS = [{"with_mean": m, "with_std": s} for m in (True, False) for s in (True, False)]
FITTED = "mean_", "var_", "scale_", "n_samples_seen_"


@parametrize_with_checks([ChannelScaler(), ChannelScaler(with_mean=False), ChannelScaler(with_std=False, axis=-1)])
def test_estimator(estimator: Any, check: Callable[[Any], None]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the checks themselves
        check(estimator)


def assert_same_fit(ours: Any, theirs: Any, tolerance: float = 1e-12) -> None:
    for name in FITTED:
        a, b = getattr(ours, name), getattr(theirs, name)
        if b is None:
            assert a is None, name
        else:
            assert np.shape(a) == np.shape(b), name
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=name)
    assert ours.n_features_in_ == theirs.n_features_in_


@pytest.mark.parametrize("flags", FLAGS, ids=lambda f: "-".join(k for k, v in f.items() if v) or "neither")
@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_data(name: str, flags: dict[str, bool]) -> None:
    X = BUNDLED[name]().data
    ours, theirs = ChannelScaler(**flags).fit(X), StandardScaler(**flags).fit(X)
    assert_same_fit(ours, theirs)
    y = theirs.transform(X)
    np.testing.assert_allclose(ours.transform(X), y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ours.fit_transform(X), y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ours.inverse_transform(y), theirs.inverse_transform(y), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_data_with_weights_in_parts_and_missing_values(name: str) -> None:
    X = BUNDLED[name]().data.copy()
    rng = np.random.default_rng(0)
    weights = rng.integers(1, 4, len(X)).astype(np.float64)
    assert_same_fit(ChannelScaler().fit(X, None, weights), StandardScaler().fit(X, None, weights))

    X[rng.random(X.shape) < 0.1] = np.nan
    for given in (None, weights):
        ours, theirs = ChannelScaler().fit(X, None, given), StandardScaler().fit(X, None, given)
        assert_same_fit(ours, theirs)
        np.testing.assert_allclose(ours.transform(X), theirs.transform(X), rtol=1e-12, atol=1e-12)
        ours, theirs = ChannelScaler(), StandardScaler()
        for part in np.array_split(np.arange(len(X)), 5):
            for scaler in (ours, theirs):
                scaler.partial_fit(X[part], sample_weight=None if given is None else given[part])
            assert_same_fit(ours, theirs)


def test_parts_are_the_whole() -> None:
    X = datasets.load_wine().data
    whole, parts = ChannelScaler().fit(X), ChannelScaler()
    for part in np.array_split(X, 7):
        assert parts.partial_fit(part) is parts
    assert_same_fit(parts, whole, 1e-14)
    assert_same_fit(parts.fit(X[:20]), ChannelScaler().fit(X[:20]), 0)  # forgets
    assert parts.stats_ == bn.channel_stats(X[:20])


def test_weights_count_like_repetitions() -> None:
    rng = np.random.default_rng(1)
    X, counts = rng.standard_normal((30, 4)), rng.integers(0, 4, 30)
    weighted, repeated = ChannelScaler().fit(X, sample_weight=counts), ChannelScaler().fit(np.repeat(X, counts, 0))
    np.testing.assert_allclose(weighted.mean_, repeated.mean_, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(weighted.var_, repeated.var_, rtol=1e-13)
    assert weighted.n_samples_seen_ == repeated.n_samples_seen_
    assert isinstance(weighted.n_samples_seen_, np.floating) and isinstance(repeated.n_samples_seen_, np.integer)
    assert ChannelScaler().fit(X, sample_weight=2.0).n_samples_seen_ == 60
    weighted.partial_fit(X)
    assert isinstance(weighted.n_samples_seen_, np.floating) and weighted.n_samples_seen_ == counts.sum() + 30


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e8])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_features(dtype: Any, offset: float) -> None:
    rng = np.random.default_rng(2)
    X = np.full((200, 3), offset, dtype)
    X[:, 1] += rng.standard_normal(200).astype(dtype)
    X[:, 2] = (offset + 1) * (1 + 1e-16 * np.arange(200))  # as good as constant
    ours, theirs = ChannelScaler().fit(X), StandardScaler().fit(X)
    assert ours.var_[0] == 0 and ours.scale_[0] == 1 and (ours.transform(X)[:, 0] == 0).all()
    assert ((ours.scale_ == 1) == (theirs.scale_ == 1)).all()


def test_a_feature_of_nan_alone() -> None:
    X = np.array([[np.nan, 1.0], [np.nan, 2.0]])
    ours = ChannelScaler().fit(X)
    assert np.isnan(ours.mean_[0]) and np.isnan(ours.scale_[0]) and ours.n_samples_seen_.tolist() == [0, 2]
    assert np.isnan(ours.transform(X)[:, 0]).all() and ours.transform(X)[:, 1].tolist() == [-1.0, 1.0]
    ours.partial_fit([[3.0, 3.0]])
    assert ours.mean_.tolist() == [3.0, 2.0] and ours.n_samples_seen_.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("given", "made"),
    [
        (np.float16, np.float16),
        (np.float32, np.float32),
        (np.float64, np.float64),
        (">f4", np.float64),
        (np.uint8, np.float64),
        (np.int64, np.float64),
        (bool, np.float64),
        (object, np.float64),
    ],
    ids=str,
)
def test_dtypes(given: Any, made: Any) -> None:
    X = (datasets.load_digits().data[:100] > 3).astype(given)
    ours, theirs = ChannelScaler().fit(X), StandardScaler().fit(X.astype(np.float64))
    assert_same_fit(ours, theirs)
    before = X.copy()
    y = ours.transform(X)
    assert y.dtype == made and ours.inverse_transform(y).dtype == made
    assert np.array_equal(X, before)
    tolerance = {"float16": 2e-3, "float32": 1e-6, "float64": 1e-12}[y.dtype.name]
    np.testing.assert_allclose(y, theirs.transform(X.astype(np.float64)), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(ours.inverse_transform(y), X.astype(made), rtol=tolerance, atol=tolerance)


def test_a_large_offset_is_no_trouble_in_float32() -> None:
    X = np.random.default_rng(3).standard_normal((1000, 2)).astype(np.float32) + np.float32(1e4)
    y = ChannelScaler().fit_transform(X)
    want = (X.astype(np.float64) - X.mean(0, np.float64)) / X.std(0, np.float64)
    np.testing.assert_allclose(y, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_in_place(dtype: Any, order: Any) -> None:
    X = np.random.default_rng(4).standard_normal((20, 3)).astype(dtype, order=order)
    scaler = ChannelScaler(copy=False).fit(X)
    kept = X.copy()
    want = scaler.transform(X, copy=True)
    assert np.array_equal(X, kept)
    assert np.shares_memory(scaler.transform(X), X)
    assert np.array_equal(X, want)
    assert np.shares_memory(scaler.inverse_transform(X), X)
    np.testing.assert_allclose(X, kept, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("view", ["read-only", "reversed"])
def test_in_place_where_that_cannot_be(view: str) -> None:
    base = np.arange(12.0).reshape(4, 3)
    X = base[::-1] if view == "reversed" else base
    X.flags.writeable = view != "read-only"
    y = ChannelScaler(copy=False).fit_transform(X)
    assert not np.shares_memory(X, y)
    np.testing.assert_allclose(y, StandardScaler().fit_transform(X), rtol=1e-12)


@pytest.mark.parametrize(
    ("axis", "order"), [(1, (0, 1, 2, 3)), (-1, (0, 3, 1, 2)), (0, (1, 0, 2, 3)), (2, (0, 2, 1, 3))]
)
def test_more_dimensions(axis: int, order: tuple[int, ...]) -> None:
    X = np.random.default_rng(5).standard_normal((4, 5, 6, 7))
    X[0, 1, 2, 3] = np.nan
    weights = np.arange(1.0, 1 + X.shape[order[0]])
    features_second = X.transpose(order)
    table = np.moveaxis(features_second, 1, -1).reshape(-1, X.shape[axis])
    of_values = np.repeat(weights, len(table) // len(weights))
    for given, repeated in ((None, None), (weights, of_values)):
        ours = ChannelScaler(axis=axis).fit(X, sample_weight=given)
        theirs = StandardScaler().fit(table, sample_weight=repeated)
        assert_same_fit(ours, theirs)
        y = ours.transform(X)
        flat = np.moveaxis(y.transpose(order), 1, -1).reshape(table.shape)
        np.testing.assert_allclose(flat, theirs.transform(table), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(ours.inverse_transform(y), X, rtol=1e-12, atol=1e-12)
    assert ours.get_feature_names_out().tolist() == [f"x{i}" for i in range(X.shape[axis])]
    with pytest.raises(ValueError, match=f"X has {X.shape[axis] - 1} features, but ChannelScaler is expecting"):
        ours.transform(np.take(X, range(X.shape[axis] - 1), axis))
    with pytest.raises(ValueError, match=f"X: expected {X.shape[axis]} features along axis {axis % 4}, got"):
        ours.inverse_transform(np.take(X, range(X.shape[axis] - 1), axis))


@pytest.mark.parametrize("flags", [{"with_std": False}, {"with_mean": False}, {"with_mean": False, "with_std": False}])
def test_parameters_that_are_set_after_fit(flags: dict[str, bool]) -> None:
    """StandardScaler goes by what they are when it is called."""
    X = np.random.default_rng(0).normal(3, 2, (20, 4))
    ours, theirs = ChannelScaler().fit(X), StandardScaler().fit(X)
    ours.set_params(**flags), theirs.set_params(**flags)
    np.testing.assert_allclose(ours.transform(X), theirs.transform(X), rtol=1e-12)
    np.testing.assert_allclose(ours.inverse_transform(X), theirs.inverse_transform(X), rtol=1e-12)
    ours.set_params(with_std=1)
    with pytest.raises(TypeError, match="with_std: expected a bool"):
        ours.transform(X)


def test_in_a_pipeline() -> None:
    X, target = datasets.load_wine(return_X_y=True)
    ours, theirs = (
        make_pipeline(s, LogisticRegression(max_iter=500)).fit(X, target) for s in (ChannelScaler(), StandardScaler())
    )
    assert ours.score(X, target) == theirs.score(X, target) > 0.98
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-6)
    with sklearn.config_context(enable_metadata_routing=True):
        scaler = ChannelScaler().set_fit_request(sample_weight=True)
        final = LogisticRegression(max_iter=500).set_fit_request(sample_weight=False)
        weighted = make_pipeline(scaler, final).fit(X, target, sample_weight=np.arange(1.0, len(X) + 1))
    assert weighted[0].n_samples_seen_ == len(X) * (len(X) + 1) / 2


def test_names_and_pandas() -> None:
    pandas = pytest.importorskip("pandas", reason="needs pandas, which the extras don't bring")
    X = datasets.load_iris(as_frame=True).data
    scaler = ChannelScaler().set_output(transform="pandas").fit(X)
    assert scaler.feature_names_in_.tolist() == scaler.get_feature_names_out().tolist() == X.columns.tolist()
    y = scaler.transform(X)
    assert isinstance(y, pandas.DataFrame) and y.columns.equals(X.columns) and y.index.equals(X.index)
    assert isinstance(scaler.fit_transform(X), pandas.DataFrame)
    np.testing.assert_allclose(scaler.inverse_transform(y), X, rtol=1e-12)  # and no warning
    scaler.inverse_transform(y.to_numpy())
    with pytest.raises(ValueError, match="feature names should match"):
        scaler.transform(X.rename(columns={X.columns[0]: "other"}))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        scaler.transform(X.to_numpy())
    nullable = pandas.DataFrame({"a": pandas.array([1, 3, None], dtype="Int64")})
    assert ChannelScaler().fit(nullable).mean_.tolist() == [2.0]
    in_place = ChannelScaler(copy=False).fit(X)
    kept = X.copy()
    in_place.transform(X)
    assert X.equals(kept)  # a frame is no array


def test_a_clone_a_pickle_and_a_copy() -> None:
    X = datasets.load_iris().data
    scaler = ChannelScaler(with_std=False, axis=-1, copy=False).fit(X)
    fresh = clone(scaler)
    assert fresh.get_params() == {"copy": False, "with_mean": True, "with_std": False, "axis": -1}
    assert not hasattr(fresh, "mean_")
    again = pickle.loads(pickle.dumps(scaler))
    assert (again.mean_ == scaler.mean_).all() and again.stats_ == scaler.stats_
    joblib = pytest.importorskip("joblib", reason="comes with scikit-learn")
    file = io.BytesIO()
    joblib.dump(scaler, file)
    assert joblib.load(file).stats_ == scaler.stats_
    shallow = copy.copy(scaler).partial_fit(X)
    assert shallow.n_samples_seen_ == 2 * scaler.n_samples_seen_ == 2 * scaler.stats_.count[0]


def test_infinity() -> None:
    X = np.ones((50, 3), np.float32)
    scaler = ChannelScaler().fit(X + np.arange(50, dtype=np.float32)[:, None])
    state = dict(vars(scaler))
    for bad in (np.inf, -np.inf):
        wrong = X.copy()
        wrong[7, 1] = bad
        wrong[8, 1] = np.nan
        for call in (scaler.fit, scaler.partial_fit, scaler.transform, scaler.inverse_transform):
            with pytest.raises(ValueError, match="Input X contains infinity or a value too large for dtype"):
                call(wrong)
    both = X.copy()
    both[:2, 0] = np.inf, -np.inf
    in_place = ChannelScaler(copy=False).fit(X)
    with pytest.raises(ValueError, match="Input X contains infinity"):
        in_place.transform(both)
    assert (both[2:] == 1).all()
    assert all(vars(scaler)[name] is value for name, value in state.items())
    with sklearn.config_context(assume_finite=True):
        assert np.isinf(scaler.transform(wrong)[7, 1])
    weights = np.ones(50)
    weights[7] = 0  # what doesn't count isn't looked at
    assert ChannelScaler().fit(wrong, sample_weight=weights).n_samples_seen_.tolist() == [49, 48, 49]


def test_values_whose_sum_overflows_are_finite() -> None:
    X = np.array([[1e308, 1.0], [1.7e308, 2.0], [-1.7e308, 3.0]])
    ours = ChannelScaler(with_std=False).fit(X)
    assert ours.mean_[1] == 2
    assert np.isfinite(ours.transform(X)[:, 1]).all()
    assert ChannelScaler().fit(X).scale_[1] == np.sqrt(2 / 3)


def test_errors_leave_the_scaler_as_it_was() -> None:
    pandas = pytest.importorskip("pandas", reason="needs pandas, which the extras don't bring")
    X = datasets.load_iris(as_frame=True).data
    scaler = ChannelScaler().fit(X)
    state = dict(vars(scaler))
    other = pandas.DataFrame({"a": [1.0, np.inf]})
    for call, wrong in ((scaler.fit, other), (scaler.partial_fit, other.fillna(0)[:1]), (scaler.fit, [["a"]])):
        with pytest.raises(ValueError, match=r"infinity|feature names|could not convert"):
            call(wrong)
        assert vars(scaler).keys() == state.keys()
        assert all(vars(scaler)[name] is value for name, value in state.items())


@pytest.mark.parametrize(
    ("parameters", "X", "options", "error", "message"),
    [
        ({"axis": 2}, np.ones((2, 2)), {}, ValueError, r"axis: expected -2 .. 1 for shape \(2, 2\), got 2"),
        ({"axis": 1.0}, np.ones((2, 2)), {}, TypeError, "axis: expected an int, got float"),
        ({"with_mean": 1}, np.ones((2, 2)), {}, TypeError, "with_mean: expected"),
        ({"with_std": "yes"}, np.ones((2, 2)), {}, TypeError, "with_std: expected"),
        ({}, np.ones(2), {}, ValueError, "Expected 2D array, got 1D array instead"),
        ({}, np.ones((0, 2)), {}, ValueError, "0 sample"),
        ({}, np.ones((2, 0)), {}, ValueError, "0 feature"),
        ({}, np.ones((2, 2)) * 1j, {}, ValueError, "Complex data not supported"),
        ({}, np.ma.ones((2, 2)), {}, TypeError, "X: expected an array without a mask, got MaskedArray"),
        (
            {},
            np.ones((2, 2)),
            {"sample_weight": [1.0]},
            ValueError,
            r"sample_weight: expected shape \(2,\), got \(1,\)",
        ),
        (
            {},
            np.ones((2, 2)),
            {"sample_weight": [0, 0]},
            ValueError,
            "sample_weight: expected a weight that is not zero",
        ),
        ({}, np.ones((2, 2)), {"sample_weight": [1, -1]}, ValueError, "weights: expected"),
        ({}, np.ones((2, 2)), {"sample_weight": [1, np.nan]}, ValueError, "Input sample_weight contains NaN"),
    ],
)
def test_bad_arguments(
    parameters: dict[str, Any], X: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    for method in ("fit", "partial_fit"):
        with pytest.raises(error, match=message):
            getattr(ChannelScaler(**parameters), method)(X, **options)


def test_sparse_matrices_are_refused() -> None:
    sparse = pytest.importorskip("scipy.sparse", reason="comes with scikit-learn")
    X = sparse.csr_array(np.eye(3))
    scaler = ChannelScaler(with_mean=False)
    assert not scaler.__sklearn_tags__().input_tags.sparse
    with pytest.raises(TypeError, match="Sparse data was passed for X, but dense data is required"):
        scaler.fit(X)


def test_unfitted_and_bad_copy() -> None:
    for method in ("transform", "inverse_transform", "get_feature_names_out"):
        with pytest.raises(NotFittedError):
            getattr(ChannelScaler(), method)(*[[[1.0]]] * (method != "get_feature_names_out"))
    with pytest.raises(TypeError, match="copy: expected"):
        ChannelScaler().fit([[1.0]]).transform([[1.0]], copy=2)


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib
    import sys

    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.delitem(sys.modules, "batchnorm.sklearn")
    with pytest.raises(
        ImportError, match=re.escape("batchnorm.sklearn needs scikit-learn 1.6 or newer: pip install 'ba")
    ):
        importlib.import_module("batchnorm.sklearn")
