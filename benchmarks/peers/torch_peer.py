"""PyTorch: its functional form for fresh memory, the operator below it for a buffer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from batchnorm.bench.jobs import EPS, Array, Data, Job
from batchnorm.bench.shapes import Case

from .calls import Calls


class Torch:
    """Works on views of NumPy's memory; channels-last arrays are tensors in its channels_last format."""

    name = "PyTorch"

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        # Recording for autograd would cost it time in each call.
        torch.set_grad_enabled(False)

    def calls(self, case: Case, data: Data, job: Job, out: Array) -> Calls:
        """Prepare a job, for up to 5 dimensions, which is as far as the channels_last formats go."""
        if len(case.shape) > 5:
            return Calls()
        x, dy, y = (_tensor(a, case) for a in (data.x, data.dy, out))
        weight, bias, mean, var = (
            torch.from_numpy(a.reshape(-1)) for a in (data.weight, data.bias, data.mean, data.var)
        )
        if job.name == "backward":
            rstd = torch.rsqrt(var + EPS)
            # Its out= form computes into fresh memory and copies.
            backward = torch.ops.aten.native_batch_norm_backward.default
            return Calls(
                fresh=lambda: backward(dy, x, weight, None, None, mean, rstd, True, EPS, [True, True, True]),
                arrays=lambda result: (_array(result[0], case), result[1].numpy(), result[2].numpy()),
            )
        training = job.name == "train"
        if training:
            mean = var = None
        saved = torch.empty(case.channels if training else 0), torch.empty(case.channels if training else 0)
        functional = torch.nn.functional.batch_norm
        # The binding of aten's native_batch_norm.out that costs less per call than torch.ops.aten's.
        return Calls(
            buffer=lambda: torch.native_batch_norm(x, weight, bias, mean, var, training, 0.0, EPS, out=(y, *saved)),
            # The functional form refuses to train on one value per channel.
            fresh=None
            if training and case.size == case.channels
            else lambda: functional(x, mean, var, weight, bias, training, 0.0, EPS),
            arrays=lambda result: (_array(result[0] if isinstance(result, tuple) else result, case),),
        )


def _tensor(a: Array, case: Case) -> Any:
    """View an array as (N, C, spatial...)."""
    tensor = torch.from_numpy(a)
    if case.layout == "first" or a.ndim == 2:
        return tensor
    if a.ndim == 3:
        # channels_last has 4 dimensions; with 3 it would be an array of odd strides, and slow.
        tensor = tensor.unsqueeze(1)
    return tensor.movedim(-1, 1)


def _array(tensor: Any, case: Case) -> Array:
    """Undo _tensor."""
    if case.layout == "last" and tensor.ndim > 2:
        tensor = tensor.movedim(1, -1)
    return np.asarray(tensor).reshape(case.shape)


def make(threads: int) -> Torch:
    """Return the peer on some threads."""
    return Torch(threads)
