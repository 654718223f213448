"""Checkpoints: a run that was killed goes on to the same bits, and nothing else is taken for its file."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
from batchnorm.datasets import _checkpoint, _items, _parts, statistics
from data_sets import assert_of, values

ITEMS = 12  # windows of values() along axis 0, as small_windows cuts it


class StopError(Exception):
    """What ends a run in the middle."""


def stop_after(monkeypatch: pytest.MonkeyPatch, n: int) -> list[int]:
    """Let the n-th item raise; returns what was begun."""
    begun: list[int] = []
    of_item = _items.Gatherer.of_item

    def counted(self: Any, part: Any, item: int, worker: Any) -> Any:
        begun.append(item)
        if item == n:
            raise StopError
        return of_item(self, part, item, worker)

    monkeypatch.setattr(_items.Gatherer, "of_item", counted)
    return begun


@pytest.fixture
def path(tmp_path: Path, small_windows: None) -> Path:
    np.save(tmp_path / "x.npy", values())
    return tmp_path / "x.npy"


def held(checkpoint: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(checkpoint.read_text())["state"]
    return state


@pytest.mark.parametrize("n", [0, 1, 7, ITEMS - 1])
def test_a_run_goes_on_where_it_ended(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    whole = statistics(path, axis=0)
    file = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, n)
        with pytest.raises(StopError):
            statistics(path, axis=0, checkpoint=file, workers=2)
    assert held(file)["done"] == n
    begun = stop_after(monkeypatch, -1)
    result = statistics(path, axis=0, checkpoint=file, workers=3)
    assert sorted(begun) == list(range(n, ITEMS))
    assert result.stats == whole.stats and result.items == whole.items == 1
    begun.clear()
    again = statistics(path, axis=0, checkpoint=file)
    assert begun == [] and again.stats == whole.stats
    assert [p.name for p in tmp_path.iterdir() if "tmp" in p.name] == []


@pytest.mark.parametrize("n", [1, 2])
def test_a_run_goes_on_between_items_of_some_windows(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long_items: None, n: int
) -> None:
    whole = statistics(path, axis=0, workers=1)
    with monkeypatch.context() as patch:
        stop_after(patch, n)
        with pytest.raises(StopError):
            statistics(path, axis=0, checkpoint=tmp_path / "run", workers=2)
    begun = stop_after(monkeypatch, -1)
    assert statistics(path, axis=0, checkpoint=tmp_path / "run", workers=3).stats == whole.stats
    assert sorted(begun) == list(range(n, ITEMS // 4))


def test_it_is_written_as_the_run_goes(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_checkpoint, "_PERIOD", 0.0)
    monkeypatch.setattr(_checkpoint, "_REST", 0)
    written: list[int] = []
    save = _checkpoint.Checkpoint.save

    def recording(self: Any, prefix: Any) -> None:
        save(self, prefix)
        written.append(held(tmp_path / "run")["done"])

    monkeypatch.setattr(_checkpoint.Checkpoint, "save", recording)
    statistics(path, axis=0, checkpoint=tmp_path / "run")
    assert written[: len(set(written))] == list(range(max(written) + 1))


@pytest.mark.parametrize(("takes", "rest"), [(0.01, 3.0), (2.0, 40.0)])
def test_the_longer_it_takes_the_rarer_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes: float, rest: float
) -> None:
    now, write_whole = 100.0, _checkpoint.write_whole

    def slow(*arguments: Any) -> None:
        nonlocal now
        now += takes
        write_whole(*arguments)

    monkeypatch.setattr(_checkpoint, "write_whole", slow)
    monkeypatch.setattr(_checkpoint.time, "monotonic", lambda: now)
    file = _checkpoint.Checkpoint(tmp_path / "run", [], {})
    file.save(_checkpoint.Prefix(bn.ChannelStats()))
    for wait, done in ((rest - 0.5, 0), (1.0, 2)):
        now += wait
        file.perhaps_save(_checkpoint.Prefix(bn.ChannelStats(), done=2))
        assert held(tmp_path / "run")["done"] == done


def test_a_file_that_has_changed(path: Path, tmp_path: Path) -> None:
    statistics(path, checkpoint=tmp_path / "run")
    before = (tmp_path / "run").read_bytes()
    np.save(path, values() + 1)
    os.utime(path, ns=(0, 0))
    with pytest.raises(ValueError, match=r"checkpoint: expected a run of this source in .*run'.*changed since"):
        statistics(path, checkpoint=tmp_path / "run")
    assert (tmp_path / "run").read_bytes() == before
    with pytest.raises(ValueError, match="checkpoint: expected a run of this source"):
        statistics([path, path], checkpoint=tmp_path / "run")


@pytest.mark.parametrize("options", [{"axis": 0}, {"nan_policy": "omit"}, {"extremes": True}, {"axis": None}], ids=str)
def test_other_options(path: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    statistics(path, checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match="checkpoint: expected a run with these options"):
        statistics(path, checkpoint=tmp_path / "run", **options)


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"", "another file"),
        (b"{", "another file"),
        (b"[]", "another file"),
        (b'{"format": "other"}', "another file"),
        (b"\xff\xfe", "."),
        (b'{"format": "batchnorm.datasets.checkpoint", "version": 9}', "version 9, where this batchnorm reads 2"),
    ],
)
def test_a_foreign_file(path: Path, tmp_path: Path, content: bytes, got: str) -> None:
    (tmp_path / "run").write_bytes(content)
    with pytest.raises(ValueError, match=rf"checkpoint: expected a checkpoint in .*run', got {got}"):
        statistics(path, checkpoint=tmp_path / "run")
    assert (tmp_path / "run").read_bytes() == content


def test_a_damaged_file(path: Path, tmp_path: Path) -> None:
    statistics(path, checkpoint=tmp_path / "run")
    text = (tmp_path / "run").read_text()
    digits = [i for i, c in enumerate(text) if c.isdigit() and text.index('"stats"') < i]
    for i in digits[:: len(digits) // 20]:
        (tmp_path / "run").write_text(text[:i] + str((int(text[i]) + 1) % 10) + text[i + 1 :])
        with pytest.raises(ValueError, match=r"expected a checkpoint in .*, got a(nother file| damaged one)"):
            statistics(path, checkpoint=tmp_path / "run")


def test_where_it_cannot_be_written(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = stop_after(monkeypatch, -1)
    with pytest.raises(FileNotFoundError, match="no/run"):
        statistics(path, checkpoint=tmp_path / "no" / "run")
    assert begun == []


def test_an_array_has_none() -> None:
    with pytest.raises(ValueError, match="checkpoint: expected files or an iterable as the source, got an array"):
        statistics(values(), checkpoint="run")


def test_an_open_array_has_none(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="needs the extra [hdf5]")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = values()
        with pytest.raises(ValueError, match="checkpoint: expected files"):
            statistics(file["x"], checkpoint=tmp_path / "run")


def test_hdf5_and_zarr(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="needs the extra [hdf5]")
    zarr = pytest.importorskip("zarr", reason="needs the extra [zarr]")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"], file["y"] = values(), values()
    zarr.save_array(str(tmp_path / "x.zarr"), values())
    for name, options in (("x.h5", {"dataset": "x"}), ("x.zarr", {})):
        for _ in range(2):
            assert_of(statistics(tmp_path / name, checkpoint=tmp_path / f"{name}.run", **options), values(), 1)
    with pytest.raises(ValueError, match="checkpoint: expected a run of this source"):
        statistics(tmp_path / "x.h5", checkpoint=tmp_path / "x.h5.run", dataset="y")


def test_an_iterable_goes_on(tmp_path: Path) -> None:
    batches = np.array_split(values(), 5)

    def until(n: int) -> Iterator[Any]:
        yield from batches[:n]
        raise StopError

    whole = statistics(batches)
    with pytest.raises(StopError):
        statistics(until(3), checkpoint=tmp_path / "run")
    assert held(tmp_path / "run")["done"] == 3
    result = statistics(iter(batches), checkpoint=tmp_path / "run")
    assert result.stats == whole.stats and result.items == 5


@pytest.mark.parametrize("change", ["value", "shape", "dtype", "order", "end"])
def test_another_iterable(tmp_path: Path, change: str) -> None:
    batches = np.array_split(values(), 3)
    statistics(batches, checkpoint=tmp_path / "run")
    others = [batch.copy() for batch in batches]
    if change == "value":
        others[1][0, 0, 0, 0] += 1
    elif change == "shape":
        others[1] = others[1].swapaxes(2, 3)
    elif change == "dtype":
        others[1] = others[1].astype(np.float64)
    elif change == "order":
        others.reverse()
    else:
        others.pop()
    with pytest.raises(ValueError, match="checkpoint: expected an iterable that starts with the same 3 arrays"):
        statistics(others, checkpoint=tmp_path / "run")


def test_skipped_files_are_kept(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", values())
    (tmp_path / "b.npy").write_text("text")
    files = [tmp_path / "a.npy", tmp_path / "b.npy"]
    first = statistics(files, checkpoint=tmp_path / "run", on_error="skip")
    again = statistics(files, checkpoint=tmp_path / "run", on_error="skip")
    assert first.skipped == again.skipped != () and first.stats == again.stats
    with pytest.raises(ValueError, match=r"b\.npy"):
        statistics(files, checkpoint=tmp_path / "run")


def test_an_error_keeps_the_checkpoint_and_skipping_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs the extra [datasets]")
    from batchnorm.datasets import _images

    monkeypatch.setattr(_images, "_MOST_FILES", 16)
    for i in range(40):
        image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(tmp_path / f"{i:02}.png")
    (tmp_path / "33.png").write_text("text")
    with pytest.raises(OSError, match=r"33\.png"):
        statistics(tmp_path, checkpoint=tmp_path / "run")
    assert held(tmp_path / "run")["items"] == 32
    result = statistics(tmp_path, checkpoint=tmp_path / "run", on_error="skip")
    assert result.items == 39 and result.stats == statistics(tmp_path, on_error="skip").stats
    with pytest.raises(ValueError, match=r"checkpoint: expected no skipped files with on_error='raise', got 1: .*33"):
        statistics(tmp_path, checkpoint=tmp_path / "run")


RUN = """
import sys, time
from batchnorm.datasets import _checkpoint, _images, _items, statistics
_checkpoint._PERIOD = _checkpoint._REST = 0
_images._MOST_FILES = 3
of_item = _items.Gatherer.of_item
def slow(self, *arguments):
    time.sleep(0.01)
    return of_item(self, *arguments)
_items.Gatherer.of_item = slow
print("started", flush=True)
statistics(sys.argv[1], checkpoint=sys.argv[2], workers=2)
"""


@pytest.mark.no_sanitizer
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_at_random_moments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs the extra [datasets]")
    from batchnorm.datasets import _images

    monkeypatch.setattr(_images, "_MOST_FILES", 3)
    rng, moments = np.random.default_rng(0), random.Random(0)
    (tmp_path / "images").mkdir()
    for i in range(150):
        image.fromarray(rng.integers(0, 256, (6, 7, 3), np.uint8)).save(tmp_path / "images" / f"{i:03}.png")
    whole = statistics(tmp_path / "images")
    run = tmp_path / "run"
    reached = [0]
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", RUN, str(tmp_path / "images"), str(run)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None and process.stdout.readline() == b"started\n"
            while process.poll() is None and not (run.exists() and held(run)["done"] > reached[-1]):
                time.sleep(0.005)
            time.sleep(moments.uniform(0, 0.1))
            process.kill()
        reached.append(held(run)["done"])
    assert reached == sorted(reached) and reached[-1] > 0
    result = statistics(tmp_path / "images", checkpoint=run)
    assert result.stats == whole.stats and result.items == 150
    assert bn.ChannelStats.from_json(json.dumps(held(run)["stats"])) == whole.stats


def test_a_worker_keeps_one_buffer() -> None:
    worker = _parts.Worker()
    first = worker.buffer(100)
    assert np.shares_memory(first, worker.buffer(50))
    assert worker.buffer(200).nbytes == 200


def test_interrupted_between_any_two_lines(tmp_path: Path) -> None:
    """Wherever Ctrl-C comes while an item is taken in, the file holds whole items, none of them twice."""
    batches = [np.full((2, 1), i, np.uint8) for i in range(6)]
    whole = statistics(batches)
    merging = {_checkpoint.Prefix.and_next.__code__, _parts.join.__code__, bn.ChannelStats.merge.__code__}
    run = statistics.__code__

    def interrupted_at(n: int) -> bool:
        lines = 0

        def trace(frame: Any, event: str, argument: Any) -> Any:
            nonlocal lines
            if event == "line" and "outcome" in frame.f_locals:
                lines += 1
                if lines == n:
                    raise KeyboardInterrupt
            return trace if frame.f_code in merging or frame.f_code is run else None

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            statistics(batches, checkpoint=tmp_path / "run")
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    n = 1
    while interrupted_at(n):
        result = statistics(batches, checkpoint=tmp_path / "run")
        assert result.stats == whole.stats and result.items == 6
        (tmp_path / "run").unlink()
        n += 1
    assert n > 10
