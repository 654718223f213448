"""What importing and configuring the library does to a process. Each test runs in a process of its own."""

from __future__ import annotations

import re
from typing import Any

import pytest

import batchnorm as bn
from batchnorm import _core
from processes import run, run_code

ISAS = _core._isas()

COMPUTE = """
import hashlib, numpy as np, batchnorm as bn
from batchnorm import _core
x = np.random.default_rng(0).normal(3, 1, (5, 7, 33)).astype(np.float32)
def bits():
    y, saved = bn.batch_norm_train(x)
    return hashlib.sha256(y.tobytes() + saved.var.tobytes()).hexdigest()
"""


def test_subnormals_survive() -> None:
    """Linking with a fast-math flag would flush them to zero in the whole process."""
    code = """
import threading
import numpy as np
def check():
    for dtype in (np.float32, np.float64):
        tiny = np.finfo(dtype).smallest_subnormal
        assert tiny > 0 and tiny * dtype(1) == tiny and tiny * dtype(2) / dtype(2) == tiny, dtype
        assert np.all(np.full(99, tiny) + np.full(99, tiny) == np.full(99, 2 * tiny)), dtype
check()
import batchnorm as bn
check()
bn.channel_stats(np.ones((64, 32, 64, 64)), num_threads=2)
check()
thread = threading.Thread(target=check)
thread.start()
thread.join()
print("ok")
"""
    assert run_code(code) == "ok\n"


def test_subnormals_are_computed_with() -> None:
    """In the kernels too, and on every thread."""
    code = """
import numpy as np, batchnorm as bn
from batchnorm import _core
x = np.full((64, 32, 64, 64), 1e-40, np.float32)
for isa in _core._isas():
    _core._set_isa(isa)
    for threads in (1, 2):
        mean = bn.channel_stats(x, num_threads=threads).mean
        assert np.all(mean == np.float64(np.float32(1e-40))), (isa, mean)
        y = bn.batch_norm_inference(x, np.zeros(32), np.ones(32), eps=0, num_threads=threads)
        assert np.all(y == np.float32(1e-40)), (isa, y.ravel()[0])
print("ok")
"""
    assert run_code(code) == "ok\n"


def test_import_is_quiet_and_small() -> None:
    """NumPy and what is imported are all; no extra, and nothing heavy of the standard library."""
    code = """
import sys
import numpy
before = set(sys.modules)
import batchnorm
new = {name.partition(".")[0] for name in set(sys.modules) - before} - {"batchnorm"}
print(*sorted(new))
"""
    new = set(run_code(code).split())
    heavy = {"torch", "rich", "matplotlib", "sklearn", "PIL", "scipy", "pandas", "argparse", "subprocess", "asyncio"}
    assert not new & (heavy | {"importlib_metadata", "unittest", "multiprocessing"})
    assert len(new) <= 5, new


def test_import_starts_no_thread_and_changes_no_setting() -> None:
    code = """
import os, sys, threading, warnings, signal
import numpy as np
tasks = lambda: len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0
state = lambda: (tasks(), threading.active_count(), np.geterr(), warnings.filters[:], dict(os.environ), sys.flags,
                 signal.getsignal(signal.SIGINT), np.get_printoptions(), sys.getswitchinterval())
before = state()
import batchnorm
print(state() == before)
"""
    assert run_code(code, OPENBLAS_NUM_THREADS=1) == "True\n"


@pytest.mark.parametrize("isa", ISAS)
def test_batchnorm_isa_forces_one(isa: str) -> None:
    forced = run_code(COMPUTE + "print(_core.config()['isa'], bits())", BATCHNORM_ISA=isa).split()
    set_by_test = run_code(COMPUTE + f"_core._set_isa({isa!r}); print(_core.config()['isa'], bits())").split()
    assert forced == set_by_test
    assert forced[0] == isa


def test_the_best_isa_is_the_default() -> None:
    assert run_code(COMPUTE + "print(_core.config()['isa'])", BATCHNORM_ISA=None).split() == ISAS[-1:]
    assert run_code(COMPUTE + "print(_core.config()['isa'])", BATCHNORM_ISA="").split() == ISAS[-1:]


@pytest.mark.parametrize("isa", sorted({"sse9", "AVX2", "avx2 ", "scalar", *({"neon", "avx2", "avx512"} - set(ISAS))}))
def test_an_isa_that_cannot_be_had_is_an_error_at_the_first_call(isa: str) -> None:
    """Not at import, and at every call again; nothing is written."""
    code = """
import numpy as np, batchnorm as bn
x, out, mean, var = np.ones((2, 3)), np.full((2, 3), 7.0), np.zeros(3), np.ones(3)
saved = bn.SavedStatistics(mean, var, 2, eps=0.0)
calls = [
    lambda: bn.batch_norm_train(x, running_mean=mean, running_var=var, out=out),
    lambda: bn.batch_norm_inference(x, mean, var, out=out),
    lambda: bn.batch_norm_backward(x, x, saved, out=out),
    lambda: bn.batch_norm_inference_backward(x, x, mean, var, out=out),
    lambda: bn.channel_stats(x),
    lambda: bn.denormalize(x, mean, var, out=out),
]
for call in calls * 2:
    try:
        call()
    except ValueError as error:
        print(error)
assert (out == 7).all() and (mean == 0).all() and (var == 1).all()
"""
    messages = run_code(code, BATCHNORM_ISA=isa).splitlines()
    assert len(messages) == 12
    assert len(set(messages)) == 1
    expected = ", ".join(ISAS)
    assert re.match(rf"BATCHNORM_ISA: expected one of {re.escape(expected)}, got '{re.escape(isa)}'", messages[0])


def test_config_tells_of_an_isa_that_cannot_be_had() -> None:
    done = run("-m", "batchnorm", "config", env={"BATCHNORM_ISA": "sse9"})
    assert done.returncode == 0
    assert re.search(r"^ISA used +BATCHNORM_ISA: expected one of .*, got 'sse9'$", done.stdout, re.MULTILINE)


def assert_config(text: str) -> None:
    config: dict[str, Any] = _core.config()
    assert bn.__version__ in text
    assert config["compiler"] in text
    for name in (*config["isas_built"], *config["isas_found"]):
        assert re.search(rf"\b{name}\b", text)
    assert re.search(rf"ISA used +{config['isa']}$", text, re.MULTILINE)
    assert re.search(r"OpenMP +\S", text)
    assert re.search(r"threads +\d+$", text, re.MULTILINE)


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert bn.show_config() is None  # type: ignore[func-returns-value]
    text, errors = capsys.readouterr()
    assert errors == ""
    assert_config(text)


def test_the_config_command() -> None:
    done = run("-m", "batchnorm", "config", env={"OMP_NUM_THREADS": "2"})
    assert (done.returncode, done.stderr) == (0, "")
    assert_config(done.stdout)


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("config", "nonsense")], ids=str)
def test_a_wrong_command_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    done = run("-m", "batchnorm", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "usage: python -m batchnorm" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_compiled_modules_isas() -> None:
    config = _core.config()
    assert ISAS
    assert set(ISAS) == set(config["isas_found"]) <= set(config["isas_built"])
    with pytest.raises(ValueError, match="sse9"):
        _core._set_isa("sse9")
    assert _core.config()["isa"] in ISAS


def test_version() -> None:
    assert re.match(r"\d+\.\d+", bn.__version__)
    assert bn.__version__ == _core.__version__ == _core.config()["version"]
