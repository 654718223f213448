"""Masks, ghost batches, second derivatives, subnormal data: parts of benchmarks.features."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import batchnorm as bn
from batchnorm.bench.shapes import Case, Shape, cases

from . import cases as named
from .arrays import Arrays, Call, Row, timed

MASKED: list[Shape] = [(32, 64, 112, 112), (64, 256, 1536), (50, 512, 32, 32), (64, 2048, 14, 14), (256, 2048, 7, 7)]
GHOST: list[Shape] = [(32, 64, 112, 112), (64, 256, 56, 56), (256, 64, 28, 28), (128, 512, 14, 14)]
SECOND: Shape = (32, 64, 56, 56)


def labelled(case: Case) -> str:
    return f"{case.label}, channels {case.layout}"


def places(case: Case) -> tuple[int, ...]:
    return tuple(n for i, n in enumerate(case.shape) if i != case.axis % len(case.shape))


def lengths_of(shape: tuple[int, ...]) -> Any:
    """Return a mask of the first values along the last axis, of a length for each sample."""
    kept = np.random.default_rng(1).integers(1, shape[-1] + 1, shape[0])
    return np.broadcast_to(np.arange(shape[-1]) < kept.reshape((-1,) + (1,) * (len(shape) - 1)), shape).copy()


def masked(options: argparse.Namespace) -> Iterator[Row]:
    """Yield training with a mask over training without."""
    yield "training, mask", "plain ms", "seven tenths / plain", "lengths / plain", "backward, mask / plain"
    photos = Case("images 170x3x49152", "last", (170, 49152, 3), -1, photos=False)
    for case in [*named.both_layouts(MASKED), photos]:
        a = Arrays(case, np.float32)
        random = np.random.default_rng(0).random(places(case)) < 0.7
        lengths = lengths_of(places(case))
        calls = {
            "plain": train(a),
            "random": train(a, mask=random),
            "lengths": train(a, mask=lengths),
            "back": backward(a, a.train()[1]),
            "masked back": backward(a, a.train(mask=random)[1]),
        }
        ms = timed(calls, {}, options.seconds)
        plain = ms["plain"]
        ratios = ms["random"] / plain, ms["lengths"] / plain, ms["masked back"] / ms["back"]
        yield (labelled(case), f"{plain:.2f}", *(f"{ratio:.2f}" for ratio in ratios))


def ghost(options: argparse.Namespace) -> Iterator[Row]:
    """Yield training in 8 groups over training in one."""
    yield "training, groups", "MB", "plain ms", "8 groups / plain"
    for case in named.both_layouts(GHOST):
        a = Arrays(case, np.float32)
        ms = timed({"plain": train(a), "groups": train(a, groups=8)}, {}, options.seconds)
        ratio = ms["groups"] / ms["plain"]
        yield labelled(case), f"{a.x.nbytes / 1e6:.0f}", f"{ms['plain']:.2f}", f"{ratio:.2f}"


def second(options: argparse.Namespace) -> Iterator[Row]:
    """Yield the derivative of the backward beside PyTorch's, channels first."""
    yield "second derivative", "ours ms", "fresh ms", "PyTorch ms", "PyTorch / ours", "PyTorch / fresh"
    case = next(cases(SECOND))
    a = Arrays(case, np.float32)
    saved, ones = a.train()[1], a.weight
    ours: dict[str, Call] = {
        "ours": lambda: bn.batch_norm_double_backward(
            a.residual, ones, None, a.dy, a.x, saved, out=a.out, dx_out=a.other
        ),
        "fresh": lambda: bn.batch_norm_double_backward(a.residual, ones, None, a.dy, a.x, saved),
    }
    theirs: dict[str, Call] = {}
    if options.torch:
        import torch

        torch.set_num_threads(bn.get_num_threads())
        x, dy, weight, bias = (torch.tensor(v, requires_grad=True) for v in (a.x, a.dy, a.weight, a.bias))
        y = torch.nn.functional.batch_norm(x, None, None, weight, bias, training=True)
        first = torch.autograd.grad(y, (x, weight), dy, create_graph=True)
        by = torch.from_numpy(a.residual), torch.ones(case.channels)
        theirs["torch"] = lambda: torch.autograd.grad(first, (dy, x, weight), by, retain_graph=True)
    ms = timed(ours, theirs, options.seconds * 2)
    row = [labelled(case), f"{ms['ours']:.2f}", f"{ms['fresh']:.2f}"]
    peer = ms.get("torch")
    yield (*row, f"{peer:.1f}", f"{peer / ms['ours']:.1f}", f"{peer / ms['fresh']:.1f}") if peer else (*row, "", "", "")


def subnormals(options: argparse.Namespace) -> Iterator[Row]:
    """Yield calls on subnormal data, as they are and flushed, over those on ordinary data."""
    yield "subnormal data", "ordinary ms", "subnormal / ordinary", "flushed / ordinary"
    for case in cases(SECOND):
        a, tiny = Arrays(case, np.float32), Arrays(case, np.float32)
        tiny.x, tiny.dy = (np.float32(1e-39) * v for v in (a.x, a.dy))
        for job in ("train", "inference", "backward"):
            calls = {"ordinary": call_of(a, job), "as it is": call_of(tiny, job)}
            calls["flushed"] = call_of(tiny, job, flush_subnormals=True)
            ms = timed(calls, {}, options.seconds)
            base = ms["ordinary"]
            yield (
                f"{labelled(case)}, {job}",
                f"{base:.2f}",
                f"{ms['as it is'] / base:.2f}",
                f"{ms['flushed'] / base:.2f}",
            )


def train(a: Arrays, **more: Any) -> Call:
    """Return training into a buffer, with options that `Arrays.jobs` doesn't give."""
    return lambda: a.train(out=a.out, **more)


def backward(a: Arrays, saved: bn.SavedStatistics, **more: Any) -> Call:
    """Return the backward of a forward, into a buffer."""
    return lambda: bn.batch_norm_backward(a.dy, a.x, saved, out=a.out, **more)


def call_of(a: Arrays, job: str, **more: Any) -> Call:
    """Return a job into a buffer; inference with an eps that keeps subnormal values what they are."""
    if job == "train":
        return train(a, **more)
    if job == "inference":
        return lambda: a.inference(out=a.out, eps=1.0, **more)
    return backward(a, a.train()[1], **more)


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "masks": masked,
    "groups": ghost,
    "second": second,
    "subnormals": subnormals,
}
