"""ONNX Runtime: a model of one node. It has inference only, channels in axis 1 only."""

from __future__ import annotations

import numpy as np
import onnxruntime

from batchnorm.bench.jobs import EPS, Array, Data, Job
from batchnorm.bench.shapes import Case

from .calls import Calls
from .onnx_model import batch_normalization


class OnnxRuntime:
    """Parameters are constants of the model, as in a network that was exported."""

    name = "ONNX Runtime"

    def __init__(self, threads: int) -> None:
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads

    def calls(self, case: Case, data: Data, job: Job, out: Array) -> Calls:
        """Load a model for the case; with a binding it reads x and writes out where they are."""
        if job.name != "inference" or case.axis % len(case.shape) != 1:
            return Calls()
        parameters = {"scale": data.weight, "bias": data.bias, "mean": data.mean, "var": data.var}
        flat = {name: a.reshape(-1) for name, a in parameters.items()}
        session = onnxruntime.InferenceSession(
            batch_normalization(case.shape, flat, EPS), self._options, providers=["CPUExecutionProvider"]
        )
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(data.x))
        binding.bind_output("y", "cpu", 0, np.float32, case.shape, out.ctypes.data)
        return Calls(
            buffer=lambda: session.run_with_iobinding(binding),
            fresh=lambda: session.run(None, {"x": data.x}),
            arrays=lambda result: (out,) if result is None else tuple(result),
        )


def make(threads: int) -> OnnxRuntime:
    """Return the peer on some threads."""
    return OnnxRuntime(threads)
