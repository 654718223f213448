"""The command ``python -m batchnorm stats``."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rich", reason="needs the extra [datasets]")

import batchnorm as bn
from batchnorm.__main__ import main
from batchnorm.datasets import _progress
from batchnorm.datasets._command_words import in_words_of_the_command
from data_sets import values
from processes import TIMEOUT, run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    image = pytest.importorskip("PIL.Image", reason="needs the extra [datasets]")
    rng = np.random.default_rng(0)
    for i in range(3):
        image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(tmp_path / f"{i}.png")
    return tmp_path


def numbers(text: str, name: str) -> list[float]:
    match = re.search(rf"{name}=\[(.*?)\]", text)
    assert match
    return [float(n) for n in match[1].split(", ")]


def test_the_table(photos: Path) -> None:
    done = run("-m", "batchnorm", "stats", str(photos), "--scale", "255")
    assert (done.returncode, done.stderr) == (0, "")
    pixels = np.stack([np.asarray(pytest.importorskip("PIL.Image").open(photos / f"{i}.png")) for i in range(3)]) / 255
    lines = done.stdout.splitlines()
    assert lines[0].strip() == "3 items, values divided by 255"
    header = lines[2].split()
    assert header == ["channel", "count", "mean", "std", "min", "max"]
    rows = [line.split() for line in lines[4:7]]
    for channel, row in enumerate(rows):
        of = pixels[..., channel]
        assert row[:2] == [str(channel), "1,800"]
        assert [float(n) for n in row[2:]] == pytest.approx([of.mean(), of.std(), of.min(), of.max()], rel=1e-5)
    assert "torchvision  transforms.Normalize(mean=[" in done.stdout
    assert "Keras        keras.layers.Normalization(axis=-1, mean=[" in done.stdout
    torchvision, keras = lines[-2], lines[-1]
    for line in (torchvision, keras):
        assert numbers(line, "mean") == pytest.approx(pixels.mean((0, 1, 2)), rel=1e-5)
    assert numbers(torchvision, "std") == pytest.approx(pixels.std((0, 1, 2)), rel=1e-5)
    assert numbers(keras, "variance") == pytest.approx(pixels.var((0, 1, 2)), rel=1e-5)


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = values()
    x[0, 2] = np.nan
    np.save(tmp_path / "x.npy", x)
    assert main(["stats", str(tmp_path / "x.npy"), "--json", "--scale", "2"]) == 0
    report = json.loads(capsys.readouterr().out)
    stats = bn.channel_stats(x, extremes=True)
    assert report["count"] == stats.count.tolist() and report["items"] == 1 and report["scale"] == 2
    for name, want in (("mean", stats.mean), ("std", stats.std()), ("min", stats.min), ("max", stats.max)):
        assert report[name][2] is None
        assert [n for n in report[name] if n is not None] == pytest.approx(np.delete(want, 2) / 2, rel=1e-12)
    assert "float('nan')" in report["torchvision"]
    assert report["keras"].startswith("keras.layers.Normalization(axis=-1, mean=[")


@pytest.mark.parametrize(
    ("arguments", "channels"),
    [(["--axis", "-1"], 4), (["--axis", "0"], 6), (["--axis", "none"], 1), (["--nan-policy", "omit"], 5), ([], 5)],
    ids=str,
)
def test_options_that_are_passed_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], channels: int
) -> None:
    np.savez(tmp_path / "x.npz", a=values(), b=values())
    checkpoint = ["--checkpoint", str(tmp_path / "run"), "--workers", "2"]
    assert main(["stats", str(tmp_path / "x.npz"), "--dataset", "b", "--json", *arguments, *checkpoint]) == 0
    assert len(json.loads(capsys.readouterr().out)["count"]) == channels
    assert (tmp_path / "run").exists()


def test_mode_and_skipped_files(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "1.png").write_text("text")
    assert main(["stats", str(photos), "--mode", "grey"]) == 1
    assert re.match(r"batchnorm stats: .*1\.png", capsys.readouterr().err)
    assert main(["stats", str(photos), "--mode", "grey", "--on-error", "skip", "--json"]) == 0
    shown = capsys.readouterr()
    assert re.match(r"skipped .*1\.png: expected a JPEG, PNG or TIFF image, or a name", shown.err)
    report = json.loads(shown.out)
    assert report["items"] == 2 and len(report["count"]) == 1
    assert [Path(skipped["name"]).name for skipped in report["skipped"]] == ["1.png"]


def test_nothing_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.npy").write_text("text")
    assert main(["stats", str(tmp_path / "x.npy"), "--on-error", "skip"]) == 1
    assert "batchnorm stats: expected values, got none" in capsys.readouterr().err


def test_many_channels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 100)))
    assert main(["stats", str(tmp_path / "x.npy")]) == 0
    assert "36 more channels: --json has them." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--axis", "x"], "expected an integer or 'none', got 'x'"),
        (["--scale", "0"], "expected a finite number > 0, got '0'"),
        (["--scale", "nan"], "expected a finite number > 0, got 'nan'"),
        (["--workers", "0"], "expected a positive integer, got '0'"),
        (["--plot", "no/x.png"], "no such directory: no"),
        (["--plot", "."], "expected a file, got a directory: ."),
        (["--checkpoint", "/"], "expected a file, got a directory: /"),
        (["--mode", "CMYK"], "invalid choice: 'CMYK'"),
    ],
    ids=str,
)
def test_bad_arguments(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["stats", "x.npy", *arguments])
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


def test_an_extra_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["stats", "x.npy"]) == 2
    assert capsys.readouterr().err == "batchnorm stats needs rich: pip install 'batchnorm[datasets]'\n"


def test_messages_are_in_the_words_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs the extra [datasets]")
    image.fromarray(values(np.uint8, (4, 4))).convert("P").save(tmp_path / "x.png")
    np.save(tmp_path / "1.npy", np.zeros(3))
    np.save(tmp_path / "bytes.npy", np.zeros((5, 8, 8, 3), np.uint8))
    np.save(tmp_path / "nan.npy", np.full((2, 2), np.nan))
    np.savez(tmp_path / "two.npz", a=values(), b=values())
    expected = {
        ("1.npy",): "at least 2 dimensions, got shape (3,) (--axis none takes all for one channel)",
        ("two.npz",): "--dataset: expected one of 'a', 'b', got none",
        ("two.npz", "--dataset", "a", "--axis", "4"): "--axis: expected -4 .. 3 for shape",
        ("1.npy", "--axis", "0", "--dataset", "a"): "at least 2 dimensions",
        ("nan.npy", "--dataset", "a"): "--dataset: expected none for a source without .npz",
        ("nan.npy", "--nan-policy", "raise"): "expected no NaN with --nan-policy raise, got one in channel 0",
        ("x.png",): "got P (--mode converts)",
        ("bytes.npy",): "got 'auto' (--axis -1 if the last 3 are channels, --axis 1 if the 8 are)",
        ("no*.npy",): "batchnorm stats: PATH: expected files that match",
    }
    for (name, *options), message in expected.items():
        assert main(["stats", str(tmp_path / name), *options]) == 1
        assert message in capsys.readouterr().err
    assert main(["stats", str(tmp_path / "two.npz"), "--on-error", "skip", "--json"]) == 1
    shown = capsys.readouterr()
    for text in (shown.err, json.loads(shown.out)["skipped"][0]["message"]):
        assert "--dataset: expected one of 'a', 'b', got none" in text


def test_words_of_the_command() -> None:
    words = {
        "checkpoint: expected no skipped files with on_error='raise', got 1": "--checkpoint: expected no skipped files "
        "with --on-error raise, got 1",
        "x.png: expected grey values for mode='grey', got RGB": "x.png: expected grey values for --mode grey, got RGB",
        "data/mode=1/axis=None.npy: expected numbers": "data/mode=1/axis=None.npy: expected numbers",
        "mode=RGB/x.npy: magic": "mode=RGB/x.npy: magic",
        "axis: text": "axis: text",
    }
    for message, told in words.items():
        assert in_words_of_the_command(message) == told


def test_a_file_of_another_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("PIL", reason="needs the extra [datasets]")
    (tmp_path / "mk.py").write_text("text")
    assert main(["stats", str(tmp_path / "mk.py")]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"batchnorm stats: {tmp_path / 'mk.py'}: expected a JPEG, PNG or TIFF image, or a name that")
    assert all(f" {suffix}" in told for suffix in (".npy", ".npz", ".h5", ".hdf5", ".hdf", ".zarr"))


@pytest.mark.parametrize(
    ("x", "arguments", "warned"),
    [
        (np.array([[0, 5], [255, 7]], np.uint8), [], True),
        (np.array([[0, 5], [255, 7]], np.uint8), ["--json"], True),
        (np.array([[0, 5], [255, 7]], np.uint8), ["--scale", "255"], False),
        (np.array([[0, 5], [255, 7]], np.uint8), ["--scale", "1"], False),
        (np.array([[0, 5], [256, 7]], np.uint16), [], False),
        (np.array([[0, -5], [25, 7]], np.int8), [], False),
        (np.array([[0, 5], [255, 7]], np.float32), [], False),
    ],
    ids=str,
)
def test_bytes_without_a_scale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], x: Any, arguments: list[str], warned: bool
) -> None:
    np.save(tmp_path / "x.npy", x)
    assert main(["stats", str(tmp_path / "x.npy"), *arguments]) == 0
    told = capsys.readouterr().err.splitlines()
    assert len(told) == warned
    assert all("take --scale 255" in line for line in told)


def test_the_progress_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # what rich takes for a terminal
    monkeypatch.setenv("TERM", "xterm")
    for patience, wanted, shown in ((1e9, True, False), (0.0, False, False), (-1.0, True, True)):
        monkeypatch.setattr(_progress, "_PATIENCE", patience)
        with _progress.Meter(10, wanted=wanted) as meter:
            for i in range(10):
                meter.show(i)
        captured = capsys.readouterr()
        assert captured.out == "" and bool(captured.err) == shown
    monkeypatch.delenv("FORCE_COLOR")
    with _progress.Meter(None, wanted=True) as meter:
        meter.show(1)
    assert capsys.readouterr().err == ""


def test_the_progress_bar_without_rich(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(_progress, "_PATIENCE", -1.0)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with _progress.Meter(10, wanted=True) as meter:
        meter.show(1)
        meter.show(2)
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals of POSIX")
def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C while a pipe gives nothing to read."""
    os.mkfifo(tmp_path / "x.npy")
    command = [sys.executable, "-m", "batchnorm", "stats", str(tmp_path / "x.npy")]
    # A shell ignores SIGINT in what it runs in the background, and so would the command.
    heeds = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with (
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heeds) as process,
        (tmp_path / "x.npy").open("wb"),  # once the command has opened it
    ):
        # Python sees a signal that comes right before it waits for the pipe only when it is woken: one presses again.
        end = time.monotonic() + TIMEOUT
        while process.poll() is None and time.monotonic() < end:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
        assert process.communicate(timeout=10)[1] == "batchnorm stats: interrupted\n"
    assert process.returncode == 130


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("options", [[], ["--json"]], ids=str)
def test_output_that_nobody_takes(tmp_path: Path, options: list[str]) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 20_000 if options else 3)))
    command = [sys.executable, "-m", "batchnorm", "stats", str(tmp_path / "x.npy"), *options]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 1
    assert re.match(r"batchnorm stats: standard output: .*No space left on device\n$", done.stderr)
    reads, writes = os.pipe()
    os.close(reads)  # as head does when it has seen enough
    done = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT, check=False)
    os.close(writes)
    assert (done.returncode, done.stderr) == (1, "")
