"""The C interface of oneDNN 3, as far as batch normalization needs it."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping
from importlib import metadata

import numpy as np

from batchnorm.bench.jobs import Array

PACKAGE = "onednn-cpu-gomp"

# Of dnnl_types.h and dnnl_common_types.h.
CPU, IN_ORDER, F32, MAX_DIMS, UNIMPLEMENTED = 1, 1, 3, 12, 3
FORWARD_TRAINING, FORWARD_INFERENCE, BACKWARD = 64, 96, 128
USE_GLOBAL_STATS, USE_SCALE, USE_SHIFT = 1, 2, 4
SRC, DST, MEAN, VARIANCE, SCALE, SHIFT = 1, 17, 49, 50, 51, 52
DIFF_SRC, DIFF_DST, DIFF_SCALE, DIFF_SHIFT = 129, 145, 255, 256


class UnimplementedError(NotImplementedError):
    """oneDNN has no primitive for such arrays."""


class Handle:
    """An object of the library, by the C function that creates it. Destroyed with this one."""

    def __init__(self, library: ctypes.CDLL, kind: str, create: str, *arguments: object) -> None:
        self._as_parameter_ = ctypes.c_void_p()
        status = getattr(library, f"dnnl_{create}")(ctypes.byref(self._as_parameter_), *arguments)
        if status == UNIMPLEMENTED:
            raise UnimplementedError(create)
        if status:
            raise RuntimeError(f"oneDNN: dnnl_{create} failed with status {status}")
        weakref.finalize(self, getattr(library, f"dnnl_{kind}_destroy"), self._as_parameter_)


class ExecArg(ctypes.Structure):
    """dnnl_exec_arg_t."""

    _fields_ = (("arg", ctypes.c_int), ("memory", ctypes.c_void_p))


class Engine:
    """A CPU engine and its stream."""

    def __init__(self, threads: int) -> None:
        files = metadata.distribution(PACKAGE).files or []
        self.library = ctypes.CDLL(str(next(f for f in files if f.name == "libdnnl.so").locate()))
        # Its threads are those of GCC's OpenMP, and of whoever loads it first: oneDNN asks how many it may use.
        ctypes.CDLL("libgomp.so.1").omp_set_num_threads(threads)
        self.engine = Handle(self.library, "engine", "engine_create", CPU, ctypes.c_size_t(0))
        self.stream = Handle(self.library, "stream", "stream_create", self.engine, IN_ORDER)

    def array_desc(self, a: Array) -> Handle:
        """Describe an array by its shape and strides."""
        dims, strides = (ctypes.c_int64 * MAX_DIMS)(), (ctypes.c_int64 * MAX_DIMS)()
        dims[: a.ndim] = list(a.shape)
        strides[: a.ndim] = [stride // a.itemsize for stride in a.strides]
        return Handle(self.library, "memory_desc", "memory_desc_create_with_strides", a.ndim, dims, F32, strides)

    def forward_desc(self, kind: int, x: Handle, eps: float, flags: int) -> Handle:
        """Describe a forward batch normalization from and to arrays like x."""
        return self._primitive_desc("forward", kind, x, x, ctypes.c_float(eps), flags, None)

    def backward_desc(self, x: Handle, eps: float, flags: int) -> Handle:
        """Describe a backward one, where dx and dy are like x too."""
        hint = self.forward_desc(FORWARD_TRAINING, x, eps, flags)
        return self._primitive_desc("backward", BACKWARD, x, x, x, ctypes.c_float(eps), flags, hint, None)

    def _primitive_desc(self, direction: str, *arguments: object) -> Handle:
        create = f"batch_normalization_{direction}_primitive_desc_create"
        return Handle(self.library, "primitive_desc", create, self.engine, *arguments)


class Primitive:
    """A compiled batch normalization bound to arrays; a call runs it and waits until it is done."""

    def __init__(self, engine: Engine, desc: Handle, arrays: Mapping[int, Array]) -> None:
        library = engine.library
        self._primitive = Handle(library, "primitive", "primitive_create", desc)
        self._memory = {arg: self._memory_of(engine, a) for arg, a in arrays.items()}
        self._arrays = dict(arrays)  # kept alive: memory only points to them
        pairs = [ExecArg(arg, memory._as_parameter_) for arg, memory in self._memory.items()]
        self._arguments = (ExecArg * len(pairs))(*pairs)
        self._stream = engine.stream
        self._execute, self._wait = library.dnnl_primitive_execute, library.dnnl_stream_wait

    def __call__(self) -> None:
        """Run it on the arrays as they are now."""
        status = self._execute(self._primitive, self._stream, len(self._arguments), self._arguments)
        status = status or self._wait(self._stream)
        if status:
            raise RuntimeError(f"oneDNN: execution failed with status {status}")

    @staticmethod
    def _memory_of(engine: Engine, a: Array) -> Handle:
        if a.dtype != np.float32:
            raise TypeError(f"expected float32, got {a.dtype}")
        pointer = ctypes.c_void_p(a.ctypes.data)
        return Handle(engine.library, "memory", "memory_create", engine.array_desc(a), engine.engine, pointer)
