"""One case's arrays, the calls on them, and how they are timed: what the parts of benchmarks.features share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import batchnorm as bn
from batchnorm.bench.shapes import Case
from batchnorm.bench.timing import median_seconds

Call = Callable[[], object]
Row = tuple[str, ...]


class Arrays:
    """One case's arrays in one dtype, for ours, and the same memory for PyTorch."""

    def __init__(self, case: Case, dtype: Any) -> None:
        rng = np.random.default_rng(0)
        self.axis = case.axis
        self.x, self.dy, self.residual = (
            rng.standard_normal(case.shape, dtype=np.float32).astype(dtype) for _ in range(3)
        )
        self.out, self.other = np.empty_like(self.x), np.empty_like(self.x)
        ones, zeros = np.ones(case.channels, np.float32), np.zeros(case.channels, np.float32)
        self.weight, self.bias, self.mean, self.var = ones, zeros, zeros.copy(), ones.copy()

    def train(self, **options: Any) -> Any:
        return bn.batch_norm_train(self.x, self.weight, self.bias, axis=self.axis, **options)

    def inference(self, **options: Any) -> Any:
        return bn.batch_norm_inference(self.x, self.mean, self.var, self.weight, self.bias, axis=self.axis, **options)

    def jobs(self) -> dict[str, Call]:
        """Return the three jobs, into a buffer."""
        saved = self.train()[1]
        return {
            "train": lambda: self.train(out=self.out),
            "inference": lambda: self.inference(out=self.out),
            "backward": lambda: bn.batch_norm_backward(self.dy, self.x, saved, out=self.out),
        }


class Torch:
    """PyTorch on the memory of `Arrays`."""

    def __init__(self, a: Arrays, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.torch = torch

        def tensor(array: Any) -> Any:
            if array.dtype.name == "bfloat16":
                t = torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
            else:
                t = torch.from_numpy(array)
            return t.movedim(-1, 1) if a.axis == -1 and array.ndim > 2 else t

        self.x, self.dy, self.residual, self.out = map(tensor, (a.x, a.dy, a.residual, a.out))
        self.weight, self.bias, self.mean, self.var = map(torch.from_numpy, (a.weight, a.bias, a.mean, a.var))

    def jobs(self) -> dict[str, Call]:
        """Return the three jobs, into a buffer where there is one."""
        native = self.torch.ops.aten.native_batch_norm
        save = [self.torch.empty(0), self.torch.empty(0)]
        _, mean, rstd = native(self.x, self.weight, self.bias, None, None, True, 0.1, 1e-5)

        def forward(training: bool, *running: Any) -> Call:
            arguments = (self.x, self.weight, self.bias, *running, training, 0.1, 1e-5)
            return lambda: native.out(*arguments, out=self.out, save_mean=save[0], save_invstd=save[1])

        def backward() -> object:
            return self.torch.ops.aten.native_batch_norm_backward(
                self.dy, self.x, self.weight, None, None, mean, rstd, True, 1e-5, [True, True, True]
            )

        return {
            "train": forward(True, None, None),
            "inference": forward(False, self.mean, self.var),
            "backward": backward,
        }

    def separate(self, training: bool) -> object:
        """Return batch norm, addition and ReLU one after the other, in fresh memory."""
        functional = self.torch.nn.functional
        running = (None, None) if training else (self.mean, self.var)
        with self.torch.no_grad():
            y = functional.batch_norm(self.x, *running, self.weight, self.bias, training)
            return functional.relu(y + self.residual)


def timed(calls: dict[str, Call], theirs: dict[str, Call], seconds: float) -> dict[str, float]:
    """Return median milliseconds, ours and theirs by turns."""
    return {name: 1e3 * t for name, t in median_seconds([calls, theirs] if theirs else [calls], seconds).items()}
