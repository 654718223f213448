"""Statistics of data sets beside NumPy, PyTorch and scikit-learn, and beside what only reads or decodes them:
``python -m benchmarks.datasets``.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics as averages
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import batchnorm as bn
from batchnorm.bench import positive
from batchnorm.bench.timing import median_seconds
from batchnorm.datasets import statistics
from batchnorm.datasets._statistics import usable_cpus

CROP = 224
ROUNDS = 3

# In a process of its own, so that the memory is that of this alone. Both read the same file, warm, in turns.
NPY = """
import re, sys, time
from batchnorm.datasets import statistics
path, workers, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def megabytes(what):
    with open("/proc/self/status") as status:
        return int(re.search(what + r":\\s+(\\d+) kB", status.read())[1]) / 1024
def plain():
    buffer = bytearray(8 * 2**20)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
def ours():
    statistics(path, workers=workers, progress=False)
def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
before = megabytes("VmRSS")
seconds(plain)
times = [(seconds(plain), seconds(ours)) for _ in range(rounds)]
print(megabytes("VmHWM") - before)
for pair in times:
    print(*pair)
"""

KILLED = """
import sys
from batchnorm.datasets import _checkpoint, statistics
_checkpoint._PERIOD = 0.02
statistics(sys.argv[1], checkpoint=sys.argv[2], workers=int(sys.argv[3]), progress=False)
"""


def arrays() -> None:
    """Print how many times as long as ours others take, for images in memory and a table."""
    import torch
    from sklearn.preprocessing import StandardScaler

    from batchnorm.sklearn import ChannelScaler

    torch.set_num_threads(bn.get_num_threads())
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (256, CROP, CROP, 3), np.uint8)
    images = pixels.astype(np.float32)
    tensor = torch.from_numpy(images)
    table = rng.normal(3, 2, (1_000_000, 30)).astype(np.float32)
    theirs, ours = StandardScaler().fit(table), ChannelScaler().fit(table)
    rows: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "uint8 images, NumPy's mean and std": (
            lambda: bn.channel_stats(pixels, axis=-1),
            lambda: (pixels.mean((0, 1, 2)), pixels.std((0, 1, 2))),
        ),
        "uint8 images, PyTorch's std_mean of floats": (
            lambda: bn.channel_stats(pixels, axis=-1),
            lambda: torch.std_mean(tensor, dim=(0, 1, 2)),
        ),
        "float32 images, StandardScaler.fit": (
            lambda: ChannelScaler(axis=-1).fit(images),
            lambda: StandardScaler().fit(images.reshape(-1, 3)),
        ),
        "(1000000, 30) float32, StandardScaler.fit": (lambda: ours.fit(table), lambda: theirs.fit(table)),
        "(1000000, 30) float32, StandardScaler.transform": (
            lambda: ours.transform(table),
            lambda: theirs.transform(table),
        ),
    }
    for name, (call, other) in rows.items():
        seconds = median_seconds([{"ours": call}, {"theirs": other}], 1.0)
        print(
            f"{name}: {1e3 * seconds['ours']:.2f} and {1e3 * seconds['theirs']:.1f} ms, "
            f"ratio {seconds['theirs'] / seconds['ours']:.1f}"
        )


def write_npy(path: Path, gigabytes: float) -> None:
    """Write float32 of 64 channels, block by block."""
    block = np.random.default_rng(0).normal(3, 1, (2**15, 64)).astype(np.float32)  # 8 MB
    blocks = max(1, round(gigabytes * 1e9 / block.nbytes))
    header = {"descr": "<f4", "fortran_order": False, "shape": (blocks * len(block), 64)}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(blocks):
            file.write(block.data)


def npy(folder: Path, gigabytes: float, workers: int) -> None:
    """Print our time over that of a plain read loop, and the memory beyond what imports take."""
    path = folder / "x.npy"
    write_npy(path, gigabytes)
    done = subprocess.run(
        [sys.executable, "-c", NPY, str(path), str(workers), str(ROUNDS)], check=True, capture_output=True, text=True
    )
    path.unlink()
    first, *lines = done.stdout.splitlines()
    pairs = [[float(n) for n in line.split()] for line in lines]
    plain, ours = (averages.median(column) for column in zip(*pairs, strict=True))
    print(f".npy of {gigabytes:g} GB: {ours:.2f} s, a plain read loop {plain:.2f} s, ratio {ours / plain:.2f}")
    print(f"  ({gigabytes / ours:.1f} and {gigabytes / plain:.1f} GB/s; peak {float(first):.0f} MB beyond import)")


def write_crops(folder: Path, crops: int) -> list[Path]:
    """Write JPEG crops of scikit-learn's two photographs, at random places."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photos, rng = load_sample_images().images, np.random.default_rng(0)
    paths = [folder / f"{i:05}.jpg" for i in range(crops)]
    for i, path in enumerate(paths):
        photo = photos[i % len(photos)]
        top, left = (rng.integers(0, extent - CROP + 1) for extent in photo.shape[:2])
        Image.fromarray(photo[top : top + CROP, left : left + CROP]).save(path, quality=90)
    return paths


def decoding(paths: list[Path], workers: int, finish: Callable[[Any], object]) -> float:
    """Return the seconds that decoding alone takes: each thread has its share from the beginning."""
    from PIL import Image

    def share(first: int) -> None:
        for path in paths[first::workers]:
            with Image.open(path) as image:
                finish(image)

    start = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(share, range(workers)))
    return time.perf_counter() - start


def images(folder: Path, crops: int, workers: int) -> None:
    """Print our time over that of decoding alone, with as many threads."""
    paths = write_crops(folder, crops)
    rows = []
    for _ in range(ROUNDS + 1):
        into_memory = decoding(paths, workers, lambda image: image.load())
        into_arrays = decoding(paths, workers, np.asarray)
        start = time.perf_counter()
        statistics(folder, workers=workers, progress=False)
        rows.append((into_memory, into_arrays, time.perf_counter() - start))
    into_memory, into_arrays, ours = (averages.median(column) for column in zip(*rows[1:], strict=True))
    print(f"{crops} JPEG crops of {CROP} x {CROP}, {workers} workers: {ours:.2f} s")
    print(f"  decoding alone {into_memory:.2f} s, ratio {ours / into_memory:.2f}")
    print(f"  decoding into arrays {into_arrays:.2f} s, ratio {ours / into_arrays:.2f}")


def kills(folder: Path, times: int, workers: int) -> int:
    """Kill a run of the crops at a random moment, go on, compare the bits; return how often they differ."""
    start = time.perf_counter()
    whole = statistics(folder, workers=workers, progress=False)
    lasts = time.perf_counter() - start
    moments = random.Random(0)
    differ, reached = 0, []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as beside:
            file = Path(beside) / "run"
            command = [sys.executable, "-c", KILLED, str(folder), str(file), str(workers)]
            with subprocess.Popen(command) as process:
                while not file.exists() and process.poll() is None:
                    time.sleep(0.005)
                time.sleep(moments.uniform(0, lasts))
                process.kill()
            prefix = _items_in(file)
            reached.append(prefix / whole.items)
            differ += statistics(folder, workers=workers, checkpoint=file, progress=False).stats != whole.stats
    shown = " ".join(f"{100 * part:.0f}" for part in sorted(reached))
    print(f"killed {times} times, gone on from {shown} %: {differ} differ")
    return differ


def _items_in(file: Path) -> int:
    return int(json.loads(file.read_text())["state"]["items"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.datasets", description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=6.0, help="size of the .npy (default: 6)")
    parser.add_argument("--crops", type=positive, default=5000, help="number of JPEG crops (default: 5000)")
    parser.add_argument("--kills", type=positive, default=20, help="how often a run is killed (default: 20)")
    parser.add_argument("--workers", type=positive, default=usable_cpus(), help="threads (default: as many as CPUs)")
    parser.add_argument("--folder", type=Path, help="where the files are made (default: the system's)")
    parser.add_argument("--only", choices=["arrays", "npy", "images"], help="one part (default: all)")
    options = parser.parse_args()

    def wanted(part: str) -> bool:
        return options.only in (None, part)

    if wanted("arrays"):
        arrays()
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        folder = Path(made)
        if wanted("npy"):
            npy(folder, options.gigabytes, options.workers)
        if not wanted("images"):
            return 0
        images(folder, options.crops, options.workers)
        return 1 if kills(folder, options.kills, options.workers) else 0


if __name__ == "__main__":
    sys.exit(main())
