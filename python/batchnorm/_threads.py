"""How many threads a call uses: its own ``num_threads=``, else the context's, else the setting, else OpenMP's."""

from __future__ import annotations

import operator
from contextvars import ContextVar
from typing import TypeAlias

from . import _core

_Outer: TypeAlias = "tuple[int | None, _Outer] | None"

_context: ContextVar[int | None] = ContextVar("batchnorm_num_threads", default=None)
# What to go back to lives in the context and not in the manager: one manager may be entered again, by several threads
# too.
_outer: ContextVar[_Outer] = ContextVar("batchnorm_outer_num_threads", default=None)

context_num_threads = _context.get


class num_threads:
    """Context manager: calls inside use `n` threads, unless they are given ``num_threads=`` themselves.

    It holds for this thread or asynchronous task only (see `contextvars`); it may be nested, and entered again.

    Parameters
    ----------
    n : int
        Number of threads, at least 1.

    Raises
    ------
    TypeError
        `n` is not an int (a bool is none).
    ValueError
        `n` is not positive.

    Examples
    --------
    >>> import batchnorm as bn
    >>> with bn.num_threads(2):
    ...     bn.get_num_threads()
    2
    """

    __slots__ = ("_n",)

    def __init__(self, n: int) -> None:
        _core.check_num_threads(n)
        self._n = operator.index(n)

    def __enter__(self) -> None:
        _outer.set((_context.get(), _outer.get()))
        _context.set(self._n)

    def __exit__(self, *exception: object) -> None:
        outer = _outer.get()
        if outer is not None:  # it is None in a generator that is closed in another context than it ran in
            _context.set(outer[0])
            _outer.set(outer[1])

    def __repr__(self) -> str:
        return f"num_threads({self._n})"


def set_num_threads(n: int | None) -> None:
    """Set the number of threads for the whole process.

    Parameters
    ----------
    n : int or None
        Number of threads, at least 1. None goes back to OpenMP's own default at each call, so that ``OMP_NUM_THREADS``,
        CPU affinity and threadpoolctl keep their meaning.

    Raises
    ------
    TypeError
        `n` is not an int (a bool is none) and not None.
    ValueError
        `n` is not positive.

    See Also
    --------
    num_threads : the same for one block of code.

    Notes
    -----
    The number of threads never changes a result: not one bit.

    Examples
    --------
    >>> import batchnorm as bn
    >>> bn.set_num_threads(1)
    >>> bn.get_num_threads()
    1
    >>> bn.set_num_threads(None)
    """
    _core.set_num_threads(n)


def get_num_threads() -> int:
    """Return the number of threads that a call made here and now would use at most.

    Returns
    -------
    int
        The context's (`num_threads`), else the setting (`set_num_threads`), else OpenMP's default.

    Notes
    -----
    A small array is handled by fewer threads, or by one.

    Examples
    --------
    >>> import batchnorm as bn
    >>> bn.get_num_threads() >= 1
    True
    """
    return _core.get_num_threads(_context.get())
