"""Statistics of data sets: sources that are broken, and arguments that are wrong."""

from __future__ import annotations

import sys
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchnorm.datasets import _items, statistics
from batchnorm.datasets._npy import NpyFile
from batchnorm.datasets._parts import Worker
from data_sets import assert_of, values


def test_truncated_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", values())
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"x\.npy: expected 3360 bytes of values, got 3359: the file is truncated"):
        statistics(tmp_path / "x.npy")
    (tmp_path / "y.npy").write_bytes(whole)
    result = statistics([tmp_path / "x.npy", tmp_path / "y.npy"], on_error="skip")
    assert result.items == 1 and result.count.tolist() == [6 * 7 * 4] * 5
    ((name, message),) = result.skipped
    assert name == str(tmp_path / "x.npy") and "truncated" in message


@pytest.mark.parametrize(("lost", "windows"), [(8, 3), (308, 2), (908, 0)])
def test_npy_that_shrinks_during_the_run(tmp_path: Path, long_items: None, lost: int, windows: int) -> None:
    """A part of it may have been counted, so it is not skipped, in whichever window of an item it ends."""
    path = tmp_path / "x.npy"
    np.save(path, values(shape=(3, 2, 200)))  # 4 items of 4 windows of 300 bytes
    opened = NpyFile(str(path), None)
    path.write_bytes(path.read_bytes()[:-lost])
    piece = next(opened.pieces(opened.items - 1))
    assert not piece.skippable
    with closing(Worker()) as worker:
        blocks = piece.blocks(worker)
        for _ in range(windows):
            assert next(blocks).array.nbytes == 300
        with pytest.raises(ValueError, match=r"expected 8 bytes more, got the end of the file"):
            next(blocks)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "EOF|magic"),
        (b"text, not an array", "magic"),
        (b"\x93NUMPY\x03\x00" + b"\0" * 20, r"expected version 1\.0 or 2\.0 of the \.npy format, got 3\.0"),
    ],
)
def test_foreign_npy(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        statistics(tmp_path / "x.npy")
    assert "x.npy: " in str(raised.value)


@pytest.mark.parametrize("shape", ["(-4, 1)", "(4, -1)", "(-4,-1)", "(True,1)"])
def test_npy_of_an_impossible_shape(tmp_path: Path, shape: str) -> None:
    np.save(tmp_path / "x.npy", np.zeros((4, 1)))
    content = (tmp_path / "x.npy").read_bytes()
    padded = b"(4, 1), }" + b" " * (len(shape) - 6)
    assert content.count(padded) == 1
    (tmp_path / "x.npy").write_bytes(content.replace(padded, shape.encode() + b", }"))
    with pytest.raises(ValueError, match=r"x\.npy: expected a shape of ints >= 0, got \("):
        statistics(tmp_path / "x.npy")


def test_objects_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[1, None]], object), allow_pickle=True)
    np.savez(tmp_path / "x.npz", x=np.array([[1, None]], object))
    for name in ("x.npy", "x.npz"):
        with pytest.raises(ValueError, match=rf"{name}.*: expected numbers, got Python objects"):
            statistics(tmp_path / name)


def test_a_dtype_without_statistics(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", values(np.int64))
    for on_error in ("raise", "skip"):  # it was read well
        with pytest.raises(TypeError, match=r"x\.npy: x: expected .*int64"):
            statistics(tmp_path / "x.npy", on_error=on_error)  # type: ignore[arg-type]


def test_npz_without_that_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=values(), b=values())
    for dataset in (None, "c"):
        with pytest.raises(ValueError, match=rf"x\.npz: dataset: expected one of 'a', 'b', got {dataset!r}"):
            statistics(tmp_path / "x.npz", dataset=dataset)


def test_npz_with_a_wrong_checksum(tmp_path: Path) -> None:
    x = np.full((200, 3, 40), 7, np.uint8)  # more than what zipfile reads with the header
    np.savez(tmp_path / "x.npz", x=x)
    content = (tmp_path / "x.npz").read_bytes()
    assert content.count(x.tobytes()) == 1
    (tmp_path / "x.npz").write_bytes(content.replace(x.tobytes(), b"\x08" + x.tobytes()[1:]))
    with pytest.raises(ValueError, match=r"x\.npz\[x\]: Bad CRC-32"):
        statistics(tmp_path / "x.npz")
    np.save(tmp_path / "y.npy", x)
    result = statistics([tmp_path / "x.npz", tmp_path / "y.npy"], on_error="skip")
    assert result.items == 1 and result.mean.tolist() == [7, 7, 7]
    assert [name for name, _ in result.skipped] == [f"{tmp_path / 'x.npz'}[x]"]


def test_a_zip_that_holds_no_array(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(ValueError, match="expected one of the arrays, of which there are none, got None"):
        statistics(tmp_path / "x.npz")


def test_broken_hdf5(tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="needs the extra [hdf5]")
    (tmp_path / "x.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(OSError, match=r"x\.h5"):
        statistics(tmp_path / "x.h5")
    assert [name for name, _ in statistics([tmp_path / "x.h5"], on_error="skip").skipped] == [str(tmp_path / "x.h5")]


def test_hdf5_is_open_in_workers_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many files there are, and whatever is wrong with the last of them."""
    h5py = pytest.importorskip("h5py", reason="needs the extra [hdf5]")
    paths = [tmp_path / f"{i}.h5" for i in range(8)]
    for path in paths:
        with h5py.File(path, "w") as file:
            file["x"] = X

    def number_open() -> int:
        return int(h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE))

    during: list[int] = []
    of_item = _items.Gatherer.of_item

    def counted(*arguments: Any) -> Any:
        outcome = of_item(*arguments)
        during.append(number_open())
        return outcome

    monkeypatch.setattr(_items.Gatherer, "of_item", counted)
    before = number_open()
    assert statistics(paths, workers=2).items == 8
    assert len(during) == 8 and before < max(during) <= before + 2 and number_open() == before
    with pytest.raises(ValueError, match="mode: expected None for a source without images"):
        statistics(paths, mode="RGB")
    with pytest.raises(FileNotFoundError, match=r"no\*\.h5"):
        statistics([*paths, tmp_path / "no*.h5"])
    assert number_open() == before


def test_hdf5_that_changes_during_the_run(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="needs the extra [hdf5]")
    from batchnorm.datasets._chunked import hdf5_array
    from batchnorm.datasets._parts import Worker

    for length in (4, 3):
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file["x"] = np.ones((length, 2))
        if length == 4:
            part = hdf5_array(str(tmp_path / "x.h5"), 1, None)
    with (
        closing(Worker()) as worker,
        pytest.raises(ValueError, match=r"expected shape \(4, 2\), as before, got \(3, 2"),
    ):
        list(next(part.pieces(0)).blocks(worker))


def test_hdf5_without_a_shape(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="needs the extra [hdf5]")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = h5py.Empty("f4")
        with pytest.raises(ValueError, match=r"source: expected an array, got an empty dataset, which has no shape"):
            statistics(file["x"])
    with pytest.raises(ValueError, match=r"x\.h5\[x\]: expected an array, got an empty dataset"):
        statistics(tmp_path / "x.h5")


def test_items_of_an_iterable_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"source\[1\]: expected 3 channels, as before, got 4"):
        statistics([np.zeros((2, 3)), np.zeros((2, 4))])
    with pytest.raises(ValueError, match=r"source\[1\]: x: expected at least 2 dimensions"):
        statistics([np.zeros((2, 3)), np.zeros(3)])
    with pytest.raises(TypeError, match=r"source\[0\]: x: expected"):
        statistics([np.zeros((2, 3), complex)])


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    for channels in (3, 4):
        np.save(tmp_path / f"{channels}.npy", np.zeros((2, channels)))
    for on_error in ("raise", "skip"):
        with pytest.raises(ValueError, match=r"[/\\]4\.npy: expected 3 channels, as before, got 4"):
            statistics([tmp_path / "3.npy", tmp_path / "4.npy"], on_error=on_error)  # type: ignore[arg-type]


@pytest.mark.parametrize("most_files", [1, 64])
def test_images_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_files: int) -> None:
    """In one item, and in several."""
    image = pytest.importorskip("PIL.Image", reason="needs the extra [datasets]")
    from batchnorm.datasets import _images

    monkeypatch.setattr(_images, "_MOST_FILES", most_files)
    for name, height in (("a", 3), ("b", 3), ("c", 4)):
        image.new("L", (2, height)).save(tmp_path / f"{name}.png")
    with pytest.raises(ValueError, match=r"[/\\]c\.png: expected 3 channels, as before, got 4"):
        statistics(tmp_path, axis=0)


X = np.zeros((4, 2), np.float32)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ((X, [0, 1]), r"got a tuple of 2 \(take its first element: \(batch\[0\] for batch in loader\)\)"),
        ([X], r"got a list of 1 \(take its first element"),
        ([[1.0, 2.0]], r"got a list of 1 \(numpy\.asarray makes an array\)"),
        ((), r"got a tuple of 0"),
        ({"image": X, "label": 1}, r"got a dict of 'image', 'label' \(take one of its values\)"),
        (Path("x.npy"), r"got a path \(paths are given as a list"),
        ("x.npy", r"got a path"),
        (None, r"x: expected .*object"),
    ],
    ids=repr,
)
def test_items_that_are_no_arrays(item: object, message: str) -> None:
    with pytest.raises(TypeError, match=rf"source\[1\]: .*{message}"):
        statistics(iter([X, item]))


def test_batches_of_a_data_loader() -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    from torch.utils.data import DataLoader, TensorDataset

    x = torch.arange(24.0).reshape(12, 2)
    for data in (TensorDataset(x), TensorDataset(x, torch.arange(12))):
        loader = DataLoader(data, batch_size=5)
        with pytest.raises(TypeError, match=r"source\[0\]: expected an array, got a list of \d \(take its first"):
            statistics(loader)
        assert_of(statistics(batch[0] for batch in loader), x.numpy(), 1, items=3)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_an_iterable_without_arrays(tmp_path: Path, checkpoint: bool) -> None:
    used = (x for x in [X])
    assert statistics(used).items == 1
    for source in (used, iter([]), {*()}):
        with pytest.raises(ValueError, match="source: expected an array at least, got an iterable without any"):
            statistics(source, checkpoint=tmp_path / "run" if checkpoint else None)


def test_containers_of_arrays_with_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=X, labels=X)
    with np.load(tmp_path / "x.npz") as archive:
        for source, told in ((archive, "NpzFile of 'images', 'labels'"), ({"a": X}, "dict of 'a'"), ({}, "of nothing")):
            with pytest.raises(TypeError, match=rf"source: expected an array or arrays, got .*{told} \(take one of"):
                statistics(source)
    h5py = pytest.importorskip("h5py", reason="needs the extra [hdf5]")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["images"] = X
        with pytest.raises(TypeError, match=r"source: .* got a File of 'images'"):
            statistics(file)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"axis": 1.5}, TypeError, "axis: expected an int"),
        ({"axis": "channels"}, TypeError, "axis: expected an int"),
        ({"axis": np.array([1, 2])}, TypeError, "axis: expected an int"),
        ({"workers": 0}, ValueError, "workers: expected an int >= 1, got 0"),
        ({"workers": True}, TypeError, "workers: expected an int, got bool"),
        ({"progress": 1}, TypeError, "progress: expected a bool"),
        ({"on_error": "ignore"}, ValueError, "on_error: expected 'raise' or 'skip'"),
        ({"mode": "CMYK"}, ValueError, "mode: expected 'grey' or 'RGB' or 'RGBA'"),
        ({"mode": "RGB"}, ValueError, "mode: expected None for a source without images, got 'RGB'"),
        ({"dataset": 1}, TypeError, "dataset: expected a str or None, got int"),
        ({"dataset": "x"}, ValueError, "dataset: expected None for a source without .npz, HDF5 or zarr, got 'x'"),
        ({"nan_policy": "drop"}, ValueError, "nan_policy: expected"),
        ({"extremes": 0}, TypeError, "extremes: expected a bool"),
        ({"axis": 4}, ValueError, "x.npy: axis: expected -4 .. 3 for shape"),
    ],
    ids=str,
)
def test_bad_options(tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str) -> None:
    np.save(tmp_path / "x.npy", values())
    with pytest.raises(error) as raised:
        statistics(tmp_path / "x.npy", **options)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (3, TypeError, "source: expected an array, a path, paths, .* got int"),
        ([], ValueError, "source: expected a path or an array at least, got an empty list"),
        (["x.npy", np.zeros((2, 2))], TypeError, "source: expected paths alone or arrays alone, got ndarray"),
        ("no/such.npy", FileNotFoundError, r"no/such\.npy"),
        ("no/such.png", FileNotFoundError, r"no/such\.png"),
        ("no/*.npy", FileNotFoundError, r"source: expected files that match 'no/\*\.npy', got none"),
        (np.zeros(3), ValueError, r"source\[0\]: x: expected at least 2 dimensions"),
        (np.ma.masked_array([[1.0]]), TypeError, "without a mask"),
    ],
    ids=repr,
)
def test_bad_sources(source: object, error: type[Exception], message: str) -> None:
    if "png" in str(source):
        pytest.importorskip("PIL", reason="needs the extra [datasets]")
    with pytest.raises(error, match=message):
        statistics(source)


def test_options_of_files_for_arrays() -> None:
    for name, value in (("mode", "RGB"), ("dataset", "x")):
        with pytest.raises(ValueError, match=f"{name}: expected None for arrays, got '{value}'"):
            statistics(np.zeros((2, 2)), **{name: value})  # type: ignore[arg-type]


def test_an_axis_that_an_npy_does_not_have(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"x\.npy: expected at least 2 dimensions, got shape \(3,\)"):
        statistics(tmp_path / "x.npy")


def test_a_dask_array_is_sent_elsewhere() -> None:
    dask = pytest.importorskip("dask.array", reason="needs the extra [dask]")
    with pytest.raises(TypeError, match=r"source: .* got a dask array"):
        statistics(dask.zeros((4, 3)))


@pytest.mark.parametrize(
    ("package", "name", "extra"), [("PIL", "x.png", "datasets"), ("h5py", "x.h5", "hdf5"), ("zarr", "x.zarr", "zarr")]
)
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_package_is_missing(
    monkeypatch: pytest.MonkeyPatch, package: str, name: str, extra: str, on_error: Any
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    told = {"PIL": "Pillow"}.get(package, package)
    with pytest.raises(ImportError, match=rf"needs {told}: pip install 'batchnorm\[{extra}\]'"):
        statistics(name, on_error=on_error)
