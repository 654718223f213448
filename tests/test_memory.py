"""A call keeps nothing that grows with its array: no layout is copied whole. Measured in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from processes import run_code
from test_large import need_memory

pytestmark = [
    pytest.mark.no_sanitizer,
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc to see peak memory"),
]
LIMIT = 12  # MB: the bar of issue 2

MEASURE = """
import ctypes, re
import numpy as np, batchnorm as bn
def megabytes(what):
    with open("/proc/self/status") as status:
        return int(re.search(what + r":\\s+(\\d+) kB", status.read())[1]) / 1024
def fill(a):
    block = np.random.default_rng(0).normal(3, 1, 2**18).astype(a.dtype)
    flat = a.reshape(-1)
    for i in range(0, flat.size, block.size):
        flat[i : i + block.size] = block[: flat.size - i]
    return a
def array(*shape):
    return fill(np.empty(shape, np.float32))
trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)
def grown(call):
    trim(0)  # what an earlier call left in the heap is not there to be used again
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")  # the peak starts anew
    before = megabytes("VmRSS")
    result = call()
    return megabytes("VmHWM") - before, result
def returned(*arrays):
    return sum(a.nbytes for a in arrays) / 2**20
def all_calls(x, dy, out, axis):
    c = x.shape[axis]
    zero, one = np.zeros(c), np.ones(c)
    mb, (_, saved) = grown(lambda: bn.batch_norm_train(x, one, zero, axis=axis, out=out))
    yield "train", mb - returned(saved.mean, saved.rstd, saved.var, saved.weight, saved.bias)
    mb, _ = grown(lambda: bn.batch_norm_inference(x, zero, one, axis=axis, out=out))
    yield "inference", mb
    mb, stats = grown(lambda: bn.channel_stats(x, axis=axis))
    yield "channel_stats", mb - returned(stats.mean, stats.m2, stats.count)
    mb, g = grown(lambda: bn.batch_norm_backward(dy, x, saved, out=out))
    yield "backward", mb - returned(g.dweight, g.dbias)
    mb, g = grown(lambda: bn.batch_norm_inference_backward(dy, x, zero, one, axis=axis, out=out))
    yield "inference_backward", mb - returned(g.dweight, g.dbias, g.dmean, g.dvar)
    mb, _ = grown(lambda: bn.denormalize(x, zero, one, axis=axis, out=out))
    yield "denormalize", mb
def report(x, dy, out, axis):
    for name, mb in all_calls(x, dy, out, axis):
        print(name, mb)
w = array(16, 32, 32, 32)
for _ in all_calls(w, w, np.empty_like(w), 1):  # threads, code and imports are there from now on
    pass
assert 15 < grown(lambda: array(4, 1024, 1024))[0] < 25, "16 MB and what fills them don't show"
"""


def assert_small(code: str) -> None:
    lines = [line.split() for line in run_code(MEASURE + code).splitlines()]
    assert len(lines) == 6
    large = {name: float(mb) for name, mb in lines if float(mb) >= LIMIT}
    assert not large, f"MB beyond what is returned: {large}"


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((200, 64, 112, 112), 1), ((200, 112, 112, 64), 3), ((5300000, 30), 1), ((160, 1000000), 1)],
    ids=str,
)
def test_the_bars_of_the_issue(shape: tuple[int, ...], axis: int) -> None:
    """640 MB each. dy is x, to fit into less memory."""
    need_memory(2)
    assert_small(f"x = array(*{shape}); report(x, x, fill(np.empty_like(x)), {axis})")


VIEWS = {
    "every second row and column": "array(16, 64, 224, 224)[..., ::2, ::2]",
    "every second pixel, channels last": "np.moveaxis(array(16, 224, 224, 64)[:, ::2, ::2], -1, 1)",
    "every second image": "array(32, 64, 112, 112)[::2]",
    "crop": "array(16, 66, 120, 120)[:, 1:-1, 4:-4, 3:-5]",
    "backwards": "array(16, 64, 112, 112)[::-1, :, ::-1, ::-1]",
    "Fortran order": "array(112, 112, 64, 16).T",
    "channels last, seen as channels first": "np.moveaxis(array(16, 112, 112, 64), -1, 1)",
    "repeated over the batch": "np.broadcast_to(array(1, 64, 112, 112), (16, 64, 112, 112))",
    "repeated inside": "np.broadcast_to(array(16, 64, 112, 1), (16, 64, 112, 112))",
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
def test_views(view: str) -> None:
    """50 MB each: a copy would show."""
    assert_small(f"x = {view}; y, _ = bn.batch_norm_train(x); report(x, x, y, 1)")
