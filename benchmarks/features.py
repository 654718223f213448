"""Half precision, fusion, images, in place, masks, ghost batches: ``python -m benchmarks.features``."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import batchnorm as bn
from batchnorm import _core
from batchnorm.bench import positive
from batchnorm.bench.shapes import Shape, cases

from . import cases as named
from . import variants
from .arrays import Arrays, Call, Row, Torch, timed

LARGE: Shape = (32, 64, 112, 112)  # 103 MB of float32
HALF_LARGE: list[Shape] = [(50, 64, 112, 112), (50, 256, 56, 56)]  # 161 MB
MEMORY = """
import re, sys
import numpy as np, batchnorm as bn
in_place = sys.argv[1] == "in place"
x = np.random.default_rng(0).standard_normal((50, 64, 112, 112), dtype=np.float32)
bn.set_kept_memory(0)
with open("/proc/self/clear_refs", "w") as refs:
    refs.write("5")
def kilobytes(what):
    with open("/proc/self/status") as status:
        return int(re.search(what + r":\\s+(\\d+) kB", status.read())[1])
before = kilobytes("VmRSS")
activation = ("leaky_relu", 0.01)
y, saved = bn.batch_norm_train(x, activation=activation, out=x if in_place else None)
dy = np.ones_like(y)
if in_place:
    bn.batch_norm_backward(dy, None, saved, y=y, out=dy)
else:
    bn.batch_norm_backward(dy, x, saved)
print((kilobytes("VmHWM") - before) / 1024)
"""


def fused(options: argparse.Namespace) -> Iterator[Row]:
    """Yield plain and fused calls on 103 MB."""
    yield "fused", "plain ms", "fused ms", "fused / plain", "PyTorch, separate, fresh ms", "over ours, fresh"
    for case in cases(LARGE):
        a = Arrays(case, np.float32)
        relu, both = {"activation": "relu"}, {"activation": "relu", "residual": a.residual}
        gated = a.train(**relu)[1]
        calls: dict[str, Call] = {
            **a.jobs(),
            "train + relu": lambda a=a: a.train(out=a.out, activation="relu"),  # type: ignore[misc]
            "train + add + relu": lambda a=a, both=both: a.train(out=a.out, **both),  # type: ignore[misc]
            "inference + relu": lambda a=a: a.inference(out=a.out, activation="relu"),  # type: ignore[misc]
            "inference + add + relu": lambda a=a, both=both: a.inference(out=a.out, **both),  # type: ignore[misc]
            "backward + relu": lambda a=a, s=gated: bn.batch_norm_backward(a.dy, a.x, s, out=a.out),  # type: ignore[misc]
            "train + add + relu, fresh": lambda a=a, both=both: a.train(**both),  # type: ignore[misc]
            "inference + add + relu, fresh": lambda a=a, both=both: a.inference(**both),  # type: ignore[misc]
        }
        torch = Torch(a, bn.get_num_threads()) if options.torch else None
        theirs: dict[str, Call] = {}
        if torch is not None:
            theirs = {
                "torch train": lambda t=torch: t.separate(True),  # type: ignore[misc]
                "torch inference": lambda t=torch: t.separate(False),  # type: ignore[misc]
            }
        ms = timed(calls, theirs, options.seconds * 4)
        for name in [n for n in calls if "+" in n and "fresh" not in n]:
            job = name.split()[0]
            row = [f"{name}, channels {case.layout}", f"{ms[job]:.2f}", f"{ms[name]:.2f}", f"{ms[name] / ms[job]:.2f}"]
            peer = ms.get(f"torch {job}") if "add" in name else None
            yield (*row, f"{peer:.1f}", f"{peer / ms[name + ', fresh']:.1f}") if peer else (*row, "", "")


def halves(options: argparse.Namespace) -> Iterator[Row]:
    """Yield half precisions over float32, on 161 MB of float32, for each instruction set."""
    import ml_dtypes

    yield "half precision", "ISA", "float32 ms", "float16", "bfloat16", "float16 / float32", "bfloat16 / float32"
    for case in named.both_layouts(HALF_LARGE):
        of = {str(np.dtype(d)): Arrays(case, d).jobs() for d in (np.float32, np.float16, ml_dtypes.bfloat16)}
        for isa in [name for name in _core._isas() if name.startswith("avx")]:
            _core._set_isa(isa)
            for job in ("train", "inference", "backward"):
                ms = timed({name: jobs[job] for name, jobs in of.items()}, {}, options.seconds)
                one, half, brain = ms["float32"], ms["float16"], ms["bfloat16"]
                label = f"{case.label}, channels {case.layout}, {job}"
                yield (
                    *(label, isa, f"{one:.2f}", f"{half:.2f}", f"{brain:.2f}"),
                    *(f"{half / one:.2f}", f"{brain / one:.2f}"),
                )
        _core._set_isa(None)


def beside_torch(options: argparse.Namespace) -> Iterator[Row]:
    """Yield half precisions beside PyTorch's, on ResNet-50's shapes."""
    import ml_dtypes

    yield "half precision", "dtype", "ours ms", "PyTorch ms", "PyTorch / ours"
    for case in named.both_layouts(named.parse("resnet_50")):
        for dtype in (np.float16, ml_dtypes.bfloat16):
            a = Arrays(case, dtype)
            ours, theirs = a.jobs(), Torch(a, bn.get_num_threads()).jobs()
            for job, call in ours.items():
                ms = timed({"ours": call}, {"theirs": theirs[job]}, options.seconds / 2)
                label = f"{case.label}, channels {case.layout}, {job}"
                ratio = ms["theirs"] / ms["ours"]
                yield label, str(np.dtype(dtype)), f"{ms['ours']:.3f}", f"{ms['theirs']:.3f}", f"{ratio:.2f}"


def images(options: argparse.Namespace) -> Iterator[Row]:
    """Yield bytes to normalized float32: (256, 224, 224, 3)."""
    yield "images, uint8 to float32", "ms", "over ours, fresh"
    x = np.random.default_rng(0).integers(0, 256, (256, 224, 224, 3), np.uint8)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    out = np.empty(x.shape, np.float32)
    given: dict[str, Any] = {"eps": 0.0, "axis": -1}
    ours: dict[str, Call] = {
        "ours, fresh": lambda: bn.batch_norm_inference(x, 255 * mean, (255 * std) ** 2, **given),
        "ours, into a buffer": lambda: bn.batch_norm_inference(x, 255 * mean, (255 * std) ** 2, out=out, **given),
    }
    others: dict[str, Call] = {"NumPy, (x / 255 - mean) / std": lambda: (x / 255 - mean) / std}
    if options.torch:
        import torch

        torch.set_num_threads(bn.get_num_threads())
        t = torch.from_numpy(x)
        scale, shift = (torch.tensor(v, dtype=torch.float32) for v in (1 / (255 * std), -mean / std))
        others["PyTorch, addcmul"] = lambda: torch.addcmul(shift, t, scale)
        others["PyTorch, x.float().mul_().add_()"] = lambda: t.to(torch.float32).mul_(scale).add_(shift)
    ms = timed(ours, others, options.seconds * 2)
    for name, value in ms.items():
        yield name, f"{value:.1f}", f"{value / ms['ours, fresh']:.1f}"


def memory(options: argparse.Namespace) -> Iterator[Row]:
    """Yield what a forward and a backward with leaky ReLU take beside x, dy included."""
    yield "peak memory beside x of 161 MB", "MB"
    for way in ("ordinary", "in place"):
        done = subprocess.run([sys.executable, "-c", MEMORY, way], check=True, capture_output=True, text=True)
        yield way, f"{float(done.stdout):.0f}"


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "fused": fused,
    "halves": halves,
    "torch": beside_torch,
    "images": images,
    "memory": memory,
    **variants.PARTS,
}


def main() -> int:
    """Run the parts that are asked for, and print a table of each."""
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(prog="python -m benchmarks.features", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--threads", type=positive, metavar="N", help="threads (default: batchnorm's own choice)")
    parser.add_argument("--seconds", type=float, default=1.0, metavar="S", help="of timing per row, about (default: 1)")
    parser.add_argument("--no-torch", dest="torch", action="store_false", help="leave PyTorch out")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"expected parts of {', '.join(PARTS)}, got {unknown[0]}")
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    with bn.num_threads(options.threads or bn.get_num_threads()):
        for part in options.parts or [p for p in PARTS if options.torch or p != "torch"]:
            rows = PARTS[part](options)
            table = Table(*next(rows))
            with console.status(part) as status:
                for row in rows:
                    status.update(f"{part}: {row[0]}")
                    table.add_row(*row)
            console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
