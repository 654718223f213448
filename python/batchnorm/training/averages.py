"""Moving averages of parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from ._checks import FloatArray, as_flag, as_fraction, as_parameters
from ._state import Stateful


class ExponentialMovingAverage(Stateful):
    """An exponential moving average of parameters, to evaluate with.

    Parameters
    ----------
    parameters : mapping of str to ndarray, float32 or float64
        Live arrays. The average is that of what they hold at each `update`.
    decay : float, default 0.9
        Weight b of the old average, 0 <= b < 1.
    bias_correction : bool, default False
        Whether the average starts at nothing and is divided by ``1 - b**t``, instead of at the first values.

    Attributes
    ----------
    decay : float
    bias_correction : bool
    updates : int
        Number t of updates.

    Raises
    ------
    TypeError, ValueError
        A parameter is not a writeable float array, or `decay` is not from 0 to below 1.

    Notes
    -----
    Polyak & Juditsky (1992) average the iterates evenly; the exponential form, with the correction of Kingma & Ba
    (2015), section 3, is::

        average = b * average + (1 - b) * parameter

    Statistics of batch normalization have a moving average of their own, in `batch_norm_train`. Pass a layer's
    ``running_mean`` and ``running_var`` along with its weights if what is evaluated should be an average as well.

    Examples
    --------
    >>> import numpy as np
    >>> from batchnorm.training import ExponentialMovingAverage
    >>> parameters = {"w": np.array([0.0])}
    >>> average = ExponentialMovingAverage(parameters)
    >>> parameters["w"] += 10
    >>> average.update()
    >>> with average.swapped():
    ...     parameters["w"].round(6).tolist()
    [1.0]
    >>> parameters["w"].tolist()
    [10.0]
    """

    def __init__(
        self, parameters: Mapping[str, FloatArray], decay: float = 0.9, *, bias_correction: bool = False
    ) -> None:
        self._parameters = as_parameters("parameters", parameters)
        self.decay = as_fraction("decay", decay)
        self.bias_correction = as_flag("bias_correction", bias_correction)
        start = np.zeros_like if self.bias_correction else np.copy
        # In float64: a decay near 1 would be lost in a float32 average.
        self._averages = {name: start(a).astype(np.float64) for name, a in self._parameters.items()}
        self.updates = 0
        self._swapped: dict[str, FloatArray] | None = None

    def update(self) -> None:
        """Take the parameters' values into the average.

        Raises
        ------
        RuntimeError
            The averages are swapped in.
        """
        if self._swapped is not None:
            raise RuntimeError("update: expected the parameters' own values, got the averages, which are swapped in")
        self.updates += 1
        for name, average in self._averages.items():
            average *= self.decay
            average += (1 - self.decay) * self._parameters[name]

    def averages(self) -> dict[str, FloatArray]:
        """Return the averages, corrected where that was asked for.

        Returns
        -------
        dict of str to ndarray
            New arrays in the parameters' dtypes.

        Raises
        ------
        RuntimeError
            With `bias_correction`, before the first update.
        """
        share = 1.0
        if self.bias_correction:
            if self.updates == 0:
                raise RuntimeError("averages: expected an update first, for the correction divides by 1 - decay**0")
            share = 1 - self.decay**self.updates
        return {name: (a / share).astype(self._parameters[name].dtype) for name, a in self._averages.items()}

    def swap_in(self) -> None:
        """Write the averages to the parameters, and keep what these held for `swap_out`.

        Raises
        ------
        RuntimeError
            They are swapped in already, or there is no average yet.
        ValueError
            A parameter is read-only.
        """
        if self._swapped is not None:
            raise RuntimeError("swap_in: expected the parameters' own values, got the averages, which are swapped in")
        averages = self.averages()
        as_parameters("parameters", self._parameters)
        self._swapped = {name: a.copy() for name, a in self._parameters.items()}
        self._write(averages)

    def swap_out(self) -> None:
        """Give the parameters back what they held before `swap_in`.

        Raises
        ------
        RuntimeError
            The averages are not swapped in.
        """
        if self._swapped is None:
            raise RuntimeError("swap_out: expected the averages to be swapped in, got the parameters' own values")
        self._write(self._swapped)
        self._swapped = None

    def _write(self, values: dict[str, FloatArray]) -> None:
        for name, parameter in self._parameters.items():
            parameter[...] = values[name]

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Swap the averages in for a block of code, and out after it, also after an error.

        Yields
        ------
        None
        """
        self.swap_in()
        try:
            yield
        finally:
            self.swap_out()

    def _get_state(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"updates": np.asarray(self.updates), **{f"averages/{name}": a for name, a in self._averages.items()}}

    def _check_state(self, state: dict[str, np.ndarray[Any, Any]]) -> None:
        if state["updates"] < 0:
            raise ValueError(f"updates: expected an integer >= 0, got {state['updates']}")

    def _set_state(self, state: dict[str, np.ndarray[Any, Any]]) -> None:
        self.updates = state["updates"].item()
        for name, average in self._averages.items():
            average[...] = state[f"averages/{name}"]
