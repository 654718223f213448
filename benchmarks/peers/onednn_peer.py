"""oneDNN: its batch normalization primitives over NumPy's memory."""

from __future__ import annotations

import numpy as np

from batchnorm.bench.jobs import EPS, Array, Data, Job
from batchnorm.bench.shapes import Case

from . import onednn
from .calls import Calls

AFFINE = onednn.USE_SCALE | onednn.USE_SHIFT


class OneDNN:
    """Buffers only: it allocates nothing."""

    name = "oneDNN"

    def __init__(self, threads: int) -> None:
        self._engine = onednn.Engine(threads)

    def calls(self, case: Case, data: Data, job: Job, out: Array) -> Calls:
        """Create the primitive of a job, if there is one for these arrays."""
        if len(case.shape) > 5:  # it takes more, and computes nothing
            return Calls()
        # Its axes are in the order (N, C, spatial...), whatever the order in memory.
        x, dy, y = (np.moveaxis(a, case.axis, 1) for a in (data.x, data.dy, out))
        weight, bias, mean, var = (a.reshape(-1) for a in (data.weight, data.bias, data.mean, data.var))
        vectors: tuple[Array, ...] = ()
        try:
            like_x = self._engine.array_desc(x)
            if job.name == "backward":
                desc = self._engine.backward_desc(like_x, EPS, AFFINE)
                vectors = np.empty_like(mean), np.empty_like(mean)
                arrays = {onednn.SRC: x, onednn.DIFF_DST: dy, onednn.DIFF_SRC: y, onednn.MEAN: mean}
                arrays |= {onednn.VARIANCE: var, onednn.SCALE: weight}
                arrays |= {onednn.DIFF_SCALE: vectors[0], onednn.DIFF_SHIFT: vectors[1]}
            else:
                if job.name == "train":
                    desc = self._engine.forward_desc(onednn.FORWARD_TRAINING, like_x, EPS, AFFINE)
                    mean, var = np.empty_like(mean), np.empty_like(var)
                else:
                    flags = AFFINE | onednn.USE_GLOBAL_STATS
                    desc = self._engine.forward_desc(onednn.FORWARD_INFERENCE, like_x, EPS, flags)
                arrays = {onednn.SRC: x, onednn.DST: y, onednn.MEAN: mean, onednn.VARIANCE: var}
                arrays |= {onednn.SCALE: weight, onednn.SHIFT: bias}
            primitive = onednn.Primitive(self._engine, desc, arrays)
        except onednn.UnimplementedError:
            return Calls()
        return Calls(buffer=primitive, arrays=lambda _: (out, *vectors))


def make(threads: int) -> OneDNN:
    """Return the peer on some threads."""
    return OneDNN(threads)
