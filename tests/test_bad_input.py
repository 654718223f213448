"""Bad input: the right exception, a message with argument, expected and got, and not one byte changed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import batchnorm as bn
from bad_arguments import (
    BACKWARDS,
    DATA,
    DENORMALIZE,
    FUNCTIONS,
    OPTIONS,
    OTHERS,
    OUT,
    SHAPE,
    UPDATE,
    VECTOR_ARGUMENTS,
    VECTORS,
    WITH_OUT,
    Given,
)
from oracle import Array

# The data of each function by position, and what it is given by keyword.
POSITIONAL = dict(
    zip(
        FUNCTIONS,
        (
            ("x", "weight", "bias"),
            ("x", "running_mean", "running_var", "weight", "bias"),
            ("dy", "x", "saved", "weight"),
            ("dy", "x", "running_mean", "running_var", "weight", "bias"),
            ("x",),
            ("running_mean", "running_var", "stats"),
            ("y", "mean", "var", "weight", "bias"),
        ),
        strict=True,
    )
)
KEYWORDS = dict(
    zip(
        FUNCTIONS, (("running_mean", "running_var", "out"), ("out",), ("out",), ("out",), (), (), ("out",)), strict=True
    )
)


def good() -> Given:
    """Arguments that are right, by name. All arrays are their own."""
    rng = np.random.default_rng(0)
    x, dy, y, out = rng.uniform(0.5, 2, size=(4, *SHAPE))
    named = dict(
        zip(("weight", "bias", "running_mean", "running_var", "mean", "var"), rng.uniform(0.5, 2, (6, 3)), strict=True)
    )
    named = {name: array.copy() for name, array in {**named, "x": x, "dy": dy, "y": y, "out": out}.items()}
    saved = bn.SavedStatistics(x.mean((0, 2)), 1 / x.std((0, 2)), 20, eps=0.0)
    return {**named, "saved": saved, "stats": bn.channel_stats(x)}


def call(function: str, given: Given) -> None:
    by_keyword = {name: value for name, value in given.items() if name not in POSITIONAL[function]}
    getattr(bn, function)(*(given[name] for name in POSITIONAL[function]), **by_keyword)


def content(value: Any) -> Any:
    """The bytes of an array, and of the memory that it is a view of."""
    if isinstance(value, bn.SavedStatistics):
        return [a.tobytes() for a in (value.mean, value.rstd, value.var, value.count)]
    if isinstance(value, bn.ChannelStats):
        return [a.tobytes() for a in (value.count, value.mean, value.m2)]
    if isinstance(value, np.ndarray):
        owner = value.base if isinstance(value.base, np.ndarray) else value
        return [value.tobytes(), owner.tobytes(), value.shape, value.strides, value.dtype, value.flags.writeable]
    return repr(value)


class Case(NamedTuple):
    function: str
    argument: str
    change: Callable[[Given], Given]
    error: type[Exception]
    message: str


def main_of(function: str) -> str:
    return "y" if function == DENORMALIZE else "x"


def one_element_apart(a: Array) -> tuple[Array, Array]:
    memory = np.append(a.ravel(), 1.0)
    return memory[:-1].reshape(a.shape), memory[1:].reshape(a.shape)


def replaced(function: str, argument: str, name: str, make: Callable[[Any], Any], *due: Any) -> tuple[str, Case]:
    return f"{function}-{argument}-{name}", Case(function, argument, lambda g: {argument: make(g[argument])}, *due)


def overlaps(function: str, argument: str, name: str, change: Callable[[Given], Given]) -> tuple[str, Case]:
    message = f"expected memory apart from {argument}, got an array that overlaps {argument}"
    return f"{function}-out-{name} {argument}", Case(function, "out", change, ValueError, message)


def overlaps_vector(function: str, argument: str) -> tuple[str, Case]:
    return overlaps(function, argument, "contains", lambda g: {argument: g["out"][1, :, 2]})


def overlaps_data(function: str, argument: str) -> Iterator[tuple[str, Case]]:
    yield overlaps(
        function, argument, "beside", lambda g: dict(zip((argument, "out"), one_element_apart(g["x"]), strict=True))
    )
    yield overlaps(function, argument, "reverse of", lambda g: {argument: g["out"][..., ::-1]})


def every_case() -> Iterator[tuple[str, Case]]:
    for function in FUNCTIONS:
        if function != UPDATE:
            for name, row in DATA.items():
                yield replaced(function, main_of(function), name, *row)
        for argument, (name, row) in itertools.product(VECTOR_ARGUMENTS[function], VECTORS.items()):
            yield replaced(function, argument, name, *row)
    for function in WITH_OUT:
        for name, row in OUT.items():
            yield replaced(function, "out", name, *row)
        for argument in VECTOR_ARGUMENTS[function]:
            yield overlaps_vector(function, argument)
        yield from overlaps_data(function, "dy" if function in BACKWARDS else main_of(function))
    for functions, argument, value, error, message in OPTIONS:
        for function in functions:
            change = {argument: value}
            yield f"{function}-{argument}={value}", Case(function, argument, lambda g, c=change: c, error, message)  # type: ignore[misc]
    for i, (functions, argument, make, error, message) in enumerate(OTHERS):
        for function in functions:
            yield f"{function}-{argument}-other{i}", Case(function, argument, make, error, message)


CASES = dict(every_case())


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_bad_input(case: Case) -> None:
    arguments = good()
    names = {*POSITIONAL[case.function], *KEYWORDS[case.function]}
    given = {name: value for name, value in arguments.items() if name in names} | case.change(arguments)
    before = {name: content(value) for name, value in given.items()}
    with pytest.raises(case.error, match=f"^{case.argument}.*: {case.message}") as raised:
        call(case.function, given)
    assert type(raised.value) is case.error
    assert {name: content(value) for name, value in given.items()} == before


@pytest.mark.parametrize("function", FUNCTIONS)
def test_good_input_is_good(function: str) -> None:
    """Or the tests above would prove nothing."""
    names = {*POSITIONAL[function], *KEYWORDS[function]}
    call(function, {name: value for name, value in good().items() if name in names})


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_unknown_keyword(function: str) -> None:
    names = {*POSITIONAL[function], *KEYWORDS[function]}
    with pytest.raises(TypeError, match="nonsense"):
        call(function, {**{name: value for name, value in good().items() if name in names}, "nonsense": 1})


def test_a_ragged_list() -> None:
    with pytest.raises(TypeError, match=r"^x: expected an array, got list .*inhomogeneous"):
        bn.channel_stats([[1.0], [1.0, 2.0]])


class _BadIndex:
    def __index__(self) -> int:
        raise RuntimeError("no")


def test_an_index_that_raises() -> None:
    x, out = np.ones((4, 3)), np.zeros((4, 3))
    with pytest.raises(TypeError, match=r"^axis: expected an int, got _BadIndex$"):
        bn.batch_norm_train(x, axis=_BadIndex(), out=out)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^num_threads: expected a positive int or None, got _BadIndex$"):
        bn.batch_norm_train(x, num_threads=_BadIndex(), out=out)  # type: ignore[arg-type]
    assert not out.any()


def test_running_statistics_that_overlap_themselves() -> None:
    one = np.lib.stride_tricks.as_strided(np.zeros(1), (3,), (0,))
    with pytest.raises(ValueError, match=r"^running_mean: expected a place of its own for every channel, got strides"):
        bn.batch_norm_train(np.ones((4, 3)), running_mean=one, running_var=np.ones(3))
