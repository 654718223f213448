"""Statistics of data sets: every source against the statistics of its values in one array."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchnorm import datasets
from batchnorm.datasets import _windows
from batchnorm.datasets._windows import items_of, whole, windows_of
from data_sets import SHAPE, SMALL, assert_of, values

statistics = partial(datasets.statistics, extremes=True)

AXES = [0, 1, 2, 3, -1, -4, None]


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", "|u1", ">i2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy(tmp_path: Path, small_windows: None, order: Any, dtype: str, axis: int | None) -> None:
    x = values(dtype)
    np.save(tmp_path / "x.npy", np.asarray(x, order=order))
    assert_of(statistics(tmp_path / "x.npy", axis=axis), x.astype(x.dtype.newbyteorder("=")), axis)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_in_items_of_some_windows(tmp_path: Path, long_items: None, order: Any, axis: int | None) -> None:
    x = values()
    np.save(tmp_path / "x.npy", np.asarray(x, order=order))
    assert_of(statistics(tmp_path / "x.npy", axis=axis), x, axis)


@pytest.mark.parametrize("shape", [(0, 3), (4, 0, 2), (3, 0), (1, 1)], ids=str)
def test_npy_of_few_values(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "x.npy", np.ones(shape))
    assert_of(statistics(tmp_path / "x.npy"), np.ones(shape), 1)


def test_npy_of_any_dimensions_as_one_channel(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.float64(2.0))
    assert statistics(tmp_path / "x.npy", axis=None).mean.tolist() == [2.0]


def test_npy_of_the_second_header_version(tmp_path: Path) -> None:
    with open(tmp_path / "x.npy", "wb") as file:
        np.lib.format.write_array(file, values(), version=(2, 0))
    assert_of(statistics(tmp_path / "x.npy"), values(), 1)


@pytest.mark.parametrize("axis", [0, 1, 2, None])
@pytest.mark.parametrize("shape", [(7, 3, 5), (2, 3, 500), (2, 300, 2), (3, 1, 1), (1000, 2, 1)], ids=str)
@pytest.mark.parametrize("fewest_items", [1, 10, 64])
def test_windows_tile_the_array(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], axis: int | None, fewest_items: int
) -> None:
    monkeypatch.setattr(_windows, "WINDOW", SMALL)
    monkeypatch.setattr(_windows, "_FEWEST_ITEMS", fewest_items)
    channel = np.zeros(shape, int)
    if axis is not None:
        channel = np.broadcast_to(np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(3)]), shape)
    items = items_of(whole(shape, axis), 8)
    end = 0
    for item in items:
        assert item.start == end
        for window in windows_of(item, 8):
            size = int(np.prod(window.shape))
            assert window.start == end and 0 < size * 8 <= SMALL
            of = channel.ravel()[end : end + size].reshape(window.shape)
            these = window.first + np.arange(window.shape[1])[:, None]
            np.testing.assert_array_equal(of, np.broadcast_to(these, of.shape))
            end += size
    assert end == np.prod(shape)
    with pytest.raises(IndexError):
        items[len(items)]


def test_items_are_longer_than_a_window_where_there_are_many() -> None:
    def windows_per_item(megabytes: int) -> set[int]:
        items = items_of(whole((megabytes * 2**12, 64), 1), 4)
        return {len(windows_of(item, 4)) for item in items}

    assert windows_per_item(64 * 8) == {1}
    assert windows_per_item(64 * 16) == {2}
    assert windows_per_item(6000) == {2, 4}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("axis", AXES)
def test_npz(tmp_path: Path, small_windows: None, save: Any, axis: int | None) -> None:
    save(tmp_path / "x.npz", a=values(), b=np.asfortranarray(values(np.uint8)))
    assert_of(statistics(tmp_path / "x.npz", dataset="a", axis=axis), values(), axis)
    assert_of(statistics(tmp_path / "x.npz", dataset="b", axis=axis), values(np.uint8), axis)


def test_npz_of_one_array_needs_no_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", values())
    assert_of(statistics(tmp_path / "x.npz"), values(), 1)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("chunks", [None, (4, 2, 3, 4), (1, 5, 7, 1)], ids=str)
def test_hdf5(tmp_path: Path, small_windows: None, chunks: Any, axis: int | None) -> None:
    h5py = pytest.importorskip("h5py", reason="needs the extra [hdf5]")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("group/x", data=values(">f4"), chunks=chunks)
        file["y"] = values()[:2]
    assert_of(statistics(tmp_path / "x.h5", dataset="group/x", axis=axis), values(), axis)
    with h5py.File(tmp_path / "x.h5") as file:
        assert_of(statistics(file["group/x"], axis=axis), values(), axis)
    with pytest.raises(ValueError, match=r"x\.h5: dataset: expected one of 'group/x', 'y', got 'group'"):
        statistics(tmp_path / "x.h5", dataset="group")


@pytest.mark.parametrize("axis", AXES)
def test_zarr(tmp_path: Path, small_windows: None, axis: int | None) -> None:
    zarr = pytest.importorskip("zarr", reason="needs the extra [zarr]")
    zarr.open_group(str(tmp_path / "x.zarr"), mode="w")
    for name, chunks in (("a", (4, 2, 3, 4)), ("b", (1, 5, 7, 1))):
        array = zarr.open_array(str(tmp_path / "x.zarr" / name), mode="w", shape=SHAPE, chunks=chunks, dtype="f4")
        array[:] = values()
        assert_of(statistics(tmp_path / "x.zarr", dataset=name, axis=axis), values(), axis)
        assert_of(statistics(tmp_path / "x.zarr" / name, axis=axis), values(), axis)
        assert_of(statistics(array, axis=axis), values(), axis)
    with pytest.raises(ValueError, match=r"x\.zarr: dataset: expected one of 'a', 'b', got None"):
        statistics(tmp_path / "x.zarr")


@pytest.mark.parametrize("axis", AXES)
def test_arrays(axis: int | None) -> None:
    x = values()
    assert_of(statistics(x, axis=axis), x, axis)
    parts = [x[:1], x[1:]] if axis != 0 and axis != -4 else [x[:, :1], x[:, 1:]]
    assert_of(statistics(parts, axis=axis), x, axis, items=2)
    assert_of(statistics(iter(parts), axis=axis), x, axis, items=2)


AMBIGUOUS = [(50, 32, 32, 3), (8, 8, 3), (5, 6, 7, 1), (0, 8, 8, 4)]


@pytest.mark.parametrize("dtype", ["|u1", "<u2", ">u2"])
@pytest.mark.parametrize("shape", AMBIGUOUS, ids=str)
def test_bytes_that_seem_to_have_their_channels_last_need_an_axis(
    tmp_path: Path, shape: tuple[int, ...], dtype: str
) -> None:
    x = np.ones(shape, dtype)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x)
    sources: list[Any] = [tmp_path / "x.npy", tmp_path / "x.npz"]
    if x.dtype.isnative:
        sources += [x, [x]]
    for source in sources:
        with pytest.raises(
            ValueError, match=rf"axis: expected an int for .*, got 'auto' \(axis=-1 .* {shape[-1]} .*, axis=1"
        ):
            statistics(source)
        for axis in (-1, 1):
            assert len(statistics(source, axis=axis).count) == shape[axis]


def test_hdf5_that_seems_to_have_its_channels_last(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="needs the extra [hdf5]")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = np.ones((5, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=r"x\.h5: axis: expected an int for uint8"):
        statistics(tmp_path / "x.h5")


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((50, 3, 32, 32), np.uint8),
        ((50, 3, 32, 3), np.uint8),
        ((50, 1, 3), np.uint16),
        ((50, 32, 32, 5), np.uint8),
        ((50, 3), np.uint8),
        ((2, 50, 32, 32, 3), np.uint8),
        ((50, 32, 32, 3), np.float32),
        ((50, 32, 32, 3), np.int16),
    ],
    ids=str,
)
def test_all_other_arrays_have_axis_1(shape: tuple[int, ...], dtype: Any) -> None:
    assert len(statistics(np.ones(shape, dtype)).count) == shape[1]


def test_files_of_several_kinds_and_patterns(tmp_path: Path) -> None:
    x = values()
    np.save(tmp_path / "b.npy", x[1:])
    np.savez(tmp_path / "c.npz", x[:1])
    (tmp_path / "d.npy").mkdir()  # no file
    assert_of(statistics([tmp_path / "b.npy", str(tmp_path / "c.npz")]), x, 1, items=2)
    assert_of(statistics(str(tmp_path / "*")), x, 1, items=2)
    assert_of(statistics(str(tmp_path / "**" / "?.np[yz]")), x, 1, items=2)
    (tmp_path / "d.npy").rmdir()
    np.save(tmp_path / "[a].npy", x)  # a file that is there is no pattern
    assert_of(statistics(tmp_path / "[a].npy"), x, 1)


def test_nan(tmp_path: Path) -> None:
    x = values()
    x[0, 1, 0, 0] = np.nan
    np.save(tmp_path / "x.npy", x)
    assert np.isnan(statistics(tmp_path / "x.npy").mean).tolist() == [False, True, False, False, False]
    omitted = statistics(tmp_path / "x.npy", nan_policy="omit")
    assert omitted.count.tolist() == [168, 167, 168, 168, 168] and np.isfinite(omitted.mean).all()
    with pytest.raises(ValueError, match=r"x\.npy: x: expected no NaN"):
        statistics(tmp_path / "x.npy", nan_policy="raise")


def test_without_extremes(tmp_path: Path, small_windows: None) -> None:
    np.save(tmp_path / "x.npy", values())
    for axis in (0, 3):
        result = datasets.statistics(tmp_path / "x.npy", axis=axis)
        assert result.min is None and result.max is None
        assert result.mean == pytest.approx(statistics(tmp_path / "x.npy", axis=axis).mean, rel=1e-15)
