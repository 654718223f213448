"""The plot of the command ``python -m batchnorm stats``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rich", reason="needs the extra [datasets]")

from batchnorm.__main__ import main
from batchnorm.datasets import _plot, _sample, _windows
from data_sets import values


@pytest.mark.parametrize("shape", [(50, 3), (50, 20), (50, 1), (0, 2)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_plot(tmp_path: Path, shape: tuple[int, int], dtype: Any) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra [datasets]")
    np.save(tmp_path / "x.npy", values(dtype, shape))
    status = main(["stats", str(tmp_path / "x.npy"), "--plot", str(tmp_path / "x.png")])
    if shape[0] == 0:
        assert status == 1 and not (tmp_path / "x.png").exists()
    else:
        assert status == 0 and (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["x.foo", "x"])
def test_a_plot_in_no_format(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra [datasets]")
    assert main(["stats", "no.npy", "--plot", str(tmp_path / name)]) == 2  # before any file is looked for
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.match(rf"batchnorm stats: --plot: expected a name in .*\.png, .*, got .*{re.escape(name)}\n$", shown.err)


def test_a_plot_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra [datasets]")
    (tmp_path / "x.png").symlink_to(tmp_path / "no" / "x.png")
    np.save(tmp_path / "x.npy", values())
    assert main(["stats", str(tmp_path / "x.npy"), "--plot", str(tmp_path / "x.png")]) == 1
    shown = capsys.readouterr()
    assert "torchvision" in shown.out and re.match(r"batchnorm stats: .*x\.png'\n$", shown.err)


@pytest.mark.parametrize("file", ["x.npy", "x.npz"])
@pytest.mark.parametrize("fewest_items", [1, 1000])
def test_the_plot_has_every_channel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, fewest_items: int
) -> None:
    """Also where an item has one channel, and there are more of them than items."""
    monkeypatch.setattr(_windows, "WINDOW", 50)
    monkeypatch.setattr(_windows, "_FEWEST_ITEMS", fewest_items)
    x = np.repeat(np.arange(100, dtype=np.uint8)[:, np.newaxis], 120, axis=1)[np.newaxis]
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x)
    how: dict[str, Any] = {"axis": "auto", "mode": None, "dataset": None}
    some = _sample.sample([str(tmp_path / file)], 100, **how)
    assert [set(channel.tolist()) for channel in some] == [{c} for c in range(100)]
    monkeypatch.setattr(_sample, "_MOST_VALUES", 100)
    assert all(0 < channel.size < 10 for channel in _sample.sample([str(tmp_path / file)], 100, **how))


@pytest.mark.parametrize("axis", [1, 3, None])
def test_the_plot_of_chunks_has_every_channel(tmp_path: Path, small_windows: None, axis: int | None) -> None:
    h5py = pytest.importorskip("h5py", reason="needs the extra [hdf5]")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=values(), chunks=(1, 1, 7, 1))
    how: dict[str, Any] = {"axis": axis, "mode": None, "dataset": None}
    channels = 1 if axis is None else values().shape[axis]
    x = values().reshape(1, -1) if axis is None else np.moveaxis(values(), axis, 0)
    some = _sample.sample([str(tmp_path / "x.h5")], channels, **how)
    assert all(channel.size and np.isin(channel, x[c]).all() for c, channel in enumerate(some))


def test_the_plot_is_of_a_sample(tmp_path: Path, small_windows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    x = values(np.float64, (400, 3))
    x[5, 1] = np.inf
    np.save(tmp_path / "x.npy", x)
    how: dict[str, Any] = {"axis": "auto", "mode": None, "dataset": None}
    all_of_it = _sample.sample([str(tmp_path / "x.npy")], 3, **how)
    for channel, some in enumerate(all_of_it):
        np.testing.assert_array_equal(some, x[np.isfinite(x[:, channel]), channel])
    monkeypatch.setattr(_sample, "_MOST_ITEMS", 5)
    few = _sample.sample([str(tmp_path / "x.npy")], 3, **how)
    assert all(0 < some.size < 100 and np.isin(some, x[:, channel]).all() for channel, some in enumerate(few))


def test_bins() -> None:
    assert _plot.bin_edges([np.array([3, 5], np.uint8)]).tolist() == [2.5, 3.5, 4.5, 5.5]
    wide = _plot.bin_edges([np.array([0, 65535], np.uint16)])
    assert len(wide) == 257 and set(np.diff(wide)) == {256} and wide[-1] > 65535
    for constant in (_plot.bin_edges([np.array([2.0, 2.0])]), _plot.bin_edges([np.array([], np.uint8)])):
        assert (np.diff(constant) > 0).all()
